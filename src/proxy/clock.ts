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

let activeAtMarkMs = 0;

/** Notes how long the event loop has worked so far. Called now and then: {@link possibleDelayMs} counts from here. */
export function markLoop(): void {
  activeAtMarkMs = performance.eventLoopUtilization().active;
}

/**
 * How late an event that is handled now may be, in milliseconds: an event loop that waits sees what comes at once, so it
 * is not more than it has worked since {@link markLoop}. An upper bound, for what is seen rarely and must be dated well.
 */
export function possibleDelayMs(): number {
  return Math.max(0, performance.eventLoopUtilization().active - activeAtMarkMs);
}
