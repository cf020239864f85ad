/**
 * What is known of every origin.
 *
 * @module
 */
import { LearnedOrigin, type OriginMemory } from "./origin.ts";

/** Origins that are remembered; callers may name any number of them where `unmatched` is `"pass"`. */
const MAX_ORIGINS = 1024;

/** Learned limits by origin, for the life of the process. */
export class Learning {
  /** In order of use: the one that was asked for longest ago comes first. */
  readonly #origins = new Map<string, LearnedOrigin>();

  /**
   * What is known of an origin, made when it is asked for first.
   *
   * @param name - scheme, host and port, as `http://orders:8080`
   */
  of(name: string, nowMs: number): LearnedOrigin {
    const known = this.#origins.get(name);
    const origin = known ?? new LearnedOrigin(nowMs);
    this.#origins.delete(name);
    this.#origins.set(name, origin);
    if (known === undefined) this.#dropOldest();
    return origin;
  }

  /** Every origin with its name. */
  [Symbol.iterator](): Iterator<readonly [name: string, origin: LearnedOrigin]> {
    return this.#origins.entries();
  }

  /** Takes over what was known before. */
  restore(memories: ReadonlyMap<string, OriginMemory>, nowMs: number): void {
    for (const [name, memory] of memories) this.#origins.set(name, new LearnedOrigin(nowMs, memory));
    this.#dropOldest();
  }

  /** Forgets what is old. */
  sweep(nowMs: number): void {
    for (const origin of this.#origins.values()) origin.sweep(nowMs);
  }

  #dropOldest(): void {
    while (this.#origins.size > MAX_ORIGINS) this.#origins.delete(this.#origins.keys().next().value!);
  }
}
