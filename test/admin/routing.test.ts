import assert from "node:assert/strict";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { startAdmin } from "../../src/admin/http.ts";
import { HoldfastError } from "../../src/errors.ts";
import { MemorySidecar, startHarness } from "./harness.ts";

test("an unknown path is 404 and names the routes", async (t) => {
  const { call } = await startHarness(t);
  for (const path of ["/", "/nope", "/backends/", "/backends/a/b", "/healthz/", "/healthz//", "//healthz"]) {
    const reply = await call("GET", path);
    assert.equal(reply.status, 404, path);
    assert.ok(reply.json.error.allowed.includes("/backends/{name}"));
  }
});

test("a method that a path does not take is 405 with Allow", async (t) => {
  const { call, sidecar } = await startHarness(t);
  for (const [method, path, allow] of [
    ["POST", "/healthz", "GET, HEAD"],
    ["DELETE", "/log-level", "GET, HEAD, PUT"],
    ["GET", "/drain", "POST"],
    ["HEAD", "/drain", "POST"],
    ["OPTIONS", "/backends/inventory", "GET, HEAD, PUT"],
  ] as const) {
    const reply = await call(method, path);
    assert.equal(reply.status, 405, `${method} ${path}`);
    assert.equal(reply.headers.allow, allow);
    if (method !== "HEAD") assert.deepEqual(reply.json.error.allowed, allow.split(", "));
  }
  assert.equal(sidecar.drains, 0);
});

test("HEAD answers as GET does, without a body", async (t) => {
  const { call } = await startHarness(t);
  for (const path of [
    "/healthz",
    "/readyz",
    "/config",
    "/plugins",
    "/connections",
    "/log-level",
    "/backends/inventory",
  ]) {
    const get = await call("GET", path);
    const head = await call("HEAD", path);
    assert.equal(head.status, get.status, path);
    assert.equal(head.headers["content-type"], get.headers["content-type"]);
    assert.equal(head.headers["content-length"], String(Buffer.byteLength(get.text)));
    assert.equal(head.text, "");
  }
});

test("answers are not cached, not sniffed and not readable across origins", async (t) => {
  const { call } = await startHarness(t);
  const { headers } = await call("GET", "/config", { headers: { origin: "http://evil.example" } });
  assert.equal(headers["cache-control"], "no-store");
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.deepEqual(
    Object.keys(headers).filter((name) => name.startsWith("access-control")),
    [],
  );
});

test("a head above 16 KiB is 431", async (t) => {
  const { call } = await startHarness(t);
  assert.equal((await call("GET", "/healthz", { headers: { "x-big": "x".repeat(17 * 1024) } })).status, 431);
});

test("a head or a body that does not arrive in time is 408", async (t) => {
  const { address } = await startHarness(t, { timeouts: { headMs: 50, requestMs: 100, answerMs: 1000 } });
  const body =
    "PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
  for (const bytes of ["GET /healthz HT", body]) {
    const socket = connect(address.port, address.host);
    socket.write(bytes);
    assert.match(await text(socket), /^HTTP\/1\.1 408 /);
  }
});

test("a second admin API on the same address is refused with the address and what to do", async (t) => {
  const { address } = await startHarness(t);
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  await assert.rejects(startAdmin({ view: new MemorySidecar(), listen: address, log }), (error) => {
    assert.ok(error instanceof HoldfastError);
    assert.equal(error.code, "HF_CONFIG");
    assert.match(
      error.message,
      new RegExp(`^admin\\.listen: cannot listen on 127\\.0\\.0\\.1:${address.port} \\(EADDRINUSE\\)`),
    );
    return true;
  });
});

test("close() ends idle connections, and may be called twice", async (t) => {
  const { address, close } = await startHarness(t);
  const socket = connect(address.port, address.host);
  socket.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const received = text(socket);
  await new Promise((resolve) => socket.once("data", resolve));
  await close();
  await close();
  assert.match(await received, /"status": "ok"/);
});
