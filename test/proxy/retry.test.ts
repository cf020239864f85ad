import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type FailedAttempt, judgeFailedAttempt } from "../../src/proxy/retry.ts";

const STALE: FailedAttempt = {
  reused: true,
  closedByPeer: true,
  responseBytes: 0,
  requestBytes: 100,
  method: "GET",
  hasIdempotencyKey: false,
  bodyIsReplayable: true,
  attempts: 1,
};

const attempt = fc.record({
  reused: fc.boolean(),
  closedByPeer: fc.boolean(),
  responseBytes: fc.constantFrom(0, 1, 1000),
  requestBytes: fc.constantFrom(0, 1, 1000),
  method: fc.constantFrom("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "PROPFIND", "get"),
  hasIdempotencyKey: fc.boolean(),
  bodyIsReplayable: fc.boolean(),
  attempts: fc.constantFrom(1, 2, 3),
});

test("idempotent methods are repeated, others are not (RFC 9110 §9.2.2)", () => {
  for (const method of ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]) {
    assert.equal(judgeFailedAttempt({ ...STALE, method }), "retried", method);
  }
  for (const method of ["POST", "PATCH", "CONNECT", "PROPFIND", "get", ""]) {
    assert.equal(judgeFailedAttempt({ ...STALE, method }), "refused", method);
    assert.equal(judgeFailedAttempt({ ...STALE, method, hasIdempotencyKey: true }), "retried", method);
    assert.equal(judgeFailedAttempt({ ...STALE, method, requestBytes: 0 }), "raced", method);
  }
});

test("whatever happened: nothing is sent again unless the rules allow it", () => {
  fc.assert(
    fc.property(attempt, (failed) => {
      const verdict = judgeFailedAttempt(failed);
      const stale = failed.reused && failed.closedByPeer && failed.responseBytes === 0;
      assert.equal(verdict === undefined, !stale);
      if (verdict !== "raced" && verdict !== "retried") return;
      assert.equal(failed.attempts, 1, "once");
      assert.ok(failed.bodyIsReplayable, "whole");
      if (verdict === "raced") assert.equal(failed.requestBytes, 0);
      else if (failed.method === "POST" || failed.method === "PATCH") assert.ok(failed.hasIdempotencyKey);
    }),
    { numRuns: 5000 },
  );
});

test("what may be sent again is sent again", () => {
  fc.assert(
    fc.property(attempt, (any) => {
      const failed = {
        ...any,
        reused: true,
        closedByPeer: true,
        responseBytes: 0,
        attempts: 1,
        bodyIsReplayable: true,
      };
      assert.equal(judgeFailedAttempt({ ...failed, requestBytes: 0 }), "raced");
      assert.equal(judgeFailedAttempt({ ...failed, requestBytes: 1, method: "PUT" }), "retried");
      assert.equal(judgeFailedAttempt({ ...failed, requestBytes: 1, hasIdempotencyKey: true }), "retried");
    }),
  );
});
