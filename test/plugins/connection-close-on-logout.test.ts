import assert from "node:assert/strict";
import { describe, it } from "node:test";
import connectionCloseOnLogout from "../../plugins/connection-close-on-logout.ts";
import type { HeaderField } from "../../src/plugin/api.ts";
import {
  configFaults,
  connectionFacts,
  exchangeFacts,
  requestHead,
  responseHead,
  type Started,
  start,
  upstreamFacts,
} from "./facts.ts";

interface Carried {
  readonly method?: string;
  readonly target?: string;
  readonly status?: number;
  readonly fields?: readonly HeaderField[];
}

/** Carries one exchange; tells why each of its connections closes after it. */
function carry(started: Started, { method = "GET", target = "/", status = 200, fields = [] }: Carried) {
  const downstream = connectionFacts();
  const upstream = upstreamFacts();
  const exchange = exchangeFacts({ downstream, request: requestHead(method, target) });
  const hooks = started.begin(exchange);
  started.takeUpstream(exchange, upstream);
  hooks.response?.(responseHead(status, fields));
  return [downstream.closeReason, upstream.closeReason];
}

const CLOSED = ["logout", "logout"];
const KEPT = [undefined, undefined];
const POST_LOGOUT = { match: [{ method: "POST", path: "/logout" }] };

describe("connection-close-on-logout", () => {
  it("closes both connections after a response to a matching request", async () => {
    const started = await start(connectionCloseOnLogout, POST_LOGOUT);
    assert.deepEqual(carry(started, { method: "POST", target: "/logout?next=/" }), CLOSED);
    assert.deepEqual(carry(started, { method: "POST", target: "/logout", status: 302 }), CLOSED);
    assert.deepEqual(carry(started, { method: "GET", target: "/logout" }), KEPT);
    assert.deepEqual(carry(started, { method: "POST", target: "/login" }), KEPT);
  });

  it("by default takes success and redirection for a logout, not refusal or failure", async () => {
    const started = await start(connectionCloseOnLogout, POST_LOGOUT);
    for (const status of [200, 204, 303, 399]) {
      assert.deepEqual(carry(started, { method: "POST", target: "/logout", status }), CLOSED, String(status));
    }
    for (const status of [401, 404, 500, 503]) {
      assert.deepEqual(carry(started, { method: "POST", target: "/logout", status }), KEPT, String(status));
    }
  });

  it("needs method, path and status of one and the same rule", async () => {
    const started = await start(connectionCloseOnLogout, {
      match: [
        { method: "DELETE", path: "/session", status: "204" },
        { path: "/auth", pathMatch: "prefix", status: "any" },
        { method: "POST", path: "/tenants/*/logout", pathMatch: "pattern" },
      ],
    });
    assert.deepEqual(carry(started, { method: "DELETE", target: "/session", status: 204 }), CLOSED);
    assert.deepEqual(carry(started, { method: "DELETE", target: "/session", status: 200 }), KEPT);
    assert.deepEqual(carry(started, { method: "POST", target: "/session", status: 204 }), KEPT);
    assert.deepEqual(carry(started, { method: "PUT", target: "/auth/out", status: 500 }), CLOSED);
    assert.deepEqual(carry(started, { method: "POST", target: "/tenants/7/logout" }), CLOSED);
    assert.deepEqual(carry(started, { method: "GET", target: "/tenants/7/logout" }), KEPT);
  });

  it("looks at the request as the upstream gets it", async () => {
    const started = await start(connectionCloseOnLogout, POST_LOGOUT);
    const downstream = connectionFacts();
    const exchange = exchangeFacts({ downstream, request: requestHead("POST", "/app/logout") });
    const hooks = started.begin(exchange);
    exchange.request.target = "/logout";
    hooks.response?.(responseHead());
    assert.equal(downstream.closeReason, "logout");
  });

  it("knows a logout by Clear-Site-Data, whatever the request, unless told not to", async () => {
    const logout = { fields: [["clear-site-data", '"cache", "cookies"']], status: 401 } as const;
    assert.deepEqual(carry(await start(connectionCloseOnLogout), logout), CLOSED);
    assert.deepEqual(
      carry(await start(connectionCloseOnLogout, { ...POST_LOGOUT, clearSiteData: false }), logout),
      KEPT,
    );
    const cache = { fields: [["Clear-Site-Data", '"cache"']] } as const;
    assert.deepEqual(carry(await start(connectionCloseOnLogout), cache), KEPT);
  });

  it("knows a logout by a session cookie that is cleared", async () => {
    const started = await start(connectionCloseOnLogout, { cookies: ["session"] });
    const theme: HeaderField = ["Set-Cookie", "theme=; Max-Age=0"];
    assert.deepEqual(carry(started, { fields: [theme, ["Set-Cookie", "session=; Max-Age=0; Path=/"]] }), CLOSED);
    assert.deepEqual(carry(started, { fields: [theme] }), KEPT);
    assert.deepEqual(carry(started, { fields: [theme, ["Set-Cookie", "session=abc; Path=/"]] }), KEPT);
    const expires = new Date(Date.now() - 1000).toUTCString();
    assert.deepEqual(carry(started, { fields: [["set-cookie", `session=x; Expires=${expires}`]] }), CLOSED);
  });

  it("closes the caller's connection also when no upstream answered", async () => {
    const started = await start(connectionCloseOnLogout, POST_LOGOUT);
    const downstream = connectionFacts();
    const exchange = exchangeFacts({ downstream, request: requestHead("POST", "/logout") });
    started.begin(exchange).response?.(responseHead(204));
    assert.equal(downstream.closeReason, "logout");
  });

  it("warns when nothing could ever tell a logout", async () => {
    const started = await start(connectionCloseOnLogout, { clearSiteData: false });
    assert.match(started.warnings.join(), /nothing tells a logout/);
    assert.equal(started.filter.exchange, undefined);
  });

  it("refuses rules that could never match, with their place", async () => {
    const refused: [object, RegExp][] = [
      [{ match: [{ method: "POST" }] }, /match\.0\.path: is missing/],
      [{ match: [{ path: "logout" }] }, /match\.0\.path.*begins with/],
      [{ match: [{ path: "/a" }, { path: "/b", method: "post" }] }, /match\.1\.method.*capitals/],
      [{ match: [{ path: "/a", method: "PO ST" }] }, /match\.0\.method/],
      [{ match: [{ path: "/a", status: "2x" }] }, /match\.0\.status.*"any"/],
      [{ match: [{ path: "/a", pathMatch: "regex" }] }, /match\.0\.pathMatch.*"prefix"/],
      [{ match: [{ path: "/a", verb: "POST" }] }, /match\.0\.verb: unknown key/],
      [{ cookies: ["a b"] }, /cookies.*list of cookie names/],
      [{ cookies: "session" }, /cookies/],
    ];
    for (const [json, reason] of refused) assert.match(configFaults(connectionCloseOnLogout, json).join(), reason);
    await assert.rejects(
      start(connectionCloseOnLogout, { match: [{ path: "/a" }, { path: "/*/logout" }] }),
      /^TypeError: match\[1\]\.path: holds "\*": set pathMatch to "pattern"/,
    );
  });
});
