/**
 * One field of a convict schema: how it is described, checked and turned into the value that code uses.
 *
 * convict by itself is lenient where a configuration should not be: it takes `"12 apples"` for 12 and `"no"` for
 * `true`. What it would guess is refused here first; the rest is convict's work.
 *
 * @module
 */
import convict from "convict";
import "./formats.ts";
import { durationRule, formatDuration, formatSize, sizeRule } from "./units.ts";

/** A schema that is not usable: it uses an unknown format, or its own default is not valid. */
export class SchemaError extends Error {}

/** A field of a schema, as convict and the option tables know it. */
export interface Leaf {
  readonly default: unknown;
  readonly format?: unknown;
  readonly doc?: unknown;
  /** Environment variable that outranks the file. */
  readonly env?: string | undefined;
  readonly nullable?: boolean | undefined;
  readonly sensitive?: boolean | undefined;
  /** Largest duration or size, both ends included. */
  readonly max?: number | undefined;
  /** Word for the type column of option tables, where the format is a function. */
  readonly type?: string | undefined;
  /** Schema of what is inside: of `holdfast-list`, `holdfast-map` and `holdfast-object`. */
  readonly items?: SchemaTree | undefined;
}

/** A convict schema: fields, and groups of fields. */
export interface SchemaTree {
  readonly [key: string]: Leaf | SchemaTree;
}

/** convict's own rule: what has a `default`, or is not an object with keys, is a field. */
export function isLeaf(node: unknown): boolean {
  return (
    typeof node !== "object" ||
    node === null ||
    Array.isArray(node) ||
    "default" in node ||
    Object.keys(node).length === 0
  );
}

/** A field written the short way, `{ port: 80 }`, in the long way. */
export function asLeaf(node: unknown): Leaf {
  const long = typeof node === "object" && node !== null && "default" in node;
  return long ? (node as Leaf) : { default: node };
}

const BUILT_IN = new Map<unknown, string>([
  [Object, "object"],
  [Array, "array"],
  [String, "string"],
  [Number, "number"],
  [Boolean, "boolean"],
  [RegExp, "regexp"],
]);

/** What convict would turn a string into, as a word; `undefined`: it leaves strings alone. */
function kindOf(leaf: Leaf): string | undefined {
  if (typeof leaf.format === "string")
    return leaf.format.startsWith("holdfast-") ? leaf.format : leaf.format.toLowerCase();
  const builtIn = BUILT_IN.get(leaf.format);
  if (builtIn !== undefined) return builtIn;
  if (leaf.default === null || leaf.default === undefined) return undefined;
  return Array.isArray(leaf.default) ? "array" : typeof leaf.default;
}

/** What a value of this field must be; the end of "must be …". */
function requirement(leaf: Leaf): string {
  if (Array.isArray(leaf.format)) return `one of ${leaf.format.map((word) => JSON.stringify(word)).join(", ")}`;
  switch (kindOf(leaf)) {
    case "holdfast-duration":
      return durationRule(leaf.max);
    case "holdfast-size":
      return sizeRule(leaf.max);
    case "string":
      return "a string";
    case "number":
      return "a number";
    case "int":
    case "integer":
      return "a whole number";
    case "nat":
      return "a whole number, 0 or more";
    case "port":
      return "a port number from 0 to 65535";
    case "boolean":
      return "true or false";
    case "holdfast-words":
    case "holdfast-ranges":
    case "array":
      return "a list";
    case "object":
      return "an object";
    default:
      return "a value of another type";
  }
}

/** Whether a JSON value has the type that the field takes, before any format looks at it. */
function hasType(leaf: Leaf, given: unknown): boolean {
  const isObject = typeof given === "object" && given !== null && !Array.isArray(given);
  const kind = kindOf(leaf);
  if (Array.isArray(leaf.format)) return typeof given !== "string" || kind === "string" || kind === undefined;
  // A format function decides itself, but must not see what convict makes of a string, nor trip convict over an object.
  if (hasOwnFormat(leaf)) {
    if (isObject) return kind === "object";
    return typeof given !== "string" || kind === "string" || kind === undefined;
  }
  switch (kind) {
    case "holdfast-duration":
    case "holdfast-size":
    case "string":
      return typeof given === "string";
    case "number":
    case "int":
    case "integer":
    case "nat":
    case "port":
      return typeof given === "number";
    case "boolean":
      return typeof given === "boolean";
    case "holdfast-words":
    case "holdfast-ranges":
    case "array":
      return Array.isArray(given);
    case "object":
      return isObject;
    default:
      return !isObject || kind === "*";
  }
}

/** Whether text from the environment is what convict will take it for. */
function isPlainText(leaf: Leaf, text: string): boolean {
  switch (kindOf(leaf)) {
    case "number":
      return /^-?\d+(?:\.\d+)?$/.test(text);
    case "int":
    case "integer":
    case "nat":
    case "port":
      return /^-?\d+$/.test(text);
    case "boolean":
      return text === "true" || text === "false";
    default:
      return true;
  }
}

/** A convict configuration of this one field. */
function single(leaf: Leaf, env: Record<string, string>): convict.Config<{ value: unknown }> {
  return convict<{ value: unknown }>({ value: leaf as convict.SchemaObj<unknown> }, { env, args: [] });
}

/** Runs convict's validation of the one field; the reason why it refuses, without the words that convict adds. */
function refusal(config: convict.Config<{ value: unknown }>): string | undefined {
  try {
    config.validate({ allowed: "strict", output: () => {} });
    return undefined;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const suffix = `: value was ${JSON.stringify(config.get("value"))}`;
    const reason = message.replace(/^value: /, "").trim();
    return reason.endsWith(suffix) ? reason.slice(0, -suffix.length) : reason;
  }
}

/**
 * Checks the field itself.
 *
 * @throws SchemaError when convict does not know its format
 */
export function checkLeaf(leaf: Leaf): void {
  try {
    single(leaf, {});
  } catch (error) {
    throw new SchemaError(error instanceof Error ? error.message.replaceAll("'value'", "it") : String(error));
  }
}

/** A value for the field: what code gets, or what is allowed instead. */
export type LeafResult = { readonly value: unknown } | { readonly allowed: string };

/** The default; `undefined` where there is none and the field must be given. */
export function defaultOf(leaf: Leaf): LeafResult | undefined {
  const config = single({ ...leaf, env: undefined }, {});
  const reason = refusal(config);
  if (reason === undefined) return { value: config.get("value") };
  if (leaf.default === null || leaf.default === undefined) return undefined;
  throw new SchemaError(`its default is not valid: ${reason}`);
}

/** What a JSON value means for the field. */
export function fromJson(leaf: Leaf, given: unknown): LeafResult {
  if (given === null && leaf.nullable === true) return { value: null };
  // JSON has no infinite numbers, but JSON.parse makes them of 1e400.
  const isInfinite = typeof given === "number" && !Number.isFinite(given);
  if (isInfinite || !hasType(leaf, given)) return { allowed: allowedBy(leaf, given) };
  const config = single({ ...leaf, env: undefined }, {});
  config.set("value", given);
  return checked(leaf, config);
}

/** What the text of an environment variable means for the field. */
export function fromText(leaf: Leaf, text: string): LeafResult {
  if (!isPlainText(leaf, text)) return { allowed: allowedBy(leaf, text) };
  try {
    return checked(leaf, single({ ...leaf, env: "VALUE" }, { VALUE: text }));
  } catch {
    // convict lets errors of JSON.parse and RegExp through when it reads the environment.
    return { allowed: allowedBy(leaf, text) };
  }
}

function checked(leaf: Leaf, config: convict.Config<{ value: unknown }>): LeafResult {
  const reason = refusal(config);
  if (reason === undefined) return { value: config.get("value") };
  // Formats of our own and of plugins say it better than we can; convict's do not.
  const isOwn = hasOwnFormat(leaf) || String(leaf.format).startsWith("holdfast-");
  return { allowed: isOwn ? reason : allowedBy(leaf, undefined) };
}

function hasOwnFormat(leaf: Leaf): leaf is Leaf & { readonly format: (value: unknown, leaf: Leaf) => void } {
  return typeof leaf.format === "function" && !BUILT_IN.has(leaf.format);
}

/** What is allowed instead of a value that did not even get to the format. */
function allowedBy(leaf: Leaf, given: unknown): string {
  if (hasOwnFormat(leaf)) {
    try {
      leaf.format(given, leaf);
    } catch (error) {
      if (error instanceof Error) return error.message;
    }
  }
  return `must be ${requirement(leaf)}${leaf.nullable === true ? ", or null" : ""}`;
}

/** The value as configuration would write it: durations and sizes with their unit. */
export function asWritten(leaf: Leaf, value: unknown): unknown {
  if (typeof value !== "number") return value;
  if (leaf.format === "holdfast-duration") return formatDuration(value);
  if (leaf.format === "holdfast-size") return formatSize(value);
  return value;
}

/** The type of the field in a word or two, for option tables. */
export function typeName(leaf: Leaf): string {
  if (leaf.type !== undefined) return leaf.type;
  if (Array.isArray(leaf.format)) return leaf.format.map((word) => JSON.stringify(word)).join(" \\| ");
  const kind = kindOf(leaf);
  switch (kind) {
    case "holdfast-duration":
      return "duration";
    case "holdfast-size":
      return "size";
    case "holdfast-list":
      return "list of objects";
    case "holdfast-map":
      return "objects by name";
    case "holdfast-object":
      return "object";
    case "holdfast-ranges":
      return "list of addresses and ranges";
    case "holdfast-words":
    case "array":
      return "list";
    case "int":
    case "integer":
    case "nat":
      return "whole number";
    case undefined:
      return "any";
    default:
      return kind;
  }
}
