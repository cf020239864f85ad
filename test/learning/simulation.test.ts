import assert from "node:assert/strict";
import test from "node:test";
import { days, move } from "./scenarios.ts";
import { tally } from "./tally.ts";

/** The long form is `npm run simulate`. */
const ORIGINS = 300;

test("limits of origins of all kinds are learned within three closes; then no request meets a close", () => {
  const { fixed, varying } = tally(1, ORIGINS);
  for (const told of [fixed, varying]) {
    assert.ok(told.origins > 100);
    assert.deepEqual([told.unknown, told.above, told.races, told.farAfterSix], [0, 0, 0, 0]);
    // Where the limit is near 50 ms, what our own event loop may be late is some per cent of it.
    const near = told.reuses.filter((reuse) => reuse >= 0.95).length;
    assert.ok(near >= 0.97 * told.origins, `${near} of ${told.origins}`);
    assert.ok(told.reuses[0]! >= 0.92, `${told.reuses[0]}`);
  }
  assert.equal(fixed.far, 0);
  // Three times that are all short of the longest make no more certain, to nobody.
  assert.equal(varying.farNeedlessly, 0);
  assert.ok(varying.far <= 0.04 * varying.origins, `${varying.far} of ${varying.origins}`);
});

test("an origin that shortens its limit costs three races at most; one that prolongs it is found again by canaries", () => {
  for (let seed = 1; seed <= 20; seed++) {
    assert.ok(move(seed, 60_000, 5000, 1).races <= 3, `seed ${seed}`);
    assert.ok(move(seed, 5000, 60_000, 1).tookMs < 180_000, `seed ${seed}`);
  }
});

test("three days with restarts and new limits lose next to nothing", () => {
  const { exchanges, reuse, lost, races } = days(1, 3);
  assert.ok(exchanges > 100_000);
  assert.ok(lost <= 1, `${lost} lost`);
  assert.ok(races <= 10, `${races} races`);
  assert.ok(reuse > 0.9, `reuse ${reuse}`);
});
