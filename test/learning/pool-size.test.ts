import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HALF_LIFE_MS, type PoolAdvice, PoolDemand } from "../../src/learning/pool-size.ts";
import { type Arrival, arrivals, PlainPool, play, randomFrom, TRAFFIC, type TrafficKind } from "./traffic.ts";

const IDLE_LIMIT_MS = 55_000;

function watched(exchanges: readonly Arrival[]): PoolAdvice {
  const demand = new PoolDemand(0);
  let lastMs = 0;
  play(
    exchanges,
    (nowMs) => demand.begin(nowMs, IDLE_LIMIT_MS),
    (nowMs) => {
      demand.end(nowMs, true);
      lastMs = nowMs;
    },
  );
  return demand.advice(lastMs)!;
}

function reusedShare(exchanges: readonly Arrival[], kept: number): number {
  const pool = new PlainPool(kept);
  play(
    exchanges,
    (nowMs) => pool.begin(nowMs, IDLE_LIMIT_MS),
    (nowMs) => pool.end(nowMs, true),
  );
  return pool.reusedShare;
}

test("for every number of kept connections it says exactly what a pool of that size would have done", () => {
  const step = fc.record({
    // Exchanges end and begin in any order, some connections cannot be kept, and time passes beyond the idle limit.
    kind: fc.constantFrom("begin", "begin", "end", "end", "end for good" as const),
    afterMs: fc.constantFrom(0, 1, 7, 40),
  });
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1, maxLength: 300 }),
      fc.constantFrom(10, 45, 100, 1e9),
      (steps, limitMs) => {
        const demand = new PoolDemand(0);
        const pools = Array.from({ length: 40 }, (_, kept) => new PlainPool(kept));
        let nowMs = 0;
        let busy = 0;
        for (const { kind, afterMs } of steps) {
          nowMs += afterMs;
          if (kind === "begin") {
            busy++;
            demand.begin(nowMs, limitMs);
            for (const pool of pools) pool.begin(nowMs, limitMs);
          } else if (busy > 0) {
            busy--;
            demand.end(nowMs, kind === "end");
            for (const pool of pools) pool.end(nowMs, kind === "end");
          }
        }
        for (const [kept, pool] of pools.entries()) {
          if (pool.exchanges === 0) continue;
          const { reusedShare: share } = demand.cost(kept);
          assert.ok(Math.abs(share - pool.reusedShare) < 1e-9, `${kept} kept: ${share}, not ${pool.reusedShare}`);
        }
      },
    ),
    { seed: 20_261_120, numRuns: 300 },
  );
});

for (const kind of Object.keys(TRAFFIC) as TrafficKind[]) {
  test(`${kind}: what it calls enough is enough for traffic to come, and not much less is`, () => {
    for (const seed of [1, 2, 3, 5, 8]) {
      const random = randomFrom(seed);
      const { enough, oneLess, peakBusy, unavoidableShare } = watched(arrivals(kind, 20_000, random));
      const toCome = arrivals(kind, 50_000, random);
      const [suffices, half] = [reusedShare(toCome, enough.kept), reusedShare(toCome, enough.kept >> 1)];
      const what = `seed ${seed}: ${enough.kept} kept`;
      assert.ok(suffices >= 0.99, `${what}: ${suffices} of the exchanges to come get one of them`);
      assert.ok(half <= 0.985 && 1 - half > 3 * (1 - suffices), `${what}: half of them give ${half}`);
      assert.ok(enough.reusedShare >= 0.99 && enough.reusedShare > oneLess!.reusedShare, what);
      // Not simply the most that were ever in use at one time.
      assert.ok(enough.kept < peakBusy, `${what}, ${peakBusy} in use at most`);
      assert.ok(unavoidableShare < 0.005, what);
    }
  });
}

test("arrivals, time per exchange and connections in use fit together as Little's law says", () => {
  const advice = watched(arrivals("poisson", 50_000, randomFrom(4)));
  const about = (value: number, expected: number) => Math.abs(value / expected - 1) < 0.05;
  assert.ok(about(advice.arrivalsPerSecond, 100), `${advice.arrivalsPerSecond} a second`);
  assert.ok(about(advice.exchangeMs, 50), `${advice.exchangeMs} ms`);
  assert.ok(about(advice.meanBusy, 5), `${advice.meanBusy} in use`);
  assert.ok(about((advice.arrivalsPerSecond * advice.exchangeMs) / 1000, advice.meanBusy));
});

test("one exchange at a time needs one connection; the mean would say less", () => {
  const exchanges = Array.from({ length: 1000 }, (_, index) => ({ atMs: index * 100, holdMs: 1 }));
  const { enough, oneLess, oneMore, meanBusy } = watched(exchanges);
  assert.equal(enough.kept, 1);
  assert.ok(meanBusy < 0.02);
  assert.equal(oneLess?.reusedShare, 0);
  assert.equal(oneMore.handshakesPerSecond, enough.handshakesPerSecond);
});

test("connections that expire before they are needed are no reason to keep more", () => {
  const exchanges = Array.from({ length: 1000 }, (_, index) => ({ atMs: index * 2 * IDLE_LIMIT_MS, holdMs: 10 }));
  const { enough, unavoidableShare } = watched(exchanges);
  assert.equal(enough.kept, 0);
  assert.equal(unavoidableShare, 1);
});

test("says nothing before it has seen enough", () => {
  const demand = new PoolDemand(0);
  assert.equal(demand.advice(1000), undefined);
  for (let index = 0; index < 199; index++) {
    demand.begin(index, IDLE_LIMIT_MS);
    demand.end(index, true);
  }
  assert.equal(demand.advice(1000), undefined);
  demand.begin(200, IDLE_LIMIT_MS);
  demand.end(200, true);
  assert.equal(demand.advice(1000)?.enough.kept, 1);
});

test("what is long past no longer counts: the number follows traffic that becomes less", () => {
  const demand = new PoolDemand(0);
  let nowMs = 0;
  const round = (atOnce: number) => {
    for (let index = 0; index < atOnce; index++) demand.begin(nowMs, IDLE_LIMIT_MS);
    nowMs += 50;
    for (let index = 0; index < atOnce; index++) demand.end(nowMs, true);
    nowMs += 950;
    demand.sweep(nowMs);
  };
  for (let second = 0; second < 1800; second++) round(30);
  assert.deepEqual([demand.advice(nowMs)?.enough.kept, demand.advice(nowMs)?.peakBusy], [30, 30]);
  const changedAtMs = nowMs;
  while (nowMs - changedAtMs < 12 * HALF_LIFE_MS) round(3);
  assert.deepEqual([demand.advice(nowMs)?.enough.kept, demand.advice(nowMs)?.peakBusy], [3, 3]);
  assert.ok(Math.abs(demand.advice(nowMs)!.arrivalsPerSecond - 3) < 0.1);
});

test("the time to open a connection is a mean that follows", () => {
  const demand = new PoolDemand(0);
  for (let index = 0; index < 200; index++) {
    demand.begin(index, IDLE_LIMIT_MS);
    demand.end(index, true);
  }
  assert.equal(demand.advice(1000)?.setupMs, undefined);
  demand.opened(100);
  assert.equal(demand.advice(1000)?.setupMs, 100);
  for (let index = 0; index < 100; index++) demand.opened(20);
  assert.ok(Math.abs(demand.advice(1000)!.setupMs! - 20) < 0.1);
});
