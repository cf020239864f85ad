/**
 * The bound on how fast a probe asks.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";

/** Gives out turns, evenly spaced. */
export class Pace {
  readonly #intervalMs: number;
  #nextAtMs = 0;

  /** @param perSecond - how many turns there are in a second at most */
  constructor(perSecond: number) {
    this.#intervalMs = 1000 / perSecond;
  }

  /**
   * Resolves when it is the caller's turn.
   *
   * @throws AbortError when the signal aborts first
   */
  async turn(signal: AbortSignal): Promise<void> {
    const nowMs = performance.now();
    const atMs = Math.max(nowMs, this.#nextAtMs);
    this.#nextAtMs = atMs + this.#intervalMs;
    signal.throwIfAborted();
    if (atMs > nowMs) await sleep(atMs - nowMs, undefined, { signal });
  }
}
