/**
 * How long the way to a peer and back takes, told from how long connections took to open.
 *
 * @module
 */

/** A smoothed round-trip time with its variation, as TCP keeps it (RFC 6298 §2). */
export class RoundTrip {
  #smoothedMs: number | undefined;
  #variationMs = 0;

  /** @param tookMs - one measured round trip, in milliseconds */
  measured(tookMs: number): void {
    if (this.#smoothedMs === undefined) {
      this.#smoothedMs = tookMs;
      this.#variationMs = tookMs / 2;
      return;
    }
    this.#variationMs += (Math.abs(this.#smoothedMs - tookMs) - this.#variationMs) / 4;
    this.#smoothedMs += (tookMs - this.#smoothedMs) / 8;
  }

  /** What a round trip takes at most, but for rare ones, in milliseconds; 0 when none was measured. */
  get boundMs(): number {
    return this.#smoothedMs === undefined ? 0 : this.#smoothedMs + 4 * this.#variationMs;
  }
}
