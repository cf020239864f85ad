import assert from "node:assert/strict";
import { test } from "node:test";
import { LearnedPeer } from "../../src/learning/peer.ts";

const MINUTE_MS = 60_000;

/** A peer that has ended three connections after a hundred exchanges, the last of them at 3000. */
function limited(): LearnedPeer {
  const peer = new LearnedPeer(0, undefined);
  for (const atMs of [1000, 2000, 3000]) {
    peer.ended({ exchanges: 100, ageMs: 900, idleMs: 1, announced: false, atMs });
  }
  return peer;
}

test("a connection is left at the limit on requests, and only there", () => {
  const peer = limited();
  assert.equal(peer.known.maxRequests, 100);
  assert.equal(peer.leavesAfter(99, 4000), false);
  assert.equal(peer.leavesAfter(100, 4000), true);
});

test("now and then one connection goes beyond the limit; if it stays open, the limit is gone", () => {
  const peer = limited();
  assert.equal(peer.leavesAfter(100, 9 * MINUTE_MS), true);
  assert.equal(peer.leavesAfter(100, 11 * MINUTE_MS), false, "one may try");
  assert.equal(peer.isBeyond(100), true, "with what may be sent twice");
  assert.equal(peer.leavesAfter(100, 12 * MINUTE_MS), true, "no other meanwhile");
  assert.equal(peer.leavesAfter(101, 12 * MINUTE_MS), false);
  assert.equal(peer.known.maxRequests, undefined);
  assert.equal(peer.isBeyond(1_000_000), false);
});

test("if it is closed, the limit holds on", () => {
  const peer = limited();
  assert.equal(peer.leavesAfter(100, 11 * MINUTE_MS), false);
  peer.ended({ exchanges: 100, ageMs: 900, idleMs: 1, announced: false, atMs: 12 * MINUTE_MS });
  assert.equal(peer.known.maxRequests, 100);
  assert.equal(peer.leavesAfter(100, 21 * MINUTE_MS), true);
});
