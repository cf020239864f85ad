/**
 * How long callers keep idle connections to us, and whether we close before they would.
 *
 * @module
 */
import {
  type IdleClose,
  type IdleEstimate,
  type IdleEvidence,
  judgeIdle,
  NO_IDLE_EVIDENCE,
  withClose,
  withOpen,
} from "./idle-limit.ts";

/** Ends of idle connections that are looked at together. */
const ENDS = 20;
/** So many of them by our idle limit, and callers keep connections longer than we do. */
const MANY = 10;

/** The callers of one direction. */
export class Callers {
  #idle: IdleEvidence = NO_IDLE_EVIDENCE;
  /** Of the last ends of connections that had carried something: whether it was we who closed. */
  readonly #ours: boolean[] = [];
  #isTold = false;

  /** How long callers keep idle connections; the shortest of several. `undefined`: not known. */
  limit(nowMs: number): IdleEstimate | undefined {
    return judgeIdle(this.#idle, nowMs, 0).limit;
  }

  /** How many of the last ends of idle connections were ours, and of how many. */
  get closedByUs(): { readonly count: number; readonly of: number } {
    return { count: this.#ours.filter(Boolean).length, of: this.#ours.length };
  }

  /** A caller closed a connection that was idle. */
  closed(close: IdleClose): void {
    this.#idle = withClose(this.#idle, close);
    this.#ended(false);
  }

  /**
   * We closed one that had been idle for as long as we keep it.
   *
   * @returns whether that is to be told: once, when callers are seen to keep connections longer than we do
   */
  left(idleMs: number, atMs: number): boolean {
    this.#idle = withOpen(this.#idle, idleMs, atMs);
    this.#ended(true);
    if (this.#isTold || this.closedByUs.count < MANY) return false;
    this.#isTold = true;
    return true;
  }

  #ended(byUs: boolean): void {
    this.#ours.push(byUs);
    if (this.#ours.length > ENDS) this.#ours.shift();
  }
}
