import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { test } from "node:test";
import { assertLocal, assertSameOrigin } from "../../src/admin/guard.ts";
import { AdminError } from "../../src/admin/route.ts";
import { send, startHarness } from "./harness.ts";

const CLOSED = ["/config", "/plugins", "/connections", "/log-level", "/backends", "/backends/inventory", "/nope"];
const OPEN = ["/healthz", "/readyz", "/metrics"];

test("a Host that is not this machine's is refused, but for probes and metrics", async (t) => {
  const { call, sidecar } = await startHarness(t);
  sidecar.metrics = async () => ({ contentType: "text/plain", body: "up 1\n" });
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
  assertSameOrigin({ host: "LocalHost:15000", origin: "http://localhost:15000", "sec-fetch-site": "same-origin" });
  assertSameOrigin({ host: "localhost:15000" });
});

const outside = Object.values(networkInterfaces())
  .flat()
  .find((address) => address !== undefined && !address.internal && address.family === "IPv4")?.address;

test("another machine gets probes and metrics alone, by any Host", {
  skip: outside === undefined && "this machine has no address but loopback",
}, async (t) => {
  const { address, sidecar } = await startHarness(t, { listen: { host: "0.0.0.0", port: 0 } });
  sidecar.metrics = async () => ({ contentType: "text/plain", body: "up 1\n" });
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
  const near = { host: "127.0.0.1", port: address.port };
  assert.equal((await send(near, "GET", "/config")).status, 200);
});
