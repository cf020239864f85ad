/**
 * What is wrong with a configuration: one {@link Fault} per finding, all of them in one {@link ConfigError}.
 *
 * @module
 */
import { HoldfastError } from "../errors.ts";

/** Keys and list positions from the root of a configuration: `["plugins", 2, "config"]`. */
export type Path = readonly (string | number)[];

/** Where a fault is: a place in a file, or an environment variable. Lines and columns count from 1. */
export type Place =
  | { readonly file: string; readonly line: number; readonly column: number }
  | { readonly file: string }
  | { readonly variable: string };

/** One thing that is wrong with a configuration. */
export interface Fault {
  readonly place: Place;
  /** The key, `"inbound.listen"` or `"plugins[2] (idle-timeout) downstream.timeout"`; empty for the whole file. */
  readonly key: string;
  /** What is wrong. */
  readonly wrong: string;
  /** What is allowed, or what to do. */
  readonly allowed: string;
  /** The rule that refuses the value, when each value by itself is allowed. */
  readonly rule?: string;
}

/** Text of a path, `"plugins[2].config"`. */
export function keyText(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === "number") return `${text}[${step}]`;
    return text === "" ? step : `${text}.${step}`;
  }, "");
}

function placeText(place: Place): string {
  if ("variable" in place) return `environment ${place.variable}`;
  return "line" in place ? `${place.file}:${place.line}:${place.column}` : place.file;
}

/** One line: place, key, what is wrong; what is allowed. */
export function faultText(fault: Fault): string {
  const key = fault.key === "" ? "" : `${fault.key}: `;
  const rule = fault.rule === undefined ? "" : `rule ${fault.rule}: `;
  return `${placeText(fault.place)}: ${key}${rule}${fault.wrong}; ${fault.allowed}`;
}

/** A configuration that cannot be used. Its message has one line per fault. */
export class ConfigError extends HoldfastError {
  /** Every fault that was found, in the order of the file as far as it has one. */
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    const sorted = faults.toSorted((one, other) => line(one) - line(other) || column(one) - column(other));
    super("HF_CONFIG", sorted.map(faultText).join("\n"));
    this.faults = sorted;
  }
}

function line({ place }: Fault): number {
  return "line" in place ? place.line : 0;
}

function column({ place }: Fault): number {
  return "column" in place ? place.column : 0;
}

/**
 * The known word nearest to a mistyped one, or `undefined` when none is near (more than a third of its letters differ).
 */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Insertions, deletions, substitutions and swaps of neighbours that make one word from the other. */
function editDistance(one: string, other: string): number {
  const rows = [Array.from({ length: other.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= one.length; row++) {
    const current = [row];
    for (let column = 1; column <= other.length; column++) {
      const isSame = one[row - 1] === other[column - 1];
      const isSwap = one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1];
      current.push(
        Math.min(
          rows[row - 1]![column - 1]! + (isSame ? 0 : 1),
          rows[row - 1]![column]! + 1,
          current[column - 1]! + 1,
          isSwap ? (rows[row - 2]?.[column - 2] ?? column) + 1 : Number.POSITIVE_INFINITY,
        ),
      );
    }
    rows.push(current);
  }
  return rows[one.length]![other.length]!;
}
