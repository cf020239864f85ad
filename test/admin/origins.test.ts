import assert from "node:assert/strict";
import test from "node:test";
import type { OriginView } from "../../src/admin/view.ts";
import { LearnedOrigin } from "../../src/learning/origin.ts";
import { PoolDemand } from "../../src/learning/pool-size.ts";
import { startHarness } from "./harness.ts";

function origin(learned: LearnedOrigin): OriginView {
  return {
    direction: "outbound",
    origin: { scheme: "http", host: "Inventory.internal", port: 8081 },
    backend: undefined,
    reuse: "always",
    maxConnections: 10,
    maxIdle: 10,
    maxQueue: 10,
    queueTimeoutMs: 1000,
    canaries: 1,
    autoIdle: undefined,
    connections: 3,
    idle: 2,
    queued: 0,
    watched: 1,
    open: new Set(),
    learned,
    idleKept: Number.POSITIVE_INFINITY,
    advice: undefined,
  };
}

test("an origin of which nothing is known says so", async (t) => {
  const { call, sidecar } = await startHarness(t);
  sidecar.openOrigins = [origin(new LearnedOrigin(0))];
  const [shown] = (await call("GET", "/origins")).json.origins;
  assert.deepEqual(shown, {
    direction: "outbound",
    origin: "http://inventory.internal:8081",
    backend: null,
    pool: { connections: 3, idle: 2, watched: 1, queued: 0 },
    idleLimit: null,
    learned: { idle: null, requests: null, age: null, openAtMs: 0 },
    roundTripMs: 0,
    addresses: [],
    poolSize: { idleKept: "off", advice: null },
  });
});

test("how many connections to keep is shown as measured", async (t) => {
  const { call, sidecar } = await startHarness(t);
  const demand = new PoolDemand(0);
  demand.opened(3);
  for (let atMs = 0; atMs < 100_000; atMs += 100) {
    demand.begin(atMs, 60_000);
    demand.end(atMs + 20, true);
  }
  sidecar.openOrigins = [{ ...origin(new LearnedOrigin(0)), idleKept: 5, advice: demand.advice(100_000) }];
  const [shown] = (await call("GET", "/origins")).json.origins;
  assert.deepEqual(shown.poolSize, {
    idleKept: 5,
    advice: {
      enough: 1,
      reusedShare: 0.999,
      handshakesPerSecond: 0.01,
      arrivalsPerSecond: 10,
      exchangeMs: 20,
      meanBusy: 0.2,
      peakBusy: 1,
      unavoidableShare: 0.001,
      setupMs: 3,
      oneMore: { bytesHere: 8192, bytesThere: 15_360, savesHandshakesPerSecond: 0, savesMsPerSecond: 0 },
    },
  });
});

test("what was learned is shown for the origin and for the address it was learned from", async (t) => {
  const { call, sidecar } = await startHarness(t);
  const learned = new LearnedOrigin(0);
  const peer = learned.opened("10.0.0.9", 0.4, 0);
  learned.opened("10.0.0.10", 0.4, 0);
  for (let at = 1; at <= 4; at++) peer.closed({ openMs: 5000, closedMs: 5000.4, atMs: at * 60_000 });
  for (let at = 1; at <= 3; at++) {
    peer.ended({ exchanges: 100, ageMs: at * 1000, idleMs: 0, announced: true, atMs: at * 60_000 });
  }
  sidecar.openOrigins = [origin(learned)];
  const [shown] = (await call("GET", "/origins")).json.origins;
  const { timeoutMs } = shown.learned.idle;
  assert.ok(timeoutMs > 4900 && timeoutMs <= 5000);
  assert.equal(shown.learned.idle.closes, 4);
  assert.ok(shown.learned.idle.leaveAfterMs < timeoutMs - 99);
  assert.ok(shown.learned.idle.confidence > 0.9);
  assert.deepEqual(shown.learned.requests, { max: 100, announced: true });
  assert.ok(shown.roundTripMs > 0.3);
  assert.deepEqual(
    shown.addresses.map((one: { address: string; idle: { timeoutMs: number }; requests: object | null }) => [
      one.address,
      one.idle.timeoutMs,
      one.requests?.constructor.name ?? null,
    ]),
    [
      ["10.0.0.9", timeoutMs, "Object"],
      ["10.0.0.10", timeoutMs, null],
    ],
    "the other address takes the limit from the whole until it shows its own",
  );
});
