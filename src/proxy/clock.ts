/**
 * The monotonic clock, read once where work begins and remembered for what follows in the same turn of the event loop.
 * Reading it anew for each of a dozen time stamps of an exchange is a measurable part of its cost.
 *
 * @module
 */

import { performance } from "node:perf_hooks";

let lastMs = performance.now();

/** Reads the clock: milliseconds, as `performance.now()`. Called where the event loop enters our code. */
export function readClock(): number {
  lastMs = performance.now();
  return lastMs;
}

/** What {@link readClock} said last. */
export function lastClock(): number {
  return lastMs;
}

/** So long after an answer the next one is taken from it, in milliseconds. */
const ANSWER_LASTS_MS = 0.5;
/** The fine mark is renewed when it is older than this and somebody asks, in milliseconds. */
const FINE_MARK_LASTS_MS = 5;

/** Everything that came before was seen by now; and how long the event loop had waited by then. */
interface Mark {
  readonly atMs: number;
  readonly waitedMs: number;
}

let coarse = mark();
let fine = coarse;
let isMarking = false;
let answeredAtMs = Number.NEGATIVE_INFINITY;
let answerMs = 0;

/** Notes how long the event loop has waited so far. Called now and then: {@link possibleDelayMs} counts from here. */
export function markLoop(): void {
  markSoon((made) => {
    coarse = made;
  });
}

/**
 * How late an event that is handled now may be, in milliseconds: an event loop that waits sees what comes at once, so it
 * is not more than it has worked since {@link markLoop}. An upper bound that is mostly far above the truth, for what is
 * seen rarely and must not be dated too late: where the machine is busy, a loop that waits is itself woken late.
 */
export function possibleDelayMs(): number {
  return delaySince(coarse);
}

/** As {@link possibleDelayMs}, closer to the truth and cheap enough for every exchange; not where the machine is busy. */
export function likelyDelayMs(): number {
  const sinceMs = lastMs - answeredAtMs;
  if (sinceMs < ANSWER_LASTS_MS) return answerMs + sinceMs;
  answeredAtMs = lastMs;
  answerMs = delaySince(fine);
  if (lastMs - fine.atMs > FINE_MARK_LASTS_MS && !isMarking) {
    isMarking = true;
    markSoon((made) => {
      fine = made;
      isMarking = false;
    });
  }
  return answerMs;
}

/** A whole turn later everything that came before the mark is behind us. */
function markSoon(use: (made: Mark) => void): void {
  setImmediate(() => {
    const made = mark();
    setImmediate(() => use(made));
  });
}

function mark(): Mark {
  return { atMs: performance.now(), waitedMs: performance.nodeTiming.idleTime };
}

function delaySince({ atMs, waitedMs }: Mark): number {
  return Math.max(0, lastMs - atMs - (performance.nodeTiming.idleTime - waitedMs));
}
