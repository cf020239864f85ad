import assert from "node:assert/strict";
import { test } from "node:test";
import { startHarness } from "./harness.ts";

test("/healthz is 200 in every state", async (t) => {
  const { sidecar, call } = await startHarness(t);
  for (const state of ["starting", "running", "draining", "stopped"] as const) {
    sidecar.state = state;
    const reply = await call("GET", "/healthz");
    assert.equal(reply.status, 200, state);
    assert.deepEqual(reply.json, { status: "ok" });
  }
});

test("/readyz is 200 only while running", async (t) => {
  const { sidecar, call } = await startHarness(t);
  for (const [state, status] of [
    ["starting", 503],
    ["running", 200],
    ["draining", 503],
    ["stopped", 503],
  ] as const) {
    sidecar.state = state;
    const reply = await call("GET", "/readyz");
    assert.equal(reply.status, status, state);
    assert.deepEqual(reply.json, { ready: status === 200, state });
  }
});

test("/metrics passes text and content type on", async (t) => {
  const { sidecar, call } = await startHarness(t);
  const contentType = "text/plain; version=0.0.4; charset=utf-8";
  sidecar.metrics = async () => ({ contentType, body: "# TYPE up gauge\nup 1\n" });
  const reply = await call("GET", "/metrics");
  assert.equal(reply.status, 200);
  assert.equal(reply.headers["content-type"], contentType);
  assert.equal(reply.text, "# TYPE up gauge\nup 1\n");
});

test("/metrics is 404 with the reason when metrics are off", async (t) => {
  const { call } = await startHarness(t);
  const reply = await call("GET", "/metrics");
  assert.equal(reply.status, 404);
  assert.match(reply.json.error.message, /telemetry\.metrics\.prometheus/);
});

test("a route that fails is 500 without its reason, which is logged", async (t) => {
  const { sidecar, call, lines } = await startHarness(t);
  const error = new Error("secret detail");
  sidecar.metrics = () => Promise.reject(error);
  const reply = await call("GET", "/metrics");
  assert.equal(reply.status, 500);
  assert.doesNotMatch(reply.text, /secret detail/);
  assert.deepEqual(
    lines.map(({ level, fields }) => [level, (fields as { err: unknown }).err]),
    [["error", error]],
  );
});

test("a route that never answers is 503", async (t) => {
  const { sidecar, call } = await startHarness(t, { timeouts: { headMs: 5000, requestMs: 5000, answerMs: 20 } });
  sidecar.metrics = () => new Promise(() => {});
  const reply = await call("GET", "/metrics");
  assert.equal(reply.status, 503);
  assert.match(reply.json.error.message, /\/metrics did not answer within 20 ms/);
});
