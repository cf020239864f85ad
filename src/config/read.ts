/**
 * Reads a JSON value by a convict schema, strictly: every fault is collected with its path, defaults are filled in,
 * the environment outranks the file, and each value remembers where it came from.
 *
 * Besides fields and groups of fields it knows three containers that convict lacks: `holdfast-list` (a list of
 * objects), `holdfast-map` (objects by name) and `holdfast-object` (an object that can be left out, or with
 * `switchable` also be `true` or `false`). Each has the schema of what is inside in `items`.
 *
 * @module
 */
import convict from "convict";
import { keyText, nearest, type Path } from "./faults.ts";
import {
  asLeaf,
  asWritten,
  checkLeaf,
  defaultOf,
  fromJson,
  fromText,
  isLeaf,
  type Leaf,
  SchemaError,
  type SchemaTree,
} from "./leaf.ts";

/** A fault and the path it was found at. */
export interface ReadFault {
  readonly path: Path;
  /** Set when the value came from the environment. */
  readonly variable?: string;
  /** Whether the key itself is wrong and not its value. */
  readonly atKey?: boolean;
  readonly wrong: string;
  readonly allowed: string;
}

/** One effective value. */
export interface ReadValue {
  readonly path: Path;
  /** As configuration writes it: durations and sizes with their unit. */
  readonly value: unknown;
  readonly source: "default" | "file" | "environment";
  /** The environment variable that sets it or could. */
  readonly variable: string | undefined;
  /** Whether the value must not be shown. */
  readonly secret: boolean;
}

/** Collects what reading finds. */
export class Reading {
  readonly faults: ReadFault[] = [];
  readonly values: ReadValue[] = [];
  readonly #env: Readonly<Record<string, string | undefined>>;

  /** @param env - environment variables; one that is empty counts as not set */
  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env;
  }

  variable(name: string | undefined): string | undefined {
    const text = name === undefined ? undefined : this.#env[name];
    return text === "" ? undefined : text;
  }

  fault(path: Path, wrong: string, allowed: string, options?: { variable?: string; atKey?: boolean }): void {
    this.faults.push({ path, wrong, allowed, ...options });
  }

  /** The effective value at a path, if it is a field that was read. */
  valueAt(path: Path): ReadValue | undefined {
    const key = keyText(path);
    return this.values.find((value) => keyText(value.path) === key);
  }
}

/** An object of a JSON document. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/**
 * Reads an object. What is not valid is missing from the result, and a fault of `reading` says why.
 *
 * @param given - the JSON value; `undefined` where there is none
 * @param path - where it stands in the document
 * @throws SchemaError when the schema itself is not usable
 */
export function readObject(schema: SchemaTree, given: unknown, path: Path, reading: Reading): Record<string, unknown> {
  if (given !== undefined && !isJsonObject(given)) {
    reading.fault(path, `${show(given)} is not valid`, "must be an object");
    return {};
  }
  const known = Object.keys(schema);
  for (const key of Object.keys(given ?? {})) {
    if (Object.hasOwn(schema, key)) continue;
    const suggestion = nearest(key, known);
    const allowed =
      suggestion === undefined ? `known keys: ${known.join(", ") || "none"}` : `did you mean "${suggestion}"?`;
    reading.fault([...path, key], `unknown key "${key}"`, allowed, { atKey: true });
  }
  const result: Record<string, unknown> = {};
  for (const [key, node] of Object.entries(schema)) {
    const value = given !== undefined && Object.hasOwn(given, key) ? given[key] : undefined;
    result[key] = isLeaf(node)
      ? readLeaf(asLeaf(node), value, [...path, key], reading)
      : readObject(node as SchemaTree, value, [...path, key], reading);
  }
  return result;
}

function readLeaf(leaf: Leaf, given: unknown, path: Path, reading: Reading): unknown {
  switch (leaf.format) {
    case "holdfast-list":
      return readList(leaf, given, path, reading);
    case "holdfast-map":
      return readMap(leaf, given, path, reading);
    case "holdfast-object":
      return readOptional(leaf, given, path, reading);
    default:
      return readField(leaf, given, path, reading);
  }
}

function readField(leaf: Leaf, given: unknown, path: Path, reading: Reading): unknown {
  checkLeaf(leaf);
  const text = reading.variable(leaf.env);
  const secret = leaf.sensitive === true;
  // A file value that the environment outranks is still checked: it is wrong the day the variable goes away.
  const inFile = given === undefined ? undefined : fromJson(leaf, given);
  if (inFile !== undefined && "allowed" in inFile) {
    reading.fault(path, `${secret ? "the value" : show(given)} is not valid`, inFile.allowed);
  }
  const inEnvironment = text === undefined ? undefined : fromText(leaf, text);
  if (inEnvironment !== undefined && "allowed" in inEnvironment) {
    const wrong = `${secret ? "the value" : show(text)} is not valid`;
    reading.fault(path, wrong, inEnvironment.allowed, { variable: leaf.env! });
  }
  const result = inEnvironment ?? inFile ?? defaultOf(leaf);
  if (result === undefined) {
    const or = leaf.env === undefined ? "" : `, or in the environment as ${leaf.env}`;
    const firstSentence = String(leaf.doc).split(/(?<=\.)\s/)[0];
    reading.fault(path, "is missing", `must be given here${or}: ${firstSentence}`);
    return undefined;
  }
  if ("allowed" in result) return undefined;
  const source = inEnvironment !== undefined ? "environment" : inFile !== undefined ? "file" : "default";
  const value = source === "file" ? given : asWritten(leaf, result.value);
  reading.values.push({ path, value, source, variable: leaf.env, secret });
  return result.value;
}

function items(leaf: Leaf): SchemaTree {
  if (leaf.items === undefined) throw new SchemaError(`format "${String(leaf.format)}" needs items`);
  return leaf.items;
}

/** The container's value and where it came from; a default stands as it would be written. */
function givenOrDefault(leaf: Leaf, given: unknown): { value: unknown; source: "file" | "default" } {
  return given === undefined ? { value: leaf.default, source: "default" } : { value: given, source: "file" };
}

function readList(leaf: Leaf, given: unknown, path: Path, reading: Reading): unknown[] {
  const { value, source } = givenOrDefault(leaf, given);
  if (!Array.isArray(value)) {
    reading.fault(path, `${show(value)} is not valid`, "must be a list of objects");
    return [];
  }
  if (value.length === 0) reading.values.push({ path, value: [], source, variable: undefined, secret: false });
  return value.map((element, index) => readObject(withoutEnv(items(leaf)), element, [...path, index], reading));
}

function readMap(leaf: Leaf, given: unknown, path: Path, reading: Reading): Record<string, unknown> {
  const { value, source } = givenOrDefault(leaf, given);
  if (!isJsonObject(value)) {
    reading.fault(path, `${show(value)} is not valid`, "must be an object with a name for each entry");
    return {};
  }
  const entries = Object.entries(value);
  if (entries.length === 0) reading.values.push({ path, value: {}, source, variable: undefined, secret: false });
  const named = entries.filter(([name]) => {
    if (NAME.test(name) && name !== "__proto__") return true;
    reading.fault(
      [...path, name],
      `${show(name)} is not a valid name`,
      "must be letters, digits, dots, hyphens and underscores",
      {
        atKey: true,
      },
    );
    return false;
  });
  return Object.fromEntries(
    named.map(([name, entry]) => [name, readObject(withoutEnv(items(leaf)), entry, [...path, name], reading)]),
  );
}

/** `null` where it is left out; `true` and `false` stay what they are where the leaf is `switchable`. */
function readOptional(
  leaf: Leaf & { readonly switchable?: boolean },
  given: unknown,
  path: Path,
  reading: Reading,
): unknown {
  const inside = items(leaf);
  const { value, source } = givenOrDefault(leaf, given);
  const absent = value === null || (leaf.switchable === true && typeof value === "boolean");
  if (absent && !namedInEnvironment(inside, reading)) {
    reading.values.push({ path, value, source, variable: undefined, secret: false });
    return value;
  }
  if (!absent && !isJsonObject(value)) {
    reading.fault(
      path,
      `${show(value)} is not valid`,
      `must be an object${leaf.switchable ? ", true or false" : " or left out"}`,
    );
    return undefined;
  }
  return readObject(inside, absent ? {} : value, path, reading);
}

function namedInEnvironment(schema: SchemaTree, reading: Reading): boolean {
  return Object.values(schema).some((node) => {
    if (!isLeaf(node)) return namedInEnvironment(node as SchemaTree, reading);
    const leaf = asLeaf(node);
    return (
      reading.variable(leaf.env) !== undefined || (leaf.items !== undefined && namedInEnvironment(leaf.items, reading))
    );
  });
}

/** The schema of one entry among many: a variable cannot say which entry it means. */
function withoutEnv(schema: SchemaTree): SchemaTree {
  return Object.fromEntries(
    Object.entries(schema).map(([key, node]) => {
      if (!isLeaf(node)) return [key, withoutEnv(node as SchemaTree)];
      const { env: _env, ...leaf } = asLeaf(node);
      return [key, leaf];
    }),
  );
}

/** A value as a fault shows it: short, and without the credentials, the query and the fragment of a URL. */
export function show(value: unknown): string {
  // What JSON.parse makes of 1e400.
  if (value === Number.POSITIVE_INFINITY) return "a number above 1.8e308";
  if (value === Number.NEGATIVE_INFINITY) return "a number below -1.8e308";
  const text = (JSON.stringify(value) ?? String(value))
    .replace(/\/\/[^/?#@"\s]*@/g, "//***@")
    .replace(/[?#][^"\s]*/g, (tail) => tail.replace(/([?&;#])([^=&;#]*=)?[^&;#]+/g, "$1$2***"));
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/**
 * What is wrong with a schema itself, one line per finding: a field without `doc`, an unknown format, a default that
 * is not valid.
 */
export function schemaFaults(schema: SchemaTree, path: Path = []): string[] {
  return Object.entries(schema).flatMap(([key, node]) => {
    const here = [...path, key];
    if (!isLeaf(node)) return schemaFaults(node as SchemaTree, here);
    const leaf = asLeaf(node);
    const faults: string[] = [];
    if (typeof leaf.doc !== "string" || leaf.doc.trim() === "") faults.push(`${keyText(here)} has no doc`);
    if (leaf.items !== undefined) return [...faults, ...schemaFaults(leaf.items, here)];
    try {
      checkLeaf(leaf);
      defaultOf(leaf);
    } catch (error) {
      if (!(error instanceof SchemaError)) throw error;
      faults.push(`${keyText(here)}: ${error.message}`);
    }
    return faults;
  });
}

/** Why a value of a container format is not valid, when convict itself asks. */
export class ContainerFault extends TypeError {
  /** Keys inside the container, `"[1].path"`, and what is wrong with each. */
  readonly faults: readonly { readonly key: string; readonly message: string }[];

  constructor(faults: readonly ReadFault[]) {
    const lines = faults.map(({ path, wrong, allowed }) => ({ key: keyText(path), message: `${wrong}; ${allowed}` }));
    super(lines.map(({ key, message }) => `${key}: ${message}`).join("; "));
    this.faults = lines;
  }
}

for (const name of ["holdfast-list", "holdfast-map", "holdfast-object"]) {
  convict.addFormat({
    name,
    validate: (value: unknown, leaf: convict.SchemaObj) => {
      const reading = new Reading({});
      readLeaf({ ...leaf, format: name }, value, [], reading);
      if (reading.faults.length > 0) throw new ContainerFault(reading.faults);
    },
  });
}
