import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { Limits, OutboundConfig, RouteConfig } from "../../src/config/sidecar-config.ts";
import { Backends } from "../../src/proxy/backends.ts";
import { type CheckedHead, checkRequestHead } from "../../src/proxy/request-rules.ts";
import { inboundRouter, originName, outboundRouter } from "../../src/proxy/route.ts";

const LIMITS: Limits = { headBytes: 65_536, fields: 200, targetBytes: 16_384, replayBytes: 65_536, streams: 100 };

function head(method: string, target: string, host: string): CheckedHead {
  return checkRequestHead({ method, target, version: "1.1", fields: ["Host", host], secure: false }, LIMITS);
}

function route(host: string, upstreamPort: number, port?: number): RouteConfig {
  return {
    host,
    port,
    upstream: { origin: { scheme: "http", host: "127.0.0.1", port: upstreamPort }, backend: undefined, tls: undefined },
  };
}

function outbound(routes: RouteConfig[], unmatched: "pass" | "deny") {
  return outboundRouter({ routes, unmatched } as unknown as OutboundConfig, new Backends(new Map()));
}

test("the first route that matches wins, by name, by port and by wildcard", () => {
  const { route: find } = outbound(
    [route("a.internal", 1, 8080), route("a.internal", 2), route("*.internal", 3), route("internal", 4)],
    "deny",
  );
  const port = (host: string) => find(head("GET", "/", host)).origin.port;
  assert.equal(port("a.internal:8080"), 1);
  assert.equal(port("a.internal"), 2);
  assert.equal(port("A.Internal:80"), 2);
  assert.equal(port("b.internal"), 3);
  assert.equal(port("x.b.internal:99"), 3);
  assert.equal(port("internal"), 4);
  assert.throws(() => port(".internal"), { code: "HF_NO_ROUTE" });
  assert.throws(() => port("evil-internal"), { code: "HF_NO_ROUTE" });
  assert.throws(() => port("internal.evil"), { code: "HF_NO_ROUTE" });
});

test("without ports and wildcards, names are found the same way", () => {
  const { route: find } = outbound([route("a", 1), route("b", 2), route("a", 3)], "deny");
  assert.equal(find(head("GET", "/", "A:1234")).origin.port, 1);
  assert.equal(find(head("GET", "/", "b")).origin.port, 2);
  assert.throws(() => find(head("GET", "/", "c")), { code: "HF_NO_ROUTE", status: 403 });
});

test("unmatched: pass goes to what the request names", () => {
  const { route: find } = outbound([], "pass");
  const origin = (method: string, target: string, host: string) => find(head(method, target, host)).origin;
  assert.deepEqual(origin("GET", "/", "Example.COM"), { scheme: "http", host: "example.com", port: 80 });
  assert.deepEqual(origin("GET", "/", "h:8080"), { scheme: "http", host: "h", port: 8080 });
  assert.deepEqual(origin("GET", "/", "h:"), { scheme: "http", host: "h", port: 80 });
  assert.deepEqual(origin("GET", "https://h/x", "h"), { scheme: "https", host: "h", port: 443 });
  assert.deepEqual(origin("GET", "/", "[::1]:99"), { scheme: "http", host: "::1", port: 99 });
  assert.deepEqual(origin("GET", "/", "[::1]"), { scheme: "http", host: "::1", port: 80 });
  assert.deepEqual(origin("CONNECT", "h:443", "h:443"), { scheme: "http", host: "h", port: 443 });
});

test("absolute-form beats Host, for routes too", () => {
  const { route: find } = outbound([route("a", 1), route("b", 2)], "deny");
  assert.equal(find(head("GET", "http://a/x", "b")).origin.port, 1);
});

test("a request that names no host has nowhere to go", () => {
  const { route: find } = outbound([], "pass");
  assert.throws(() => find(head("GET", "/", "")), { code: "HF_BAD_HOST" });
});

test("inbound goes to the one upstream, and CONNECT nowhere", () => {
  const backends = new Backends(new Map());
  const router = inboundRouter(route("x", 7).upstream, backends);
  const one = router.route(head("GET", "/", "anything"));
  assert.equal(one.name, "http://127.0.0.1:7");
  assert.equal(router.route(head("GET", "http://other/", "other")), one);
  assert.throws(() => router.route(head("CONNECT", "h:1", "h:1")), { code: "HF_METHOD_NOT_ALLOWED", status: 405 });
});

test("originName and what a request names are each other's inverse", () => {
  const { route: find } = outbound([], "pass");
  const hosts = fc.oneof(
    fc.domain(),
    fc.ipV4(),
    fc.ipV6().filter((address) => !address.includes("%")),
  );
  fc.assert(
    fc.property(
      hosts,
      fc.integer({ min: 1, max: 65_535 }),
      fc.constantFrom("http" as const, "https" as const),
      (host, port, scheme) => {
        const name = originName({ scheme, host, port });
        const found = find(head("GET", `${name}/x`, "ignored")).origin;
        assert.equal(originName(found), name.toLowerCase());
      },
    ),
  );
});
