import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { clearsCookie, clearsSiteCookies } from "../../../plugins/connection-close-on-logout/cleared.ts";

const NOW = Date.parse("Wed, 05 Mar 2025 12:00:00 GMT");
const NAMES = new Set(["session", "__Host-id"]);

function clears(...lines: string[]): boolean {
  return clearsCookie(lines, NAMES, NOW);
}

describe("Clear-Site-Data", () => {
  it("takes cookies away when it says cookies or everything", () => {
    for (const value of ['"cookies"', '"*"', '"cache", "cookies", "storage"', ' "cache" ,"cookies"', "cookies", "*"]) {
      assert.ok(clearsSiteCookies([value]), value);
    }
    assert.ok(clearsSiteCookies(['"cache"', '"cookies"']));
  });

  it("leaves them otherwise", () => {
    for (const value of ['"cache"', '"storage", "executionContexts"', '"Cookies"', '"cookies-not"', "", ","]) {
      assert.ok(!clearsSiteCookies([value]), value);
    }
    assert.ok(!clearsSiteCookies([]));
  });
});

describe("Set-Cookie", () => {
  it("clears a cookie by age, by date, or by an empty value", () => {
    for (const line of [
      "session=x; Max-Age=0",
      "session=x; Path=/; max-age=0; HttpOnly",
      "session=x; MAX-AGE = -1 ",
      "session=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
      "session=x; expires=Thu, 01-Jan-1970 00:00:01 GMT; Path=/",
      "session=x; Expires=Wed, 05 Mar 2025 12:00:00 GMT",
      "session=; Path=/",
      'session=""; Path=/',
      "session=",
      " session = ; Path=/",
      "__Host-id=deleted; Max-Age=0; Secure; Path=/",
      "session=x; Max-Age=60; Max-Age=0",
      "session=x; Expires=Wed, 05 Mar 2025 13:00:00 GMT; Max-Age=0",
    ]) {
      assert.ok(clears(line), line);
    }
  });

  it("leaves a cookie that lives on, and other cookies", () => {
    for (const line of [
      "session=x",
      "session=x; Max-Age=3600",
      "session=x; Expires=Wed, 05 Mar 2025 12:00:01 GMT",
      "session=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=3600",
      "session=x; Max-Age=0; Max-Age=60",
      "session=x; Max-Age=soon",
      "session=x; Max-Age=0x0",
      "session=x; Max-Age=",
      "session=x; Expires=never",
      "session=x; Max-Age",
      "Session=; Max-Age=0",
      "sessions=; Max-Age=0",
      "theme=; Max-Age=0",
      "session; Max-Age=0",
      "=session; Max-Age=0",
      "",
    ]) {
      assert.ok(!clears(line), line);
    }
    assert.ok(!clears());
  });

  it("takes a cookie that is cleared and set anew for one that lives on, in either order", () => {
    assert.ok(!clears("session=; Max-Age=0; Path=/old", "session=new; Path=/"));
    assert.ok(!clears("session=new; Path=/", "session=; Max-Age=0; Path=/old"));
    assert.ok(clears("session=new", "__Host-id=; Max-Age=0"));
    assert.ok(clears("session=; Max-Age=0; Path=/a", "session=; Max-Age=0; Path=/b"));
  });

  it("reads any line without fault, and never finds a name that is not listed", () => {
    fc.assert(fc.property(fc.array(fc.string()), (lines) => !clearsCookie(lines, new Set(), NOW)));
    fc.assert(
      fc.property(fc.array(fc.string()), (lines) => {
        const others = lines.map((line) => `other${line}`);
        return !clears(...others) && clears(...others, "session=; Max-Age=0");
      }),
    );
  });
});
