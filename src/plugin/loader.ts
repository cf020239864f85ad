/**
 * The plugins of a configuration: found, checked, and their configurations read by their own schemas.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { findPackageJSON, registerHooks } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Document } from "../config/document.ts";
import { ConfigError, type Fault, keyText, nearest, type Path } from "../config/faults.ts";
import { isLeaf, type SchemaTree } from "../config/leaf.ts";
import { type EffectiveValue, type Environment, effectiveValue, type LoadedConfig, placed } from "../config/load.ts";
import { isJsonObject, Reading, readObject, schemaFaults, show } from "../config/read.ts";
import type { PluginEntry } from "../config/sidecar-config.ts";
import type { ApiVersion, Plugin } from "./api.ts";

/** A plugin that is ready to be set up. */
export interface LoadedPlugin {
  readonly plugin: Plugin<unknown>;
  readonly entry: PluginEntry;
  /** The entry's `config` as the plugin's schema reads it: defaults filled in, durations in milliseconds. */
  readonly config: unknown;
  /** The same, as configuration writes it; keys are relative to the entry's `config`. */
  readonly values: readonly EffectiveValue[];
}

/** A plugin and what its entry, at a place in the list, says. */
interface Candidate {
  readonly index: number;
  readonly entry: PluginEntry;
  readonly plugin: Plugin<unknown>;
}

const API_VERSION: ApiVersion = 1;

// TypeScript in the repository, JavaScript in the package: what this file is, the built-ins are too.
const EXTENSION = path.extname(fileURLToPath(import.meta.url));
const BUILT_INS = fileURLToPath(new URL("../../plugins/", import.meta.url));

// What a plugin imports by our name is this very Holdfast, wherever the plugin lies: beside it there may be no other (a
// path in a container image), or one of another version.
const API = new URL(`./api${EXTENSION}`, import.meta.url).href;
registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "holdfast/plugin" ? { url: API, shortCircuit: true } : next(specifier, context),
});

/** Names of the built-in plugins, in alphabetical order. */
export function builtInNames(): string[] {
  const names = readdirSync(BUILT_INS, { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) return builtInFiles(entry.name).some(existsSync) ? [entry.name] : [];
    return path.extname(entry.name) === EXTENSION && !entry.name.endsWith(".d.ts") ? [path.parse(entry.name).name] : [];
  });
  return [...new Set(names)].sort();
}

function builtInFiles(name: string): string[] {
  return [path.join(BUILT_INS, name + EXTENSION), path.join(BUILT_INS, name, `index${EXTENSION}`)];
}

/**
 * Loads every plugin of a configuration, in its order.
 *
 * @param env - for plugins whose schema names environment variables
 * @throws ConfigError with every fault: a plugin that is not found or not one, a duplicate name, an unknown
 *   `apiVersion`, a broken `after`, a configuration that its schema refuses
 */
export async function loadPlugins(loaded: LoadedConfig, env: Environment): Promise<LoadedPlugin[]> {
  const { config, document } = loaded;
  const { plugins, faults } = await readPlugins(new Map(config.plugins.entries()), document, config.folder, env);
  if (faults.length > 0) throw new ConfigError(faults);
  return plugins;
}

/** Loads plugins as {@link loadPlugins} does, but returns the faults, and the plugins that have none. */
export async function readPlugins(
  entries: ReadonlyMap<number, PluginEntry>,
  document: Document,
  folder: string,
  env: Environment,
): Promise<{ plugins: LoadedPlugin[]; faults: Fault[] }> {
  const faults: Fault[] = [];
  const candidates: Candidate[] = [];
  for (const [index, entry] of entries) {
    const found = await find(entry.use, folder);
    if (typeof found === "string") {
      candidates.push(...(await load(found, { index, entry }, document, faults)));
      continue;
    }
    faults.push({ place: place(document, index, "use"), key: `plugins[${index}].use`, ...found });
  }
  checkOrder(candidates, document, faults);
  const plugins = candidates.flatMap((candidate) => readConfigOf(candidate, document, env, faults));
  return { plugins, faults };
}

function place(document: Document, index: number, ...inside: Path): Fault["place"] {
  return document.place(["plugins", index, ...inside]);
}

function label({ index, plugin }: Candidate): string {
  return `plugins[${index}] (${plugin.name})`;
}

/** The URL of what `use` names, or why there is none, with every place that was tried. */
async function find(use: string, folder: string): Promise<string | Pick<Fault, "wrong" | "allowed">> {
  if (/^\.{1,2}\//.test(use) || path.isAbsolute(use)) {
    const file = path.resolve(folder, use);
    if (existsSync(file)) return pathToFileURL(file).href;
    return { wrong: `${show(use)} is not there`, allowed: `tried the file ${file}` };
  }
  const files = /^[\w-]+$/.test(use) ? builtInFiles(use) : [];
  const builtIn = files.find(existsSync);
  if (builtIn !== undefined) return pathToFileURL(builtIn).href;
  try {
    return resolvePackage(use, folder);
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    const suggestion = nearest(use, builtInNames());
    const hint = suggestion === undefined ? "" : `did you mean "${suggestion}"? `;
    const tried = [...files.map((file) => `the built-in ${file}`), `the npm package from ${folder} (${reason})`];
    return { wrong: `no plugin is named ${show(use)}`, allowed: `${hint}tried ${tried.join(", ")}` };
  }
}

/**
 * Resolves a package as an `import` in a file of that folder would. `import.meta.resolve` takes no parent of its own,
 * and `require.resolve` does not see what packages export to `import` alone.
 */
function resolvePackage(name: string, folder: string): string {
  const parentURL = pathToFileURL(path.join(folder, "sidecar.json")).href;
  const hooks = registerHooks({
    resolve: (specifier, context, next) => next(specifier, specifier === name ? { ...context, parentURL } : context),
  });
  try {
    return import.meta.resolve(name);
  } finally {
    hooks.deregister();
  }
}

/** The plugin at a URL, unless it is not one. */
async function load(
  url: string,
  { index, entry }: { index: number; entry: PluginEntry },
  document: Document,
  faults: Fault[],
): Promise<Candidate[]> {
  const key = `plugins[${index}].use`;
  const fault = (wrong: string, allowed: string): void => {
    faults.push({ place: place(document, index, "use"), key, wrong, allowed });
  };
  const misdeclared = misdeclaredModule(url);
  if (misdeclared !== undefined) {
    fault(`${show(entry.use)} (${fileURLToPath(url)}) cannot be loaded: ${misdeclared.wrong}`, misdeclared.allowed);
    return [];
  }
  let exported: unknown;
  try {
    exported = await import(url);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    const allowed =
      code === "ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING"
        ? "Node.js runs no TypeScript under node_modules: the package must contain JavaScript"
        : "must be a JavaScript module that can be imported";
    fault(`${show(entry.use)} (${fileURLToPath(url)}) cannot be loaded: ${reason}`, allowed);
    return [];
  }
  const plugin = defaultExport(exported);
  const shape = shapeFaults(plugin);
  for (const [wrong, allowed] of shape) fault(`${show(entry.use)} (${fileURLToPath(url)}) ${wrong}`, allowed);
  return shape.length > 0 ? [] : [{ index, entry, plugin: plugin as Plugin<unknown> }];
}

/** A statement that only an ES module has. */
const MODULE_SYNTAX = /^(?:import\s+["'{*\w]|export\s+(?:default|const|let|function|class|async|\{|\*))/m;

/**
 * What is wrong with an ES module that its package.json calls CommonJS. Node.js would fail too, but say only that it met
 * an `import`, and print warnings of its own.
 */
function misdeclaredModule(url: string): Pick<Fault, "wrong" | "allowed"> | undefined {
  const file = fileURLToPath(url);
  const { name, ext } = path.parse(file);
  if (ext !== ".ts" && ext !== ".js") return undefined;
  const declaration = findPackageJSON(url);
  if (declaration === undefined) return undefined;
  try {
    const { type } = JSON.parse(readFileSync(declaration, "utf8")) as { type?: unknown };
    if (type !== "commonjs" || !MODULE_SYNTAX.test(readFileSync(file, "utf8"))) return undefined;
  } catch {
    // What cannot be read is for the import to report.
    return undefined;
  }
  return {
    wrong: `it is written as an ES module, and ${declaration} says "type": "commonjs"`,
    allowed: `name it ${name}.m${ext.slice(1)}, or say "type": "module" in that package.json`,
  };
}

/** The default export, also of what compilers make of one in CommonJS. */
function defaultExport(exported: unknown): unknown {
  const outer =
    isJsonObject(exported) || typeof exported === "object" ? (exported as { default?: unknown }).default : undefined;
  return isJsonObject(outer) && "default" in outer ? outer["default"] : outer;
}

/** What a default export lacks of a plugin: what is wrong, and what is allowed. */
function shapeFaults(plugin: unknown): [wrong: string, allowed: string][] {
  if (!isJsonObject(plugin)) return [["has no plugin as its default export", "see docs/writing-plugins.md"]];
  const { name, apiVersion, description, config, after, setup } = plugin;
  if (apiVersion === undefined) return [["has no apiVersion", `apiVersion must be ${API_VERSION}`]];
  if (apiVersion !== API_VERSION) {
    return [
      [`is written for version ${show(apiVersion)} of the plugin API`, `this Holdfast has version ${API_VERSION}`],
    ];
  }
  const faults: [string, string][] = [];
  if (typeof name !== "string" || name === "") faults.push(["has no name", "name must be a string"]);
  if (typeof description !== "string" || description === "") {
    faults.push(["has no description", "description must be one line of text"]);
  }
  if (typeof setup !== "function") faults.push(["has no setup", "setup must be a function"]);
  if (after !== undefined && !(Array.isArray(after) && after.every((word) => typeof word === "string"))) {
    faults.push(["has a wrong after", "after must be a list of plugin names"]);
  }
  // A schema without fields is an empty object, which convict's rule would take for a field.
  if (!isJsonObject(config) || (Object.keys(config).length > 0 && isLeaf(config))) {
    faults.push(["has no config", "config must be a convict schema; {} when there is nothing to configure"]);
  } else {
    for (const problem of schemaFaults(config as SchemaTree)) {
      faults.push([
        `has a wrong config schema: ${problem}`,
        "every field needs a doc, a known format and a valid default",
      ]);
    }
  }
  return faults;
}

/** Faults of names and `after`. */
function checkOrder(candidates: readonly Candidate[], document: Document, faults: Fault[]): void {
  const byName = new Map<string, Candidate>();
  for (const candidate of candidates) {
    const { name } = candidate.plugin;
    const first = byName.get(name);
    if (first === undefined) {
      byName.set(name, candidate);
      continue;
    }
    const wrong = `a plugin named "${name}" is already listed`;
    const allowed = `keep this one or plugins[${first.index}]`;
    faults.push({ place: place(document, candidate.index, "use"), key: label(candidate), wrong, allowed });
  }
  for (const candidate of candidates) {
    for (const name of candidate.plugin.after ?? []) {
      const other = byName.get(name);
      if (other === undefined || other.index < candidate.index) continue;
      const wrong = `must stand after "${name}" (plugins[${other.index}])`;
      const allowed = "move it down: plugins see requests in the order of the list";
      faults.push({ place: place(document, candidate.index), key: label(candidate), wrong, allowed });
    }
  }
}

/** The plugin with its configuration, unless that has faults. */
function readConfigOf(candidate: Candidate, document: Document, env: Environment, faults: Fault[]): LoadedPlugin[] {
  const { index, entry, plugin } = candidate;
  const base: Path = ["plugins", index, "config"];
  const reading = new Reading(env);
  const config = readObject(plugin.config as SchemaTree, entry.config, base, reading);
  for (const fault of reading.faults) {
    const inside = keyText(fault.path.slice(base.length, fault.atKey ? -1 : undefined));
    faults.push(placed(fault, document, inside === "" ? label(candidate) : `${label(candidate)} ${inside}`));
  }
  if (reading.faults.length > 0) return [];
  const values = reading.values.map((value) => effectiveValue(value, value.path.slice(base.length)));
  return [{ plugin, entry, config, values }];
}
