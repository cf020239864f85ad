/**
 * Durations (`"55s"`) and sizes (`"64KiB"`): text with a unit in configuration, numbers in code.
 *
 * @module
 */

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/;
const DURATION_FACTOR = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
/** The longest delay that Node's timers take; beyond it they fire at once. */
const LONGEST_MS = 2 ** 31 - 1;
const SIZE = /^(\d+(?:\.\d+)?)(B|KiB|MiB|GiB)$/;
const SIZE_FACTOR = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const;

/**
 * Milliseconds of a duration such as `"250ms"`, `"55s"`, `"1.5m"`, `"1h"`; `"off"` is `Infinity`.
 *
 * @param mostMs - the longest that is allowed; less than `Infinity`, the default: messages do not offer `"off"`
 * @throws TypeError that says what is allowed, for any other text, for a fraction of a millisecond and for more than
 *   `mostMs` or 2,147,483,647 ms (596 h)
 */
export function parseDuration(text: string, mostMs = Number.POSITIVE_INFINITY): number {
  if (text === "off") return Number.POSITIVE_INFINITY;
  const match = DURATION.exec(text);
  if (match === null) throw new TypeError(`must be ${durationRule(mostMs)}`);
  const exactMs = Number(match[1]) * DURATION_FACTOR[match[2] as keyof typeof DURATION_FACTOR];
  if (exactMs > LONGEST_MS) {
    throw new TypeError(
      mostMs <= LONGEST_MS ? `must be at most "${formatDuration(mostMs)}"` : 'must be at most "596h", or "off"',
    );
  }
  const ms = Math.round(exactMs);
  // 1.1 s is 1100.0000000000002 ms in floating point, and still a whole number of milliseconds.
  if (Math.abs(exactMs - ms) > 1e-6) throw new TypeError("must be a whole number of milliseconds");
  return ms;
}

/** How a duration of at most `mostMs` is written, for messages. */
export function durationRule(mostMs = Number.POSITIVE_INFINITY): string {
  return `a duration with a unit: "250ms", "55s", "5m", "1h"${mostMs === Number.POSITIVE_INFINITY ? ' or "off"' : ""}`;
}

/** The shortest text for which {@link parseDuration} gives back these milliseconds. */
export function formatDuration(ms: number): string {
  if (ms === Number.POSITIVE_INFINITY) return "off";
  if (ms === 0) return "0s";
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000}h`;
  if (ms % 60_000 === 0) return `${ms / 60_000}m`;
  if (ms % 1000 === 0) return `${ms / 1000}s`;
  return `${ms}ms`;
}

/**
 * Bytes of a size such as `"512B"`, `"64KiB"`, `"2MiB"`; `"off"` is `Infinity`.
 *
 * @param mostBytes - the largest that is allowed; less than `Infinity`, the default: messages do not offer `"off"`
 * @throws TypeError that says what is allowed, for any other text and for what is not a whole number of bytes
 */
export function parseSize(text: string, mostBytes = Number.POSITIVE_INFINITY): number {
  if (text === "off") return Number.POSITIVE_INFINITY;
  const match = SIZE.exec(text);
  if (match === null) throw new TypeError(`must be ${sizeRule(mostBytes)}`);
  const bytes = Number(match[1]) * SIZE_FACTOR[match[2] as keyof typeof SIZE_FACTOR];
  if (!Number.isSafeInteger(bytes)) throw new TypeError("must be a whole number of bytes below 2^53");
  return bytes;
}

/** How a size of at most `mostBytes` is written, for messages. */
export function sizeRule(mostBytes = Number.POSITIVE_INFINITY): string {
  return `a size with a unit: "512B", "64KiB", "2MiB", "1GiB"${mostBytes === Number.POSITIVE_INFINITY ? ' or "off"' : ""}`;
}

/** The shortest text for which {@link parseSize} gives back these bytes. */
export function formatSize(bytes: number): string {
  if (bytes === Number.POSITIVE_INFINITY) return "off";
  for (const unit of ["GiB", "MiB", "KiB"] as const) {
    if (bytes > 0 && bytes % SIZE_FACTOR[unit] === 0) return `${bytes / SIZE_FACTOR[unit]}${unit}`;
  }
  return `${bytes}B`;
}
