import assert from "node:assert/strict";
import { test } from "node:test";
import type { Connection } from "../../src/plugin/api.ts";
import { startHarness } from "./harness.ts";

function connection(id: number, over: Partial<Connection> = {}): Connection {
  return {
    id,
    direction: "outbound",
    side: "upstream",
    state: "idle",
    protocol: "http/1.1",
    secure: false,
    localAddress: "127.0.0.1",
    localPort: 50_000 + id,
    remoteAddress: "10.0.0.9",
    remotePort: 8081,
    origin: { scheme: "http", host: "inventory.internal", port: 8081 },
    backend: { name: "inventory", idleTimeoutMs: undefined, tcpKeepAlive: {} },
    setup: {
      startedAtEpochMs: 0,
      dnsMs: undefined,
      connectMs: 1,
      tlsMs: undefined,
      tlsVersion: undefined,
      tlsResumed: undefined,
    },
    ageMs: 1234.6,
    idleMs: 200.2,
    exchanges: 12,
    activeExchanges: 0,
    bytesRead: 1000,
    bytesWritten: 2000,
    hint: { timeoutMs: 60_000, maxRequests: undefined },
    learned: undefined,
    idleLimitMs: 50_000,
    idleLimitSource: "hint",
    keepAlive: {
      enabled: true,
      idleTimeoutMs: 55_000,
      agreedTimeoutMs: 50_000,
      heedLearned: true,
      maxRequests: Number.POSITIVE_INFINITY,
      maxAgeMs: Number.POSITIVE_INFINITY,
      advertise: false,
    },
    tcpKeepAlive: { enable: true, timeMs: 30_000, intervalMs: 10_000, probes: 3 },
    requestTimeouts: { headMs: 60_000, requestMs: Number.POSITIVE_INFINITY },
    boundTo: undefined,
    closeReason: undefined,
    error: undefined,
    drain() {},
    ...over,
  };
}

function downstream(id: number, over: Partial<Connection> = {}): Connection {
  return connection(id, { side: "downstream", origin: undefined, backend: undefined, hint: undefined, ...over });
}

test("a connection is shown with all that is known of it", async (t) => {
  const { call, sidecar } = await startHarness(t);
  sidecar.open = [connection(7)];
  const reply = await call("GET", "/connections");
  assert.equal(reply.status, 200);
  assert.deepEqual(reply.json, {
    total: 1,
    next: null,
    connections: [
      {
        id: 7,
        direction: "outbound",
        side: "upstream",
        origin: "http://inventory.internal:8081",
        backend: "inventory",
        peer: { address: "10.0.0.9", port: 8081 },
        protocol: "http/1.1",
        secure: false,
        state: "idle",
        ageMs: 1235,
        idleMs: 200,
        requests: 12,
        reuse: 11,
        active: 0,
        bytes: { read: 1000, written: 2000 },
        hint: { timeoutMs: 60_000, maxRequests: null },
        keepAlive: {
          enabled: true,
          idleTimeoutMs: 50_000,
          idleTimeoutSource: "hint",
          maxRequests: "off",
          maxAgeMs: "off",
        },
        tcpKeepAlive: { enable: true, timeMs: 30_000, intervalMs: 10_000, probes: 3 },
        boundTo: null,
        closeReason: null,
      },
    ],
  });
});

test("a downstream connection that has carried nothing yet has no origin, no hint and no reuse", async (t) => {
  const { call, sidecar } = await startHarness(t);
  sidecar.open = [downstream(1, { exchanges: 0, tcpKeepAlive: undefined, state: "draining", closeReason: "drain" })];
  const [shown] = (await call("GET", "/connections")).json.connections;
  assert.deepEqual(
    [shown.origin, shown.backend, shown.hint, shown.tcpKeepAlive, shown.requests, shown.reuse, shown.closeReason],
    [null, null, null, null, 0, 0, "drain"],
  );
});

test("order is by id; limit and after page through it", async (t) => {
  const { call, sidecar } = await startHarness(t);
  sidecar.open = [5, 3, 9, 1, 7].map((id) => connection(id));
  const ids = async (query: string) => {
    const { json } = await call("GET", `/connections${query}`);
    return [json.connections.map(({ id }: { id: number }) => id), json.next, json.total];
  };
  assert.deepEqual(await ids(""), [[1, 3, 5, 7, 9], null, 5]);
  assert.deepEqual(await ids("?limit=2"), [[1, 3], 3, 5]);
  assert.deepEqual(await ids("?limit=2&after=3"), [[5, 7], 7, 5]);
  assert.deepEqual(await ids("?limit=2&after=7"), [[9], null, 5]);
  assert.deepEqual(await ids("?after=9"), [[], null, 5]);
});

test("filters narrow by direction, side, state and origin, together", async (t) => {
  const { call, sidecar } = await startHarness(t);
  sidecar.open = [
    downstream(1, { direction: "inbound", state: "active" }),
    connection(2, { direction: "inbound" }),
    downstream(3),
    connection(4),
    connection(5, { origin: { scheme: "https", host: "::1", port: 8443 }, state: "active" }),
  ];
  const ids = async (query: string) =>
    (await call("GET", `/connections?${query}`)).json.connections.map(({ id }: { id: number }) => id);
  assert.deepEqual(await ids("direction=inbound"), [1, 2]);
  assert.deepEqual(await ids("side=downstream"), [1, 3]);
  assert.deepEqual(await ids("state=active"), [1, 5]);
  assert.deepEqual(await ids("origin=http://Inventory.internal:8081"), [2, 4]);
  assert.deepEqual(await ids("origin=https%3A%2F%2F%5B%3A%3A1%5D%3A8443"), [5]);
  assert.deepEqual(await ids("direction=outbound&side=upstream&state=idle"), [4]);
  assert.deepEqual(await ids("origin=http://nobody:1"), []);
});

test("a parameter that is unknown or out of range is 400 and named", async (t) => {
  const { call } = await startHarness(t);
  for (const [query, field] of [
    ["sides=upstream", "sides"],
    ["side=server", "side"],
    ["state=", "state"],
    ["direction=Inbound", "direction"],
    ["limit=0", "limit"],
    ["limit=10001", "limit"],
    ["limit=1e3", "limit"],
    ["limit=", "limit"],
    ["after=-1", "after"],
  ] as const) {
    const reply = await call("GET", `/connections?${query}`);
    assert.equal(reply.status, 400, query);
    assert.equal(reply.json.error.field, field);
    assert.ok(reply.json.error.allowed.length > 0);
  }
});
