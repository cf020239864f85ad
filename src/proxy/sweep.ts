/**
 * One coarse timer for everything that has to be looked at now and then: idle connections, slow requests, queues.
 * Nothing on the data path has a timer of its own.
 *
 * @module
 */

import { markLoop, readClock } from "./clock.ts";

/** Something that {@link Sweep} looks at. */
export type Swept = (nowMs: number) => void;

/** Calls what was added at a steady interval. */
export class Sweep {
  readonly #swept = new Set<Swept>();
  readonly #intervalMs: number;
  #timer: NodeJS.Timeout | undefined;

  /** @param intervalMs - how late a limit may be noticed. Default 100 ms */
  constructor(intervalMs = 100) {
    this.#intervalMs = intervalMs;
  }

  /** @param swept - called with `performance.now()` */
  add(swept: Swept): void {
    this.#swept.add(swept);
    this.#timer ??= setInterval(() => this.run(readClock()), this.#intervalMs).unref();
  }

  remove(swept: Swept): void {
    this.#swept.delete(swept);
    if (this.#swept.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Looks at everything now. */
  run(nowMs: number): void {
    markLoop();
    for (const swept of this.#swept) swept(nowMs);
  }
}
