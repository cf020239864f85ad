/**
 * Durations for people.
 *
 * @module
 */
import { formatDuration } from "../config/units.ts";

/** A duration for people. */
export function shown(ms: number | undefined): string {
  if (ms === undefined) return "unknown";
  if (ms === Number.POSITIVE_INFINITY) return "for ever";
  if (ms < 1000) return `${Math.round(ms)}ms`;
  // Limits are compared: 60s and 65s, not 1m and 65s.
  return ms <= 120_000 ? `${Math.round(ms / 10) / 100}s` : formatDuration(Math.round(ms / 1000) * 1000);
}
