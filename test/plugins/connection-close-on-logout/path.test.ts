import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { compilePath, type PathMatch, pathSegments } from "../../../plugins/connection-close-on-logout/path.ts";

function matches(path: string, how: PathMatch, target: string): boolean {
  return compilePath(path, how)(pathSegments(target));
}

/** What the documentation says of a pattern, without regard to time. */
function reference(pattern: readonly string[], segments: readonly string[]): boolean {
  const [part, ...rest] = pattern;
  if (part === undefined) return segments.length === 0;
  if (part === "**") return segments.some((_, at) => reference(rest, segments.slice(at))) || reference(rest, []);
  return segments.length > 0 && (part === "*" || part === segments[0]) && reference(rest, segments.slice(1));
}

describe("path of a logout rule", () => {
  it("is compared without query, parameters, doubled and trailing slashes, after decoding and dot segments", () => {
    for (const target of [
      "/auth/logout",
      "/auth/logout?next=/home",
      "/auth/logout?/login",
      "/auth/logout/",
      "//auth///logout",
      "/auth/logout;jsessionid=A1B2",
      "/auth;v=1/logout;a;b",
      "/auth/log%6Fut",
      "/%61uth/%6c%6F%67%6f%75%74",
      "/auth/./logout",
      "/auth/login/../logout",
      "/auth/login/%2e%2E/logout",
      "/../auth/logout",
    ]) {
      assert.ok(matches("/auth/logout", "exact", target), target);
    }
    for (const target of [
      "/",
      "/auth",
      "/logout",
      "/auth/logout/all",
      "/Auth/Logout",
      "/auth/logouts",
      "/auth%2Flogout",
      "/auth/logout%3Bx",
      "/auth/logout%3Fx",
      "/auth/log%256Fut",
      "/auth/logout%",
      "/auth/logout%ff",
      "*",
    ]) {
      assert.ok(!matches("/auth/logout", "exact", target), target);
    }
  });

  it("compares what cannot be decoded as it stands", () => {
    assert.ok(matches("/logout%ff", "exact", "/logout%ff"));
    assert.ok(!matches("/logout%ff", "exact", "/logout%FE"));
  });

  it("takes any percent-encoding of the same path for the same", () => {
    const segment = fc.string({ minLength: 1, maxLength: 8 }).filter((text) => !/^\.{1,2}$/.test(text));
    const encoded = fc.array(fc.boolean(), { minLength: 64, maxLength: 64 });
    fc.assert(
      fc.property(fc.array(segment, { maxLength: 5 }), encoded, (segments, choices) => {
        let at = 0;
        const target = segments
          .map((text) =>
            [...Buffer.from(text)]
              .map((byte) => {
                const plain = /[A-Za-z0-9_~-]/.test(String.fromCharCode(byte)) && choices[at++ % choices.length];
                return plain ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, "0")}`;
              })
              .join(""),
          )
          .join("/");
        assert.deepEqual(pathSegments(`/${target}`), segments);
      }),
    );
  });

  it("as a prefix ends at a segment", () => {
    for (const target of ["/auth", "/auth/", "/auth/logout", "/auth/a/b/c"]) {
      assert.ok(matches("/auth", "prefix", target), target);
      assert.ok(matches("/auth/", "prefix", target), target);
    }
    for (const target of ["/authors", "/", "/x/auth"]) assert.ok(!matches("/auth", "prefix", target), target);
    assert.ok(matches("/", "prefix", "/anything"));
  });

  it("as a pattern has stars for one segment and for any number", () => {
    const table: [string, string[], string[]][] = [
      ["/tenants/*/logout", ["/tenants/7/logout"], ["/tenants/logout", "/tenants/7/8/logout", "/tenants/7/logout/x"]],
      ["/**/logout", ["/logout", "/a/logout", "/a/b/logout", "/logout/logout"], ["/logout/a", "/", "/alogout"]],
      ["/auth/**", ["/auth", "/auth/a/b"], ["/authors", "/"]],
      ["/**", ["/", "/a", "/a/b"], []],
      ["/a/**/b/*/c", ["/a/b/x/c", "/a/1/2/b/x/c", "/a/b/b/x/c"], ["/a/b/c", "/a/b/x/y/c"]],
      ["/files/%2A", ["/files/*", "/files/%2a"], ["/files/x"]],
    ];
    for (const [pattern, yes, no] of table) {
      for (const target of yes) assert.ok(matches(pattern, "pattern", target), `${pattern} takes ${target}`);
      for (const target of no) assert.ok(!matches(pattern, "pattern", target), `${pattern} leaves ${target}`);
    }
  });

  it("as a pattern means what it says, for every pattern and path", () => {
    const pattern = fc.array(fc.constantFrom("a", "b", "*", "**"), { maxLength: 7 });
    const path = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 7 });
    fc.assert(
      fc.property(pattern, path, (parts, segments) => {
        assert.equal(compilePath(`/${parts.join("/")}`, "pattern")(segments), reference(parts, segments));
      }),
      { numRuns: 2000 },
    );
  });

  it("as a pattern of many stars ends, on a path made to make it try again and again", () => {
    const pattern = `${"/**/a".repeat(30)}/b`;
    assert.ok(!matches(pattern, "pattern", "/a".repeat(5000)));
    assert.ok(matches(pattern, "pattern", `${"/a".repeat(5000)}/b`));
  });

  it("is refused where it could never match or would surprise", () => {
    for (const how of ["exact", "prefix", "pattern"] as const) {
      assert.throws(() => compilePath("logout", how), /begin with/);
      assert.throws(() => compilePath("/logout?all=1", how), /query/);
    }
    assert.throws(() => compilePath("/*/logout", "exact"), /set pathMatch to "pattern"/);
    assert.throws(() => compilePath("/auth/*", "prefix"), /set pathMatch to "pattern"/);
    for (const path of ["/log*", "/***", "/a/../b", "/./a"]) {
      assert.throws(() => compilePath(path, "pattern"), TypeError, path);
    }
  });
});
