/**
 * The monotonic clock, read once where work begins and remembered for what follows in the same turn of the event loop.
 * Reading it anew for each of a dozen time stamps of an exchange is a measurable part of its cost.
 *
 * @module
 */

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
