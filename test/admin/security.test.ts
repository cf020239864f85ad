import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { test } from "node:test";
import { assertLocal, assertSameOrigin } from "../../src/admin/guard.ts";
import { AdminError } from "../../src/admin/route.ts";
import type { HostPort } from "../../src/config/sidecar-config.ts";
import { send, startHarness } from "./harness.ts";

const CLOSED = [
  "/metrics",
  "/config",
  "/plugins",
  "/connections",
  "/log-level",
  "/backends",
  "/backends/inventory",
  "/nope",
];
const OPEN = ["/healthz", "/readyz"];

test("a Host that is not this machine's is refused, but for probes", async (t) => {
  const { call, sidecar } = await startHarness(t);
  const headers = { host: "evil.example:15000" };
  for (const path of CLOSED) {
    const reply = await call("GET", path, { headers });
    assert.equal(reply.status, 403, path);
    assert.equal(reply.json.error.field, "Host");
  }
  for (const path of OPEN) assert.equal((await call("GET", path, { headers })).status, 200, path);
  assert.equal((await call("POST", "/drain", { headers })).status, 403);
  assert.equal(sidecar.drains, 0);
});

test("which Hosts name this machine", () => {
  const good = ["localhost", "LOCALHOST:15000", "127.0.0.1", "127.0.0.1:15000", "127.9.9.9:1", "[::1]:15000", "[::1]"];
  for (const host of [...good, "admin.internal:15000"]) assertLocal("127.0.0.1", host, "admin.internal");
  const bad = [
    undefined,
    "",
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil@127.0.0.1",
    "127.0.0.1/",
    "10.0.0.7:15000",
    "[fe80::1]",
    "other.internal",
    "local host",
    "127.0.0.1:notaport",
  ];
  for (const host of bad) {
    assert.throws(() => assertLocal("127.0.0.1", host, "admin.internal"), AdminError, String(host));
  }
});

test("which peers are this machine", () => {
  for (const peer of ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"]) assertLocal(peer, "localhost", "0.0.0.0");
  for (const peer of ["", "10.0.0.7", "::ffff:10.0.0.7", "fe80::1", "128.0.0.1"]) {
    assert.throws(() => assertLocal(peer, "localhost", "0.0.0.0"), AdminError, peer);
  }
});

test("a change from a page of another origin is refused", async (t) => {
  const { call, sidecar, address } = await startHarness(t);
  const own = `${address.host}:${address.port}`;
  for (const headers of [
    { origin: "http://evil.example" },
    { origin: "null" },
    { origin: `https://${own}` },
    { origin: `http://${address.host}:1` },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
  ]) {
    assert.equal((await call("POST", "/drain", { headers })).status, 403, JSON.stringify(headers));
    assert.equal((await call("PUT", "/log-level", { headers, json: { level: "debug" } })).status, 403);
  }
  assert.equal(sidecar.drains, 0);
  assert.equal(sidecar.logLevel, "info");
  const headers = { origin: `http://${own}`, "sec-fetch-site": "same-origin" };
  assert.equal((await call("PUT", "/log-level", { headers, json: { level: "debug" } })).status, 200);
  assert.equal(sidecar.logLevel, "debug");
});

test("a page of the same origin may change, whatever the case of its name", () => {
  assertSameOrigin("PUT", {
    host: "LocalHost:15000",
    origin: "http://localhost:15000",
    "sec-fetch-site": "same-origin",
  });
  assertSameOrigin("PUT", { host: "localhost:15000" });
});

const outside = Object.values(networkInterfaces())
  .flat()
  .find((address) => address !== undefined && !address.internal && address.family === "IPv4")?.address;

test("another machine gets probes alone, by any Host", {
  skip: outside === undefined && "this machine has no address but loopback",
}, async (t) => {
  const { address, sidecar } = await startHarness(t, { listen: { host: "0.0.0.0", port: 0 } });
  const far = { host: outside ?? "", port: address.port };
  for (const path of OPEN) assert.equal((await send(far, "GET", path)).status, 200, path);
  for (const headers of [undefined, { host: "localhost" }]) {
    for (const path of CLOSED) {
      const reply = await send(far, "GET", path, headers && { headers });
      assert.equal(reply.status, 403, path);
      assert.match(reply.json.error.message, /call this route from the machine itself/);
    }
    assert.equal((await send(far, "POST", "/drain", headers && { headers })).status, 403);
  }
  assert.equal(sidecar.drains, 0);
  const near: HostPort = { host: "127.0.0.1", port: address.port };
  assert.equal((await send(near, "GET", "/config")).status, 200);
});

test("a page of another origin may not read either; a link that somebody follows is no such page", async (t) => {
  const { call } = await startHarness(t);
  const site = "cross-site";
  for (const headers of [
    { "sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script" },
    { "sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe" },
    { "sec-fetch-site": site },
    { origin: "http://evil.example" },
  ]) {
    assert.equal((await call("GET", "/config", { headers })).status, 403, JSON.stringify(headers));
  }
  const link = { "sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  const reply = await call("GET", "/config", { headers: link });
  assert.equal(reply.status, 200);
  assert.equal(reply.headers["x-frame-options"], "DENY");
  assert.equal(reply.headers["cross-origin-resource-policy"], "same-origin");
  assert.equal(reply.headers["access-control-allow-origin"], undefined);
  assert.equal((await call("POST", "/drain", { headers: link })).status, 403);
});

const TOKEN = "correct-horse-battery-staple";

test("with a token, every route but the probes asks for it, from this machine too", async (t) => {
  const { call, sidecar } = await startHarness(t, { token: TOKEN });
  const wrong = [
    undefined,
    "",
    "Bearer",
    "Bearer ",
    `Bearer ${TOKEN}x`,
    `Bearer ${TOKEN.slice(1)}`,
    `Bearer ${TOKEN.toUpperCase()}`,
    `Bearer ${TOKEN} ${TOKEN}`,
    `Basic ${TOKEN}`,
    TOKEN,
    `Bearer x, Bearer ${TOKEN}`,
  ];
  for (const authorization of wrong) {
    const headers = { host: "localhost", ...(authorization !== undefined && { authorization }) };
    for (const path of CLOSED) {
      const reply = await call("GET", path, { headers });
      assert.equal(reply.status, 401, `${path} ${authorization}`);
      assert.match(reply.headers["www-authenticate"] ?? "", /^Bearer /);
      assert.equal(reply.json.error.field, "Authorization");
    }
    assert.equal((await call("POST", "/drain", { headers })).status, 401);
    assert.equal((await call("PUT", "/log-level", { headers, json: { level: "debug" } })).status, 401);
    for (const path of OPEN) assert.equal((await call("GET", path, { headers })).status, 200);
  }
  assert.equal(sidecar.drains, 0);
  assert.equal(sidecar.logLevel, "info");
  for (const scheme of ["Bearer", "bearer", "BEARER "]) {
    const headers = { authorization: `${scheme} ${TOKEN}`, host: "pod.example:15000" };
    assert.equal((await call("GET", "/config", { headers })).status, 200, scheme);
  }
  const headers = { authorization: `Bearer ${TOKEN}` };
  assert.equal((await call("POST", "/drain", { headers })).status, 202);
  assert.equal(sidecar.drains, 1);
});

test("the token does not excuse a page of another origin", async (t) => {
  const { call, sidecar } = await startHarness(t, { token: TOKEN });
  const headers = { authorization: `Bearer ${TOKEN}`, origin: "http://evil.example" };
  assert.equal((await call("POST", "/drain", { headers })).status, 403);
  assert.equal(sidecar.drains, 0);
});

test("with the token, another machine may do what this one may", {
  skip: outside === undefined && "this machine has no address but loopback",
}, async (t) => {
  const { address } = await startHarness(t, { token: TOKEN, listen: { host: "0.0.0.0", port: 0 } });
  const far = { host: outside ?? "", port: address.port };
  assert.equal((await send(far, "GET", "/config")).status, 401);
  assert.equal((await send(far, "GET", "/config", { headers: { authorization: `Bearer ${TOKEN}` } })).status, 200);
});

test("the listener for probes has what tells how the process is, and nothing else", async (t) => {
  const { call, sidecar } = await startHarness(t, { serves: "probes" });
  sidecar.metrics = async () => ({ contentType: "text/plain", body: "up 1\n" });
  const headers = { host: "10.0.0.7:15020" };
  for (const path of [...OPEN, "/metrics"]) assert.equal((await call("GET", path, { headers })).status, 200, path);
  for (const path of CLOSED.filter((path) => path !== "/metrics")) {
    assert.equal((await call("GET", path, { headers })).status, 404, path);
    assert.equal((await call("GET", path)).status, 404, path);
  }
  assert.equal((await call("POST", "/drain")).status, 404);
  assert.equal((await call("PUT", "/log-level", { json: { level: "debug" } })).status, 404);
  assert.equal(sidecar.drains, 0);
});
