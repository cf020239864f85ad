import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type CloseVerdict, judgeEnds, type PeerEnd, withEnd } from "../../src/learning/close-limits.ts";
import { FORGET_AFTER_MS } from "../../src/learning/idle-limit.ts";

function judge(...ends: Partial<PeerEnd>[]): CloseVerdict {
  let told: readonly PeerEnd[] = [];
  for (const [at, end] of ends.entries()) {
    const whole = { exchanges: at + 3, ageMs: 1000 * 2 ** at, idleMs: 0, announced: true, atMs: at * 1000, ...end };
    told = withEnd(told, whole);
  }
  return judgeEnds(told, ends.length * 1000);
}

describe("limits told by where connections end", () => {
  it("finds the requests that a peer takes, announced or not", () => {
    const announced = judge({ exchanges: 100 }, { exchanges: 100 }, { exchanges: 100 });
    assert.deepEqual(announced.requests, { limit: 100, announced: true });
    const silent = { exchanges: 100, announced: false, idleMs: 1 };
    assert.deepEqual(judge(silent, silent, silent).requests, { limit: 100, announced: false });
  });

  it("finds the age that a peer allows, when neither requests nor idle times agree", () => {
    const { requests, ageMs } = judge(
      { ageMs: 60_100, exchanges: 7, idleMs: 3000, announced: false },
      { ageMs: 60_000, exchanges: 90, idleMs: 200, announced: false },
      { ageMs: 60_300, exchanges: 31, idleMs: 11_000, announced: false },
    );
    assert.equal(requests, undefined);
    assert.deepEqual(ageMs, { limit: 60_000, announced: false });
  });

  it("takes an idle limit for neither", () => {
    const end = { exchanges: 1, ageMs: 5010, idleMs: 5000, announced: false };
    assert.deepEqual(judge(end, end, end), { requests: undefined, ageMs: undefined });
    const used = [
      { exchanges: 2, ageMs: 5300, idleMs: 5000, announced: false },
      { exchanges: 3, ageMs: 5400, idleMs: 5001, announced: false },
      { exchanges: 4, ageMs: 5350, idleMs: 5000, announced: false },
    ];
    assert.deepEqual(judge(...used), { requests: undefined, ageMs: undefined });
  });

  it("finds nothing in a peer that goes away, or in two ends", () => {
    assert.deepEqual(judge({ exchanges: 4 }, { exchanges: 9 }, { exchanges: 55 }).requests, undefined);
    assert.equal(judge({ exchanges: 100 }, { exchanges: 100 }).requests, undefined);
  });

  it("takes a peer that dies with many connections, all as old and as used, for neither", () => {
    const ends = Array.from({ length: 48 }, (_, at) => {
      return { exchanges: 11, ageMs: 3300 + at, idleMs: at % 2, announced: false, atMs: 10_000 + at };
    });
    assert.deepEqual(judge(...ends), { requests: undefined, ageMs: undefined });
    // A limit shows again on the connections that take their place.
    const after = [20_000, 30_000].flatMap((atMs) => ends.map((end) => ({ ...end, atMs })));
    assert.deepEqual(judge(...ends, ...after).requests, { limit: 11, announced: false });
    // And at once where each takes the place of the last.
    const one = [0, 20, 40].map((atMs) => ({ exchanges: 5, ageMs: 19, idleMs: 0, announced: false, atMs }));
    assert.deepEqual(judge(...one).requests, { limit: 5, announced: false });
  });

  it("believes a count of a few only when many agree: with few callers they do by chance", () => {
    const end = { exchanges: 1, idleMs: 2, announced: false };
    assert.equal(judge(...Array.from({ length: 7 }, () => end)).requests, undefined);
    assert.deepEqual(judge(...Array.from({ length: 8 }, () => end)).requests, { limit: 1, announced: false });
  });

  it("lets a new limit replace the old one, and forgets", () => {
    const old = { exchanges: 100 };
    const changed = { exchanges: 1000 };
    assert.equal(judge(old, old, old, changed, changed, changed).requests?.limit, 1000);
    const ends = [1, 2, 3].map((atMs) => ({ exchanges: 5, ageMs: 1, idleMs: 0, announced: true, atMs }));
    assert.equal(judgeEnds(ends, FORGET_AFTER_MS + 10).requests, undefined);
  });

  it("finds at most one of the two, whatever ends", () => {
    const end = fc.record({
      exchanges: fc.integer({ min: 1, max: 4 }),
      ageMs: fc.integer({ min: 1, max: 30 }),
      idleMs: fc.integer({ min: 0, max: 60 }),
      announced: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(end, { maxLength: 12 }), (ends) => {
        const { requests, ageMs } = judge(...ends);
        assert.ok(requests === undefined || ageMs === undefined);
        if (ends.length < 3) assert.equal(requests ?? ageMs, undefined);
      }),
    );
  });
});
