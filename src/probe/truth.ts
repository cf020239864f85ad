/**
 * Whether what a peer advertises in `Keep-Alive` is what it does.
 *
 * @module
 */
import type { IdleMeasured, RequestsMeasured, Truth } from "./result.ts";

/** The field counts whole seconds, and servers look at their clocks now and then. */
const LATE_MS = 1000;
/** What clocks and wake-ups may take off, at least, and as a part of the time. */
const EARLY_MS = 50;
const EARLY = 0.02;

/** Judges `timeout=`. */
export function timeoutTruth(advertisedMs: number | undefined, measured: IdleMeasured | null): Truth {
  if (advertisedMs === undefined) return "none";
  if (measured === null) return "unknown";
  const { shortestMs, waitedMs } = measured;
  if (shortestMs === null) return waitedMs > advertisedMs + LATE_MS ? "closes late" : "unknown";
  if (shortestMs < advertisedMs - Math.max(EARLY_MS, EARLY * advertisedMs)) return "closes early";
  return shortestMs > advertisedMs + LATE_MS + EARLY_MS ? "closes late" : "true";
}

/** Judges `max=` of the first response: how many more there may be. */
export function maxTruth(advertised: number | undefined, measured: RequestsMeasured | null): Truth {
  if (advertised === undefined) return "none";
  if (measured === null || measured.end === "refused") return "unknown";
  // Some count the request they answer, some do not.
  if (measured.end === "not reached") return measured.answered > advertised + 1 ? "closes late" : "unknown";
  if (measured.answered < advertised) return "closes early";
  return measured.answered > advertised + 1 ? "closes late" : "true";
}
