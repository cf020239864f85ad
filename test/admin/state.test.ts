import assert from "node:assert/strict";
import { test } from "node:test";
import { startHarness } from "./harness.ts";

test("/config shows each value with its source and variable, and no secret", async (t) => {
  const { call, sidecar } = await startHarness(t);
  sidecar.values = [
    { key: "service", value: "orders", source: "file", variable: undefined, secret: false },
    {
      key: "outbound.responseTimeout",
      value: Number.POSITIVE_INFINITY,
      source: "environment",
      variable: "HOLDFAST_X",
      secret: false,
    },
    { key: "telemetry.otlp.token", value: "hunter2", source: "environment", variable: "HOLDFAST_Y", secret: true },
  ];
  const reply = await call("GET", "/config");
  assert.doesNotMatch(reply.text, /hunter2/);
  assert.deepEqual(reply.json, {
    service: "orders",
    version: "0.1.0",
    values: [
      { key: "service", value: "orders", source: "file" },
      { key: "outbound.responseTimeout", value: "off", source: "environment", variable: "HOLDFAST_X" },
      { key: "telemetry.otlp.token", value: "***", source: "environment", variable: "HOLDFAST_Y" },
    ],
  });
});

test("/plugins lists plugins in their order with their configuration, and no secret", async (t) => {
  const { call, sidecar } = await startHarness(t);
  sidecar.plugins = [
    {
      name: "keep-alive",
      description: "HTTP keep-alive on both sides",
      use: "keep-alive",
      directions: ["inbound", "outbound"],
      onError: "continue",
      config: [{ key: "reuse", value: "safe", source: "file", variable: undefined, secret: false }],
    },
    {
      name: "own",
      description: "Ours",
      use: "./own.js",
      directions: ["inbound"],
      onError: "fail",
      config: [{ key: "token", value: "hunter2", source: "file", variable: undefined, secret: true }],
    },
  ];
  const reply = await call("GET", "/plugins");
  assert.doesNotMatch(reply.text, /hunter2/);
  assert.deepEqual(reply.json.plugins, [
    {
      name: "keep-alive",
      description: "HTTP keep-alive on both sides",
      use: "keep-alive",
      directions: ["inbound", "outbound"],
      onError: "continue",
      config: [{ key: "reuse", value: "safe", source: "file" }],
    },
    {
      name: "own",
      description: "Ours",
      use: "./own.js",
      directions: ["inbound"],
      onError: "fail",
      config: [{ key: "token", value: "***", source: "file" }],
    },
  ]);
});

test("/log-level reads and changes the level, and logs the change", async (t) => {
  const { call, sidecar, lines } = await startHarness(t);
  assert.deepEqual((await call("GET", "/log-level")).json, { level: "info" });
  const reply = await call("PUT", "/log-level", { json: { level: "debug" } });
  assert.equal(reply.status, 200);
  assert.deepEqual(reply.json, { level: "debug" });
  assert.equal(sidecar.logLevel, "debug");
  assert.deepEqual(
    lines.map(({ fields }) => fields),
    [{ before: "info", level: "debug" }],
  );
});

test("/log-level refuses what is not a level and stays", async (t) => {
  const { call, sidecar } = await startHarness(t);
  for (const [json, field] of [
    [{ level: "verbose" }, "level"],
    [{ level: 30 }, "level"],
    [{ level: null }, "level"],
    [{}, "level"],
    [{ level: "debug", lvl: "debug" }, "lvl"],
  ] as const) {
    const reply = await call("PUT", "/log-level", { json });
    assert.equal(reply.status, 400, JSON.stringify(json));
    assert.equal(reply.json.error.field, field);
    assert.ok(reply.json.error.allowed.length > 0);
  }
  assert.equal(sidecar.logLevel, "info");
});

test("POST /drain answers at once, again and again", async (t) => {
  const { call, sidecar, lines } = await startHarness(t);
  for (let time = 0; time < 3; time++) {
    const reply = await call("POST", "/drain");
    assert.equal(reply.status, 202);
    assert.deepEqual(reply.json, { draining: true });
  }
  assert.equal(sidecar.state, "draining");
  assert.equal((await call("GET", "/readyz")).status, 503);
  assert.equal((await call("GET", "/healthz")).status, 200);
  assert.equal(lines.length, 1);
});

test("a drain that fails is logged; the admin API goes on", async (t) => {
  const { call, sidecar, lines } = await startHarness(t);
  sidecar.drained = () => Promise.reject(new Error("stuck"));
  assert.equal((await call("POST", "/drain")).status, 202);
  assert.equal((await call("GET", "/healthz")).status, 200);
  assert.deepEqual(
    lines.map(({ level, message }) => [level, message]),
    [
      ["info", "admin: drain requested"],
      ["error", "admin: drain failed"],
    ],
  );
});
