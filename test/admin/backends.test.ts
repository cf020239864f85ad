import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseBackendBody } from "../../src/admin/backend-body.ts";
import { AdminError } from "../../src/admin/route.ts";
import type { Backend, Pool } from "../../src/plugin/api.ts";
import { type Call, startHarness } from "./harness.ts";

const BEFORE = {
  name: "inventory",
  address: "inventory.internal",
  port: 8081,
  use_ssl: false,
  keepalive_time: 55,
  tcp_keepalive_enable: null,
  tcp_keepalive_time: 30,
  tcp_keepalive_interval: null,
  tcp_keepalive_probes: null,
  pool: { connections: 0, idle: 0, queued: 0 },
};

function pool(backend: Backend | undefined, connections: number, idle: number, queued: number): Pool {
  const origin = { scheme: "http", host: "any.internal", port: 1 } as const;
  const limits = { maxConnections: 9, maxIdle: 9, maxQueue: 9, queueTimeoutMs: 9, canaries: 0, autoIdle: undefined };
  return { origin, backend, reuse: "always", ...limits, connections, idle, queued };
}

test("a backend is shown with Fastly's field names, null where the plugins decide", async (t) => {
  const { call } = await startHarness(t);
  assert.deepEqual((await call("GET", "/backends/inventory")).json, BEFORE);
  const odd = (await call("GET", "/backends/big%20%26%20odd%2Fname")).json;
  assert.deepEqual([odd.name, odd.address, odd.keepalive_time], ["big & odd/name", "::1", null]);
  const all = (await call("GET", "/backends")).json;
  assert.deepEqual(all, { backends: [BEFORE, odd] });
});

test("its pools in both directions are counted together, and no other's", async (t) => {
  const { call, sidecar } = await startHarness(t);
  const inventory = sidecar.backends.get("inventory");
  sidecar.openPools = [pool(inventory, 3, 2, 1), pool(inventory, 1, 0, 4), pool(undefined, 50, 50, 50)];
  assert.deepEqual((await call("GET", "/backends/inventory")).json.pool, { connections: 4, idle: 2, queued: 5 });
});

test("an unknown backend is 404 and names those there are", async (t) => {
  const { call } = await startHarness(t);
  for (const reply of [
    await call("GET", "/backends/nobody"),
    await call("PUT", "/backends/nobody", { json: {} }),
    await call("GET", "/backends/__proto__"),
  ]) {
    assert.equal(reply.status, 404);
    assert.deepEqual(reply.json.error.allowed, ["inventory", "big & odd/name"]);
  }
  assert.equal((await call("GET", "/backends/%ff")).status, 400);
});

test("PUT changes the live backend by the fields it names, tells listeners, and logs", async (t) => {
  const { call, sidecar, lines } = await startHarness(t);
  const live = sidecar.backends.get("inventory");
  assert.ok(live);
  const heard: Backend[] = [];
  sidecar.backends.subscribe((backend) => heard.push(backend));

  const change = { keepalive_time: 10, tcp_keepalive_enable: true, tcp_keepalive_interval: 5, tcp_keepalive_probes: 3 };
  const reply = await call("PUT", "/backends/inventory", { json: change });
  assert.equal(reply.status, 200);
  assert.deepEqual(reply.json, { ...BEFORE, ...change });
  assert.equal(live.idleTimeoutMs, 10_000);
  assert.deepEqual(live.tcpKeepAlive, { enable: true, timeMs: 30_000, intervalMs: 5000, probes: 3 });
  assert.deepEqual(heard, [live]);
  assert.deepEqual(lines.at(-1)?.fields, { backend: "inventory", change });

  const reset = await call("PUT", "/backends/inventory", { json: { keepalive_time: null, tcp_keepalive_time: null } });
  assert.deepEqual(
    [reset.json.keepalive_time, reset.json.tcp_keepalive_time, reset.json.tcp_keepalive_probes],
    [null, null, 3],
  );
  assert.equal(live.idleTimeoutMs, undefined);
  assert.equal(heard.length, 2);
});

test('keepalive_time takes fractions, 0 and "off"', async (t) => {
  const { call, sidecar } = await startHarness(t);
  for (const [value, ms] of [
    [1.5, 1500],
    [0, 0],
    ["off", Number.POSITIVE_INFINITY],
  ] as const) {
    const reply = await call("PUT", "/backends/inventory", { json: { keepalive_time: value } });
    assert.equal(reply.status, 200);
    assert.equal(reply.json.keepalive_time, value);
    assert.equal(sidecar.backends.get("inventory")?.idleTimeoutMs, ms);
  }
});

test("a body that is not valid is refused with its field, and nothing changes", async (t) => {
  const { call, sidecar } = await startHarness(t);
  let changes = 0;
  sidecar.backends.subscribe(() => changes++);
  const json = { "content-type": "application/json" };
  const cases: readonly [Call, number, string | null][] = [
    [{ json: { keepalive_time: "10" } }, 400, "keepalive_time"],
    [{ json: { keepalive_time: -1 } }, 400, "keepalive_time"],
    [{ json: { keepalive_time: 2_147_484 } }, 400, "keepalive_time"],
    [{ body: '{"keepalive_time":1e999}', headers: json }, 400, "keepalive_time"],
    [{ json: { tcp_keepalive_enable: 1 } }, 400, "tcp_keepalive_enable"],
    [{ json: { tcp_keepalive_time: 0 } }, 400, "tcp_keepalive_time"],
    [{ json: { tcp_keepalive_time: 32_768 } }, 400, "tcp_keepalive_time"],
    [{ json: { tcp_keepalive_interval: 1.5 } }, 400, "tcp_keepalive_interval"],
    [{ json: { tcp_keepalive_probes: 128 } }, 400, "tcp_keepalive_probes"],
    [{ json: { keepalive_time: 5, tcp_keepalive_probes: [] } }, 400, "tcp_keepalive_probes"],
    [{ json: { keepalive_time: 5, port: 80 } }, 400, "port"],
    [{ body: '{"__proto__":1}', headers: json }, 400, "__proto__"],
    [{ json: { keepalive_time: "x".repeat(500) } }, 400, "keepalive_time"],
    [{ json: [] }, 400, null],
    [{ json: null }, 400, null],
    [{ body: "{", headers: json }, 400, null],
    [{ body: "", headers: json }, 400, null],
    [{ body: Uint8Array.of(0x22, 0xff, 0x22), headers: json }, 400, null],
    [{ body: '{"keepalive_time":5}' }, 415, "Content-Type"],
    [{ body: '{"keepalive_time":5}', headers: { "content-type": "text/plain" } }, 415, "Content-Type"],
    [
      { body: "keepalive_time=5", headers: { "content-type": "application/x-www-form-urlencoded" } },
      415,
      "Content-Type",
    ],
    [
      { json: { keepalive_time: 5 }, headers: { "content-type": "application/json; charset=latin1" } },
      415,
      "Content-Type",
    ],
    [{ json: { keepalive_time: 5 }, headers: { "content-encoding": "gzip" } }, 415, "Content-Encoding"],
    [{ json: { keepalive_time: 5, pad: "x".repeat(64 * 1024) } }, 413, null],
    [{ json: "x".repeat(3 * 1024 * 1024) }, 413, null],
  ];
  for (const [request, status, field] of cases) {
    const reply = await call("PUT", "/backends/inventory", request);
    const what = reply.text.slice(0, 200);
    assert.equal(reply.status, status, what);
    assert.deepEqual(Object.keys(reply.json.error), ["field", "message", "allowed"]);
    assert.equal(reply.json.error.field, field, what);
    assert.ok(reply.json.error.message.length < 200, what);
  }
  assert.equal(changes, 0);
  assert.deepEqual((await call("GET", "/backends/inventory")).json, BEFORE);
});

test("a body of exactly 64 KiB is read; utf-8 may be named", async (t) => {
  const { call } = await startHarness(t);
  const body = '{"keepalive_time":5}'.padEnd(64 * 1024);
  const headers = { "content-type": 'application/json; charset="UTF-8"' };
  assert.equal((await call("PUT", "/backends/inventory", { body, headers })).status, 200);
  assert.equal((await call("PUT", "/backends/inventory", { body: `${body} `, headers })).status, 413);
});

test("whatever JSON comes, it is refused as AdminError 400 or becomes settings within the kernel's ranges", () => {
  const field = fc.constantFrom(
    "keepalive_time",
    "tcp_keepalive_enable",
    "tcp_keepalive_time",
    "tcp_keepalive_interval",
    "tcp_keepalive_probes",
    "weight",
  );
  const value = fc.oneof(
    fc.jsonValue(),
    fc.integer({ min: -2, max: 40_000 }),
    fc.double(),
    fc.constantFrom("off", null, true),
  );
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(field, value)), (body) => {
      try {
        const { idleTimeoutMs, tcpKeepAlive } = parseBackendBody(body);
        const { enable, timeMs, intervalMs, probes } = tcpKeepAlive ?? {};
        assert.ok(
          idleTimeoutMs == null || idleTimeoutMs === Number.POSITIVE_INFINITY || Number.isInteger(idleTimeoutMs),
        );
        assert.ok(idleTimeoutMs == null || idleTimeoutMs >= 0);
        assert.ok(enable == null || typeof enable === "boolean");
        for (const ms of [timeMs, intervalMs]) {
          assert.ok(ms == null || (ms % 1000 === 0 && ms >= 1000 && ms <= 32_767_000));
        }
        assert.ok(probes == null || (Number.isInteger(probes) && probes >= 1 && probes <= 127));
      } catch (error) {
        if (!(error instanceof AdminError)) throw error;
        assert.equal(error.status, 400);
      }
    }),
  );
});

test("a field that is given twice is refused by name, and nothing is changed", async (t) => {
  const { call } = await startHarness(t);
  const body = '{"keepalive_time": 30, "keepalive_time": 40}';
  const refused = await call("PUT", "/backends/inventory", { body, headers: { "content-type": "application/json" } });
  assert.equal(refused.status, 400);
  assert.deepEqual(refused.json, {
    error: { field: "keepalive_time", message: "the field is given twice", allowed: "each field once" },
  });
  assert.equal((await call("GET", "/backends/inventory")).json.keepalive_time, 55);
});
