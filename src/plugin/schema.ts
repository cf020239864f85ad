/**
 * Schema pieces for plugin and sidecar configuration: durations (`"55s"`), sizes (`"64KiB"`) and lists of objects,
 * as convict formats.
 *
 * @module
 */
import convict from "convict";

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/;
const DURATION_FACTOR = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
const SIZE = /^(\d+(?:\.\d+)?)(B|KiB|MiB|GiB)$/;
const SIZE_FACTOR = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const;

/**
 * Milliseconds of a duration such as `"250ms"`, `"55s"`, `"1.5m"`, `"1h"`; `"off"` is `Infinity`.
 *
 * @throws TypeError for any other text
 */
export function parseDuration(text: string): number {
  if (text === "off") return Number.POSITIVE_INFINITY;
  const match = DURATION.exec(text);
  if (match === null) throw new TypeError('must be a duration with a unit: "250ms", "55s", "5m", "1h" or "off"');
  return Number(match[1]) * DURATION_FACTOR[match[2] as keyof typeof DURATION_FACTOR];
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
 * @throws TypeError for any other text
 */
export function parseSize(text: string): number {
  if (text === "off") return Number.POSITIVE_INFINITY;
  const match = SIZE.exec(text);
  if (match === null) throw new TypeError('must be a size with a unit: "512B", "64KiB", "2MiB", "1GiB" or "off"');
  const bytes = Number(match[1]) * SIZE_FACTOR[match[2] as keyof typeof SIZE_FACTOR];
  if (!Number.isInteger(bytes)) throw new TypeError("must be a whole number of bytes");
  return bytes;
}

/** The shortest text for which {@link parseSize} gives back these bytes. */
export function formatSize(bytes: number): string {
  if (bytes === Number.POSITIVE_INFINITY) return "off";
  for (const unit of ["GiB", "MiB", "KiB"] as const) {
    if (bytes > 0 && bytes % SIZE_FACTOR[unit] === 0) return `${bytes / SIZE_FACTOR[unit]}${unit}`;
  }
  return `${bytes}B`;
}

/** Text → number where it parses; anything else stays as it is, for `validate` to refuse with its reason. */
function lenient(parse: (text: string) => number): (value: unknown) => unknown {
  return (value) => {
    if (typeof value !== "string") return value;
    try {
      return parse(value);
    } catch {
      return value;
    }
  };
}

function validateWith(
  parse: (text: string) => number,
  format: (value: number) => string,
): (value: unknown, schema: convict.SchemaObj) => void {
  return (value, { min, max }) => {
    // A number can only come from `coerce`, or from a file that left the unit out; the loader refuses the latter.
    if (typeof value !== "number") parse(typeof value === "string" ? value : "");
    else if (value < min) throw new TypeError(`must be at least "${format(min)}"`);
    else if (value > max) throw new TypeError(`must be at most "${format(max)}"`);
  };
}

convict.addFormat({
  name: "holdfast-duration",
  coerce: lenient(parseDuration),
  validate: validateWith(parseDuration, formatDuration),
});
convict.addFormat({ name: "holdfast-size", coerce: lenient(parseSize), validate: validateWith(parseSize, formatSize) });

/** What a {@link duration} may be, both ends included, written as in JSON. */
export interface DurationRange {
  readonly min?: string;
  readonly max?: string;
}

/**
 * A duration: written with a unit in JSON, milliseconds in code.
 *
 * @param value - the default, `"65s"`
 * @param doc - what it means, for the option table
 * @param range - what it may be; a `max` also refuses `"off"`. Default: anything
 */
export function duration(value: string, doc: string, range: DurationRange = {}): convict.SchemaObj<number> {
  const { min = "0s", max = "off" } = range;
  return {
    default: parseDuration(value),
    format: "holdfast-duration",
    doc,
    min: parseDuration(min),
    max: parseDuration(max),
  };
}

/** A {@link duration} that may be absent: `null` in JSON and in code, and its default. */
export function optionalDuration(doc: string): convict.SchemaObj<number | null> {
  return { default: null, format: "holdfast-duration", nullable: true, doc };
}

/**
 * A size: written with a unit in JSON, bytes in code.
 *
 * @param value - the default, `"64KiB"`
 * @param doc - what it means, for the option table
 */
export function size(value: string, doc: string): convict.SchemaObj<number> {
  return { default: parseSize(value), format: "holdfast-size", doc };
}

/**
 * A list of objects, each checked strictly against a schema of its own; every fault names the element's place.
 * The schema stands in `items` for option tables. Default: the empty list.
 */
export function listOf<T>(items: convict.Schema<T>, doc: string): convict.SchemaObj<T[]> {
  return { default: [], format: "holdfast-list", items, doc };
}

/**
 * Why one element of a {@link listOf} is not valid.
 */
export class ListFault extends Error {
  /** Key inside the list: `[1].path`. */
  readonly faults: readonly { readonly key: string; readonly message: string }[];

  constructor(faults: readonly { readonly key: string; readonly message: string }[]) {
    super(faults.map((fault) => `${fault.key}: ${fault.message}`).join("; "));
    this.faults = faults;
  }
}
