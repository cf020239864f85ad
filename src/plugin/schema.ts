/**
 * Schema pieces for plugin and sidecar configuration: durations (`"55s"`), sizes (`"64KiB"`) and lists of objects,
 * as convict formats.
 *
 * @module
 */
import type convict from "convict";
import "../config/read.ts";
import { parseDuration, parseSize } from "../config/units.ts";

export { formatDuration, formatSize, parseDuration, parseSize } from "../config/units.ts";

/** What a duration or size may be, both ends included, written as in JSON. A `max` also refuses `"off"`. */
export interface Range {
  readonly min?: string;
  readonly max?: string;
}

/**
 * A duration: written with a unit in JSON, milliseconds in code; `"off"` is `Infinity`.
 *
 * @param value - the default, `"65s"`
 * @param doc - what it means, for the option table
 * @param range - what it may be. Default: anything
 */
export function duration(value: string, doc: string, range: Range = {}): convict.SchemaObj<number> {
  return { default: parseDuration(value), format: "holdfast-duration", doc, ...bounds(range, parseDuration) };
}

/** A {@link duration} that may be absent: `null` in JSON and in code, and its default. */
export function optionalDuration(doc: string, range: Range = {}): convict.SchemaObj<number | null> {
  return { default: null, format: "holdfast-duration", nullable: true, doc, ...bounds(range, parseDuration) };
}

/**
 * A size: written with a unit in JSON, bytes in code; `"off"` is `Infinity`.
 *
 * @param value - the default, `"64KiB"`
 * @param doc - what it means, for the option table
 * @param range - what it may be. Default: anything
 */
export function size(value: string, doc: string, range: Range = {}): convict.SchemaObj<number> {
  return { default: parseSize(value), format: "holdfast-size", doc, ...bounds(range, parseSize) };
}

function bounds({ min, max }: Range, parse: (text: string) => number): { min?: number; max?: number } {
  return { ...(min !== undefined && { min: parse(min) }), ...(max !== undefined && { max: parse(max) }) };
}

/**
 * A list of objects, each checked strictly against a schema of its own, with its defaults filled in and its durations
 * and sizes turned into numbers; every fault names the element's place. The schema stands in `items` for option tables.
 * Default: the empty list.
 */
export function listOf<T>(items: convict.Schema<T>, doc: string): convict.SchemaObj<T[]> {
  return { default: [], format: "holdfast-list", items, doc };
}
