/**
 * When a request may be sent a second time (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
 *
 * @module
 */
import type { StaleResult } from "../plugin/api.ts";

/** Methods that may be repeated without harm (RFC 9110 §9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

/** Whether a request with this method may be sent twice, as far as its body allows. */
export function isRepeatable(method: string, hasIdempotencyKey: boolean): boolean {
  return IDEMPOTENT.has(method) || hasIdempotencyKey;
}

/** What is known of an attempt that failed because its connection closed. */
export interface FailedAttempt {
  /** The connection had carried an exchange before. */
  readonly reused: boolean;
  /** It failed by FIN, RST or EPIPE. */
  readonly closedByPeer: boolean;
  readonly responseBytes: number;
  /** Request bytes given to the socket. */
  readonly requestBytes: number;
  readonly method: string;
  readonly hasIdempotencyKey: boolean;
  /** There is no body, or all of it is in the replay buffer. */
  readonly bodyIsReplayable: boolean;
  /** 1 for the first. */
  readonly attempts: number;
}

/**
 * Decides on a failed attempt.
 *
 * - `raced`: the connection was found closed before anything was written; sent again, which is always safe.
 * - `retried`: something was written, and repeating it is harmless; sent again.
 * - `refused`: it may not be sent again.
 * - `undefined`: not a stale connection at all.
 */
export function judgeFailedAttempt(attempt: FailedAttempt): StaleResult | undefined {
  if (!attempt.reused || !attempt.closedByPeer || attempt.responseBytes > 0) return undefined;
  if (attempt.attempts > 1) return "refused";
  if (attempt.requestBytes === 0 && attempt.bodyIsReplayable) return "raced";
  const repeatable = isRepeatable(attempt.method, attempt.hasIdempotencyKey);
  return repeatable && attempt.bodyIsReplayable ? "retried" : "refused";
}
