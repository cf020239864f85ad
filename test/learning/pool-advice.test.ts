import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSizeBody, poolSizeText } from "../../src/learning/pool-advice.ts";
import type { PoolAdvice } from "../../src/learning/pool-size.ts";

const ADVICE: PoolAdvice = {
  arrivalsPerSecond: 123.4,
  exchangeMs: 50.0012,
  meanBusy: 6.1728,
  peakBusy: 19,
  enough: { kept: 12, reusedShare: 0.99712, handshakesPerSecond: 0.3555 },
  oneMore: { kept: 13, reusedShare: 0.99861, handshakesPerSecond: 0.1716 },
  oneLess: { kept: 11, reusedShare: 0.9945, handshakesPerSecond: 0.679 },
  unavoidableShare: 0.0004,
  setupMs: 40,
};

test("says what suffices, and what one more connection costs and saves", () => {
  const body = poolSizeBody("https", Number.POSITIVE_INFINITY, ADVICE);
  assert.deepEqual(body.advice?.oneMore, {
    bytesHere: 55_296,
    bytesThere: 67_584,
    savesHandshakesPerSecond: 0.1839,
    savesMsPerSecond: 7.356,
  });
  assert.equal(
    poolSizeText(body),
    "12 idle connections suffice (all are kept now): 99.7 % of 123 requests/s of 50 ms (6.17 in use on average, 19 at most) reuse one; one more would cost 54 KiB here and about 66 KiB there, and save 0.184 handshakes/s, 7.36 ms of waiting a second",
  );
  assert.match(poolSizeText(poolSizeBody("http", 8, ADVICE)), /\(at most 8 are kept now\).* cost 8 KiB here/);
  // The peer ends connections, or requests are further apart than it keeps them.
  const rotating = { ...ADVICE, unavoidableShare: 0.1422 };
  assert.match(
    poolSizeText(poolSizeBody("http", 8, rotating)),
    / reuse one, 14\.2 % find none however many are kept; one/,
  );
});

test("says what it does not know", () => {
  assert.equal(
    poolSizeText(poolSizeBody("http", 8, undefined)),
    "too little was seen to say how many idle connections suffice",
  );
  const body = poolSizeBody("http", 8, { ...ADVICE, setupMs: undefined });
  assert.equal(body.advice?.oneMore.savesMsPerSecond, null);
  assert.ok(poolSizeText(body).endsWith("save 0.184 handshakes/s"));
});
