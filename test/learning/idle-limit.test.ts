import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  FORGET_AFTER_MS,
  type IdleEvidence,
  type IdleVerdict,
  judgeIdle,
  NO_IDLE_EVIDENCE,
  withClose,
  withOpen,
} from "../../src/learning/idle-limit.ts";
import { Random } from "../proxy/wire/random.ts";

/** Closes at these idle ages, a minute apart, each seen within a thousandth of its age. */
function closedAt(...agesMs: number[]): IdleEvidence {
  return agesMs.reduce(
    (evidence, ageMs, at) =>
      withClose(evidence, { openMs: ageMs * 0.999, closedMs: ageMs * 1.001, atMs: (at + 1) * 60_000 }),
    NO_IDLE_EVIDENCE,
  );
}

/** Just after the last of so many closes. */
function verdict(evidence: IdleEvidence, closes: number, provenMs = 0): IdleVerdict {
  return judgeIdle(evidence, closes * 60_000 + 1, provenMs);
}

const limit = fc.double({ min: 50, max: 120_000, noNaN: true });
const part = fc.double({ min: 0, max: 1, noNaN: true });

describe("idle limit", () => {
  it("is unknown without closes", () => {
    const { limit: sure, suspicion, tellingMs } = judgeIdle(NO_IDLE_EVIDENCE, 0, 0);
    assert.deepEqual([sure, suspicion, tellingMs], [undefined, undefined, Number.POSITIVE_INFINITY]);
  });

  it("is suspected after one close and sure after two that agree", () => {
    const one = verdict(closedAt(5000), 1);
    assert.equal(one.limit, undefined);
    assert.ok(one.suspicion!.limitMs > 4000 && one.suspicion!.limitMs < 5000);
    const two = verdict(closedAt(5000, 5010), 2);
    assert.ok(two.limit!.limitMs > 4000 && two.limit!.limitMs < 5000);
    assert.ok(two.limit!.confidence > one.suspicion!.confidence);
  });

  it("is within 2 % or 20 ms after three closes, and never above, for a peer that keeps to its time", () => {
    fc.assert(
      fc.property(limit, fc.array(part, { minLength: 3, maxLength: 12 }), (trueMs, lateness) => {
        let evidence = NO_IDLE_EVIDENCE;
        for (const [at, late] of lateness.entries()) {
          // Seen up to a fifth of a millisecond late, and known to be at most half of one late.
          const closedMs = trueMs + late / 5;
          evidence = withClose(evidence, { openMs: closedMs - 0.5, closedMs, atMs: (at + 1) * 60_000 });
        }
        const { limitMs } = verdict(evidence, lateness.length).limit!;
        assert.ok(limitMs <= trueMs, `${limitMs} is above ${trueMs}`);
        assert.ok(limitMs >= Math.min(trueMs * 0.98, trueMs - 20), `${limitMs} is too far below ${trueMs}`);
      }),
    );
  });

  it("is never above the time of a peer that keeps to it, however late closes are seen", () => {
    const seen = fc.record({ early: fc.double({ min: 0, max: 100, noNaN: true }), late: part });
    fc.assert(
      fc.property(limit, fc.array(seen, { minLength: 2, maxLength: 24 }), (trueMs, closes) => {
        let evidence = NO_IDLE_EVIDENCE;
        for (const [at, { early, late }] of closes.entries()) {
          const [openMs, closedMs] = [Math.max(0, trueMs - early), trueMs + (late * trueMs) / 10];
          // What is closed is seen so at once.
          fc.pre(openMs >= 0.75 * closedMs);
          evidence = withClose(evidence, { openMs, closedMs, atMs: (at + 1) * 60_000 });
          const { limit: sure, suspicion } = verdict(evidence, at + 1);
          for (const known of [sure, suspicion]) assert.ok((known?.limitMs ?? 0) <= trueMs);
        }
      }),
    );
  });

  it("is as close after three closes of which one was seen late", () => {
    const late = fc.double({ min: 0, max: 12, noNaN: true });
    fc.assert(
      fc.property(
        fc.double({ min: 150, max: 120_000, noNaN: true }),
        late,
        late,
        fc.nat(2),
        (trueMs, before, after, which) => {
          let evidence = NO_IDLE_EVIDENCE;
          for (let at = 0; at < 3; at++) {
            const close = { openMs: trueMs - 0.4, closedMs: trueMs + 0.4, atMs: (at + 1) * 60_000 };
            const seenLate = { ...close, openMs: trueMs - before, closedMs: trueMs + after };
            evidence = withClose(evidence, at === which ? seenLate : close);
          }
          const { limitMs } = verdict(evidence, 3).limit!;
          assert.ok(limitMs <= trueMs && limitMs >= Math.min(0.98 * trueMs, trueMs - 20), `${limitMs} for ${trueMs}`);
        },
      ),
    );
  });

  it("is not above the smallest time of a peer that varies it by any part up to 10 % either way", () => {
    const closes = fc.integer({ min: 4, max: 40 });
    fc.assert(
      fc.property(
        limit,
        fc.double({ min: 0.005, max: 0.1, noNaN: true }),
        closes,
        fc.nat(),
        (meanMs, by, count, seed) => {
          // Evenly spread, as what is shrunk would not be.
          const random = new Random(seed);
          const draws = Array.from({ length: count }, () => random.below(1 << 24) / (1 << 24));
          const known = verdict(closedAt(...draws.map((draw) => meanMs * (1 - by + 2 * by * draw))), count).limit!;
          assert.ok(known.limitMs <= meanMs * (1 - by) * 1.001, `${known.limitMs} is above ${meanMs * (1 - by)}`);
          assert.ok(known.limitMs >= 0.73 * meanMs);
        },
      ),
      { numRuns: 1000, seed: 1 },
    );
  });

  it("comes close to the smallest time of a peer that varies it by little", () => {
    fc.assert(
      fc.property(fc.double({ min: 1000, max: 120_000, noNaN: true }), fc.nat(), (meanMs, seed) => {
        const random = new Random(seed);
        const ages = Array.from({ length: 16 }, () => meanMs * (0.99 + 0.02 * (random.below(1 << 24) / (1 << 24))));
        const { limitMs } = verdict(closedAt(...ages), 16).limit!;
        assert.ok(limitMs >= 0.96 * meanMs, `${limitMs} is far below ${meanMs}`);
      }),
      { seed: 1 },
    );
  });

  it("comes closer to the smallest time when a connection was seen open for longer", () => {
    const evidence = closedAt(9200, 9500, 9900);
    const { limitMs } = verdict(evidence, 3).limit!;
    const closer = verdict(evidence, 3, 10_900).limit!.limitMs;
    assert.ok(closer > limitMs && closer <= 9000);
  });

  it("is the smallest of several", () => {
    const { limitMs } = verdict(closedAt(60_000, 5000, 60_000, 5000, 60_000, 5000), 6).limit!;
    assert.ok(limitMs > 4900 && limitMs <= 5000);
  });

  it("is not learned from a restart, however many connections that closes", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 1000, max: 50_000, noNaN: true }), { minLength: 12, maxLength: 60 }),
        (ages) => {
          const apart = ages
            .toSorted((one, other) => one - other)
            .filter((age, at, all) => at === 0 || age > all[at - 1]! * 1.3);
          fc.pre(apart.length >= 4);
          let evidence = NO_IDLE_EVIDENCE;
          for (const [at, ageMs] of ages.entries()) {
            evidence = withClose(evidence, { openMs: ageMs - 1, closedMs: ageMs, atMs: 60_000 + at });
          }
          assert.equal(judgeIdle(evidence, 61_000, 0).limit, undefined);
        },
      ),
    );
  });

  it("is not learned from one instant, at which all connections had been idle for the same time", () => {
    let evidence = NO_IDLE_EVIDENCE;
    for (let at = 0; at < 40; at++) evidence = withClose(evidence, { openMs: 8000, closedMs: 8001, atMs: 60_000 + at });
    assert.equal(judgeIdle(evidence, 61_000, 0).limit, undefined);
  });

  it("is not learned from closes right after a response", () => {
    assert.deepEqual(closedAt(1, 1, 1, 5, 5, 5), NO_IDLE_EVIDENCE);
  });

  it("is no longer suspected after one close when a connection outlives it", () => {
    const evidence = withOpen(closedAt(5000), 10_000, 61_000);
    assert.equal(verdict(evidence, 1).suspicion, undefined);
  });

  it("is given up when connections outlive it, and holds again with the next close", () => {
    let evidence = closedAt(5000, 5000, 5000, 5000);
    let outlived = 0;
    while (verdict(evidence, 4).limit !== undefined) {
      evidence = withOpen(evidence, 10_000, 241_000 + 1000 * outlived);
      assert.ok(++outlived <= 25);
    }
    assert.ok(outlived >= 10);
    evidence = withClose(evidence, { openMs: 4999, closedMs: 5000, atMs: 300_000 });
    assert.ok(verdict(evidence, 5).limit!.limitMs <= 5000);
  });

  it("is not given up because many connections outlive it at one instant", () => {
    let evidence = closedAt(5000, 5000, 5000, 5000);
    for (let at = 0; at < 200; at++) evidence = withOpen(evidence, 10_000, 241_000 + at);
    assert.ok(verdict(evidence, 4).limit !== undefined);
  });

  it("takes more to be given up where connections have outlived it before", () => {
    const patience = (evidence: IdleEvidence): number => {
      let count = 0;
      for (let told = evidence; judgeIdle(told, 700_000, 0).limit !== undefined; count++) {
        told = withOpen(told, 10_000, 700_000 + 1000 * count);
      }
      return count;
    };
    const alone = closedAt(5000, 5000, 5000, 5000, 5000, 5000);
    let mixed = NO_IDLE_EVIDENCE;
    for (let at = 1; at <= 6; at++) {
      mixed = withOpen(mixed, 10_000, at * 60_000 - 2000);
      mixed = withOpen(mixed, 10_000, at * 60_000 - 1000);
      mixed = withClose(mixed, { openMs: 4999, closedMs: 5000, atMs: at * 60_000 });
    }
    assert.ok(patience(mixed) > 2 * patience(alone));
  });

  it("is doubtful after half a day and forgotten after a week, unless it is confirmed", () => {
    const evidence = closedAt(5000, 5000, 5000);
    const later = judgeIdle(evidence, 13 * 3_600_000, 0);
    assert.equal(later.limit, undefined);
    assert.ok(later.suspicion!.limitMs <= 5000);
    const confirmed = withClose(evidence, { openMs: 4999, closedMs: 5000, atMs: 13 * 3_600_000 });
    assert.ok(judgeIdle(confirmed, 13 * 3_600_000 + 1, 0).limit!.limitMs <= 5000);
    assert.equal(judgeIdle(evidence, FORGET_AFTER_MS + 181_000, 0).suspicion, undefined);
  });

  it("stays within bounds and survives JSON, whatever is told", () => {
    const told = fc.oneof(
      fc.record({ open: fc.constant(true), ageMs: fc.double({ min: 0, max: 1e6, noNaN: true }), width: part }),
      fc.record({ open: fc.constant(false), ageMs: fc.double({ min: 0, max: 1e6, noNaN: true }), width: part }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(told, fc.nat(100_000)), { maxLength: 120 }), (events) => {
        let evidence = NO_IDLE_EVIDENCE;
        let nowMs = 0;
        for (const [{ open, ageMs, width }, passedMs] of events) {
          nowMs += passedMs;
          evidence = open
            ? withOpen(evidence, ageMs, nowMs)
            : withClose(evidence, { openMs: ageMs * width, closedMs: ageMs, atMs: nowMs });
        }
        const { limit: sure, suspicion } = judgeIdle(evidence, nowMs, 0);
        for (const estimate of [sure, suspicion]) {
          if (estimate === undefined) continue;
          assert.ok(estimate.limitMs > 0 && estimate.limitMs <= 1e6);
          assert.ok(estimate.confidence > 0 && estimate.confidence <= 1);
        }
        if (sure !== undefined) assert.ok(suspicion!.limitMs <= sure.limitMs);
        assert.ok(JSON.stringify(evidence).length < 20_000);
        assert.deepEqual(JSON.parse(JSON.stringify(evidence)), JSON.parse(JSON.stringify({ ...evidence })));
      }),
    );
  });
});
