import assert from "node:assert/strict";
import test from "node:test";
import { Callers } from "../../src/learning/callers.ts";

test("how long callers keep connections is learned from their closes", () => {
  const callers = new Callers();
  assert.equal(callers.limit(0), undefined);
  for (let at = 1; at <= 4; at++) callers.closed({ openMs: 60_000, closedMs: 60_010, atMs: at * 1000 });
  const { limitMs } = callers.limit(5000)!;
  assert.ok(limitMs > 59_000 && limitMs <= 60_000);
  assert.deepEqual(callers.closedByUs, { count: 0, of: 4 });
});

test("that we close first is told once, when it is often so", () => {
  const callers = new Callers();
  const told = Array.from({ length: 40 }, (_, at) => callers.left(65_000, at));
  assert.deepEqual(
    told.flatMap((is, at) => (is ? [at] : [])),
    [9],
  );
});

test("that we close first is not told as long as callers mostly do", () => {
  const callers = new Callers();
  for (let at = 0; at < 200; at++) {
    if (at % 3 === 0) assert.equal(callers.left(65_000, at), false);
    else callers.closed({ openMs: 60_000, closedMs: 60_010, atMs: at });
  }
});
