/**
 * How long the way to a peer and back takes, told from how long connections took to open.
 *
 * @module
 */

/** Measurements that are looked at together. */
const KEPT = 16;
/** One in so many is left out: it may have been our own event loop that was late. */
const LEFT_OUT = 8;

/** The last round-trip times. */
export class RoundTrip {
  readonly #tookMs: number[] = [];
  #boundMs = 0;

  /** @param tookMs - one measured round trip, in milliseconds */
  measured(tookMs: number): void {
    this.#tookMs.push(tookMs);
    if (this.#tookMs.length > KEPT) this.#tookMs.shift();
    const count = this.#tookMs.length;
    const sorted = this.#tookMs.toSorted((one, other) => other - one);
    // The fewer there are, the longer another may be.
    this.#boundMs = sorted[Math.floor(count / LEFT_OUT)]! * (1 + 1 / count);
  }

  /** What a round trip takes at most, but for rare ones, in milliseconds; 0 when none was measured. */
  get boundMs(): number {
    return this.#boundMs;
  }
}
