/**
 * The words of a chain → hops: presets, configurations, running sidecars, probes and files of whole chains.
 *
 * @module
 */
import path from "node:path";
import { nearest } from "../config/faults.ts";
import { parseDuration } from "../config/units.ts";
import { PROBE_FORMAT, type ProbeDocument, type ProbeResult } from "../probe/result.ts";
import type { Traffic } from "./diagnose.ts";
import type { Hop } from "./hop.ts";
import { hopOf } from "./preset.ts";
import { PRESETS } from "./presets.ts";
import { probedHop } from "./probe-hop.ts";
import { type Seen, type SidecarRoute, SidecarValues, type Value } from "./sidecar-hop.ts";
import { ChainError, override, parseWord, type Word } from "./words.ts";

/** What a running sidecar says of itself. */
export interface Running extends Seen {
  readonly values: readonly Value[];
}

/** Where facts come from. Each throws a `ChainError` with one line. */
export interface Sources {
  /** A JSON file. */
  readJson(file: string): Promise<unknown>;
  /** The effective values of a sidecar.json. */
  sidecar(file: string): Promise<readonly Value[]>;
  /** A running sidecar, by the URL of its admin API. */
  running(url: string): Promise<Running>;
  probe(url: string): Promise<ProbeResult>;
}

/** A chain, with what a file said of its traffic. */
export interface Chain {
  readonly hops: readonly Hop[];
  readonly traffic: Partial<Traffic>;
}

/**
 * Chains that words stand for. One that is only a sidecar stands for every way through it.
 *
 * @throws ChainError with what is wrong and what is allowed
 */
export async function chainsOf(words: readonly string[], sources: Sources): Promise<Chain[]> {
  if (words.length === 1) {
    const word = parseWord(words[0]!);
    if (isFile(word.use)) {
      const json = await sources.readJson(word.use);
      if (isChainFile(json)) {
        const hops = await chainOf(chainWords(word.use, json), sources);
        return [{ hops, traffic: trafficOf(word.use, json) }];
      }
    }
    const sidecar = await sidecarOf(word, sources);
    if (sidecar !== undefined) return wholeSidecar(sidecar, word, words[0]!).map((hops) => ({ hops, traffic: {} }));
  }
  return [{ hops: await chainOf(words, sources), traffic: {} }];
}

async function chainOf(words: readonly string[], sources: Sources): Promise<Hop[]> {
  if (words.length < 2) throw new ChainError("a chain needs two hops or more, from the caller to the origin");
  const hops: Hop[] = [];
  for (const text of words) hops.push(await hopAt(text, sources));
  for (const hop of [hops[0]!, hops.at(-1)!]) {
    if (hop.kind === "device")
      throw new ChainError(`${hop.name} follows the connections between two hops: put it between them`);
  }
  return hops;
}

async function hopAt(text: string, sources: Sources): Promise<Hop> {
  const word = parseWord(text);
  const { use, overrides } = word;
  const preset = PRESETS.get(use);
  if (preset !== undefined) return override(hopOf(preset), overrides);
  const sidecar = await sidecarOf(word, sources);
  if (sidecar !== undefined) return throughSidecar(sidecar, overrides, text);
  if (use.startsWith("probe=")) return override(probedHop(await sources.probe(use.slice("probe=".length))), overrides);
  if (isFile(use))
    return override(probedHop(oneResult(use, await sources.readJson(use), overrides)), without(overrides, "url"));
  const suggestion = nearest(use, PRESETS.keys());
  const allowed =
    suggestion === undefined
      ? "must be a preset (holdfast doctor --presets lists them), a JSON file, admin=URL or probe=URL"
      : `did you mean ${suggestion}?`;
  throw new ChainError(`${text}: there is no preset "${use}"; ${allowed}`);
}

function isFile(use: string): boolean {
  return use.endsWith(".json");
}

/** The sidecar that a word means; `undefined` when it means something else. */
async function sidecarOf({ use }: Word, sources: Sources): Promise<SidecarValues | undefined> {
  if (use.startsWith("admin=")) {
    const { values, ...seen } = await sources.running(use.slice("admin=".length));
    return new SidecarValues(values, seen);
  }
  if (!isFile(use)) return undefined;
  const json = await sources.readJson(use);
  if (isProbe(json) || isChainFile(json)) return undefined;
  return new SidecarValues(await sources.sidecar(use));
}

function isObject(json: unknown): json is Readonly<Record<string, unknown>> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function isProbe(json: unknown): json is ProbeDocument {
  return isObject(json) && json["format"] === PROBE_FORMAT && Array.isArray(json["results"]);
}

type ChainFile = Readonly<Record<string, unknown>> & { readonly chain: unknown };

function isChainFile(json: unknown): json is ChainFile {
  return isObject(json) && "chain" in json;
}

/**
 * The words of a file: `{ "chain": ["aws-alb:idle=120s", { "use": "node", "idle": "125s" }] }`. Files in it are relative
 * to it.
 */
function chainWords(file: string, { chain }: ChainFile): string[] {
  if (!Array.isArray(chain)) throw new ChainError(`${file}: chain must be a list of hops`);
  const absolute = (text: string): string => (isFile(parseWord(text).use) ? path.join(path.dirname(file), text) : text);
  return chain.map((entry: unknown, index) => {
    if (typeof entry === "string") return absolute(entry);
    if (!isObject(entry) || typeof entry["use"] !== "string") {
      throw new ChainError(`${file}: chain[${index}] must be text, or an object with "use"`);
    }
    const { use, ...settings } = entry;
    const parts = Object.entries(settings).map(([key, value]) => `${key}=${String(value)}`);
    return absolute(parts.length === 0 ? String(use) : `${String(use)}:${parts.join(",")}`);
  });
}

/** `rtt`, `requestsPerSecond` and `connections` of a file. */
function trafficOf(file: string, { chain: _, ...settings }: ChainFile): Partial<Traffic> {
  const traffic: { -readonly [K in keyof Traffic]?: Traffic[K] } = {};
  for (const [key, value] of Object.entries(settings)) {
    if (key === "rtt" && typeof value === "string") {
      try {
        traffic.rttMs = parseDuration(value);
      } catch (error) {
        throw new ChainError(`${file}: rtt: ${(error as Error).message}`);
      }
    } else if ((key === "requestsPerSecond" || key === "connections") && typeof value === "number" && value > 0) {
      traffic[key] = value;
    } else if (key === "rtt" || key === "requestsPerSecond" || key === "connections") {
      const what = key === "rtt" ? 'a duration with a unit: "30ms"' : "a number above 0";
      throw new ChainError(`${file}: ${key}: ${JSON.stringify(value)} is not valid; must be ${what}`);
    } else if (key !== "$comment") {
      throw new ChainError(`${file}: ${key} is not valid; allowed are chain, rtt, requestsPerSecond and connections`);
    }
  }
  return traffic;
}

function oneResult(file: string, json: unknown, overrides: ReadonlyMap<string, string>): ProbeResult {
  // All else was taken for a sidecar.json.
  if (!isProbe(json)) throw new ChainError(`${file}: is a whole chain, which cannot be a hop of another`);
  const url = overrides.get("url");
  const found = json.results.filter((result) => url === undefined || result.url === url);
  if (found.length === 1) return found[0]!;
  const urls = json.results.map((result) => result.url).join(", ");
  throw new ChainError(`${file}: holds ${json.results.length} results; choose one with :url=…, of ${urls}`);
}

function without(overrides: ReadonlyMap<string, string>, key: string): Map<string, string> {
  return new Map([...overrides].filter(([name]) => name !== key));
}

/** The one way through a sidecar that `direction=` and `upstream=` choose; inbound if there is one and nothing is said. */
function throughSidecar(sidecar: SidecarValues, overrides: ReadonlyMap<string, string>, text: string): Hop {
  const { routes } = sidecar;
  const direction = overrides.get("direction");
  const upstream = overrides.get("upstream");
  const fits = (route: SidecarRoute): boolean =>
    (direction === undefined || route.direction === direction) &&
    (upstream === undefined || route.upstream === upstream);
  const fitting = routes.filter(fits);
  const inbound = direction === undefined ? fitting.find((each) => each.direction === "inbound") : undefined;
  const route = inbound ?? fitting[0];
  if (route === undefined) throw noSuchWay(routes, text);
  if (inbound === undefined && fitting.length > 1) {
    const known = fitting.map((each) => each.upstream).join(", ");
    throw new ChainError(`${text}: leads to ${fitting.length} upstreams; choose one with upstream=…, of ${known}`);
  }
  return override(sidecar.hop(route), without(without(overrides, "direction"), "upstream"));
}

function noSuchWay(routes: readonly SidecarRoute[], text: string): ChainError {
  const known = routes.map((each) => `direction=${each.direction},upstream=${each.upstream}`).join("; ");
  return new ChainError(`${text}: no such way through the sidecar; there is ${known === "" ? "none" : known}`);
}

/** Every way through a sidecar, with what its configuration knows of before and behind. */
function wholeSidecar(sidecar: SidecarValues, { overrides }: Word, text: string): Hop[][] {
  const chosen = (route: SidecarRoute): boolean =>
    (overrides.get("direction") ?? route.direction) === route.direction &&
    (overrides.get("upstream") ?? route.upstream) === route.upstream;
  const routes = sidecar.routes.filter(chosen);
  if (routes.length === 0) throw noSuchWay(sidecar.routes, text);
  return routes.map((route) => {
    const before = sidecar.before(route.direction);
    const settings = without(without(overrides, "direction"), "upstream");
    return [...(before === undefined ? [] : [before]), override(sidecar.hop(route), settings), sidecar.behind(route)];
  });
}
