/**
 * `holdfast doctor`: what is wrong with the keep-alive settings of a chain of hops.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { parseToken, readToken } from "../config/admin-token.ts";
import { ConfigError } from "../config/faults.ts";
import { type Chain, chainsOf, type Sources } from "../doctor/chain.ts";
import { diagnose, type Traffic } from "../doctor/diagnose.ts";
import { drawn } from "../doctor/draw.ts";
import { doctorDocument } from "../doctor/json.ts";
import { type PoolSize, poolSizeLines } from "../doctor/pool-sizes.ts";
import type { Preset } from "../doctor/preset.ts";
import { incomingText, outgoingText } from "../doctor/preset-text.ts";
import { PRESETS } from "../doctor/presets.ts";
import { isCallerState, isOriginState } from "../doctor/running.ts";
import { shown } from "../doctor/shown.ts";
import type { Seen, Value } from "../doctor/sidecar-hop.ts";
import { ChainError } from "../doctor/words.ts";
import { load } from "../load.ts";
import { Pace } from "../probe/pace.ts";
import { parsePeer } from "../probe/peer.ts";
import { probe } from "../probe/probe.ts";
import type { ProbeResult } from "../probe/result.ts";
import type { ExitCode } from "./main.ts";
import { readAuthorities } from "./probe.ts";

/** What the command was asked for. */
export interface DoctorCommand {
  /** Round trip of links that do not say their own. */
  readonly rttMs: number | undefined;
  readonly requestsPerSecond: number | undefined;
  readonly connections: number | undefined;
  /** For hops that are probed. */
  readonly maxWaitMs: number;
  /** For hops that are probed: path of a PEM file. */
  readonly ca: string | undefined;
  readonly json: boolean;
  /** Whether to list the presets instead. */
  readonly presets: boolean;
}

/** For an answer of a running sidecar. */
const ADMIN_TIMEOUT_MS = 10_000;
/** How hop probes ask. */
const PROBE = { method: "GET", maxRequests: 110, connections: 3, timeoutMs: 10_000 } as const;
const PROBE_RATE = 50;

/**
 * Examines a chain and prints it with every fault.
 *
 * @param words - the hops, from the caller to the origin
 * @returns 0 when nothing is wrong in what is known, 1 when something is, 2 when the chain cannot be read
 */
export async function doctor(words: readonly string[], command: DoctorCommand): Promise<ExitCode> {
  if (command.presets) {
    process.stdout.write(command.json ? presetsJson() : presetsText());
    return 0;
  }
  let chains: readonly Chain[];
  const asked = new Map<string, readonly PoolSize[]>();
  try {
    if (words.length === 0) throw new ChainError("name the hops, from the caller to the origin, or one file");
    chains = await chainsOf(words, sources(command, asked));
  } catch (error) {
    if (!(error instanceof ChainError) && !(error instanceof ConfigError)) throw error;
    for (const line of error.message.split("\n")) process.stderr.write(`holdfast: ${line}\n`);
    return 2;
  }
  const diagnoses = chains.map(({ hops, traffic }) => diagnose(hops, trafficOf(command, traffic)));
  const pools = [...asked.values()].flat();
  process.stdout.write(
    command.json
      ? `${JSON.stringify(doctorDocument(diagnoses, pools), undefined, 2)}\n`
      : `${[...diagnoses.map(drawn), poolSizeLines(pools)]
          .filter((lines) => lines.length > 0)
          .map((lines) => lines.join("\n"))
          .join("\n\n")}\n`,
  );
  return diagnoses.some(({ findings }) => findings.length > 0) ? 1 : 0;
}

/** The command line outranks a file. */
function trafficOf(command: DoctorCommand, file: Partial<Traffic>): Traffic {
  return {
    rttMs: command.rttMs ?? file.rttMs,
    requestsPerSecond: command.requestsPerSecond ?? file.requestsPerSecond,
    connections: command.connections ?? file.connections,
  };
}

/** @param pools - takes what running sidecars say of theirs, each asked once */
function sources({ maxWaitMs, ca }: DoctorCommand, pools: Map<string, readonly PoolSize[]>): Sources {
  return {
    async readJson(file) {
      try {
        return JSON.parse(await readFile(file, "utf8")) as unknown;
      } catch (error) {
        // What is not JSON is quoted in the message, line breaks and all.
        throw new ChainError(`${file}: cannot be read: ${(error as Error).message.replaceAll(/\s+/g, " ")}`);
      }
    },
    async sidecar(file) {
      return (await load(file, process.env)).loaded.values;
    },
    async running(url) {
      if (!/^https?:\/\//i.test(url) || URL.parse(url) === null) {
        throw new ChainError(`admin=${url}: must be a URL such as "http://127.0.0.1:15000"`);
      }
      const token = adminToken();
      const values = await running(url, token);
      const seen = await runningOrigins(url, token);
      pools.set(
        url,
        seen.origins.map((origin) => ({ admin: url, ...origin })),
      );
      return { values, ...seen };
    },
    probe: (url) => live(url, maxWaitMs, ca),
  };
}

/** What a running sidecar may ask for, where it finds it itself. */
function adminToken(): string | undefined {
  const { HOLDFAST_ADMIN_TOKEN: token, HOLDFAST_ADMIN_TOKEN_FILE: tokenFile } = process.env;
  try {
    return token === undefined ? readToken({ tokenFile }, process.cwd()) : parseToken(token);
  } catch (error) {
    const variable = token === undefined ? "HOLDFAST_ADMIN_TOKEN_FILE" : "HOLDFAST_ADMIN_TOKEN";
    throw new ChainError(`${variable}: ${(error as Error).message}`);
  }
}

async function running(url: string, token: string | undefined): Promise<readonly Value[]> {
  return await fromAdmin(url, token, "/config", "no configuration", (body) => {
    const { values } = body as { readonly values?: readonly Value[] };
    if (!Array.isArray(values)) throw new Error("it is not the admin API of a sidecar");
    return values;
  });
}

async function runningOrigins(url: string, token: string | undefined): Promise<Seen> {
  return await fromAdmin(url, token, "/origins", "no origins", (body) => {
    const { origins, callers } = body as { readonly origins?: unknown; readonly callers?: unknown };
    if (!isListOf(origins, isOriginState) || !isListOf(callers, isCallerState)) {
      throw new Error("it is not the admin API of a sidecar of this version");
    }
    return { origins, callers };
  });
}

function isListOf<T>(value: unknown, is: (each: unknown) => each is T): value is readonly T[] {
  return Array.isArray(value) && value.every(is);
}

/** Something that an admin API says. */
async function fromAdmin<T>(
  url: string,
  token: string | undefined,
  path: string,
  missing: string,
  read: (body: unknown) => T,
): Promise<T> {
  try {
    const headers = { ...(token !== undefined && { authorization: `Bearer ${token}` }) };
    const response = await fetch(new URL(path, url), { headers, signal: AbortSignal.timeout(ADMIN_TIMEOUT_MS) });
    if (response.status === 401) {
      throw new Error("it answered 401; give its token in HOLDFAST_ADMIN_TOKEN or HOLDFAST_ADMIN_TOKEN_FILE");
    }
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    return read(await response.json());
  } catch (error) {
    const { message, cause } = error as Error;
    const reason = cause instanceof Error ? cause.message : message;
    throw new ChainError(`admin=${url}: ${missing} from there: ${reason}`);
  }
}

async function live(url: string, maxWaitMs: number, caFile: string | undefined): Promise<ProbeResult> {
  const parsed = parsePeer(url);
  if ("wrong" in parsed) throw new ChainError(`probe=${url}: ${parsed.wrong}`);
  const ca = caFile === undefined ? undefined : authorities(caFile);
  process.stderr.write(`probing ${parsed.peer.url} for up to ${shown(maxWaitMs)}\n`);
  const { signal } = new AbortController();
  const options = { ...PROBE, ca, maxWaitMs, pace: new Pace(PROBE_RATE), signal, progress: () => {} };
  const result = await probe(parsed.peer, options);
  if (result.status === null) throw new ChainError(`probe=${url}: ${result.notMeasured[0]?.why ?? "no answer"}`);
  return result;
}

function authorities(file: string): string {
  try {
    return readAuthorities(file);
  } catch (error) {
    throw new ChainError(`--ca: ${(error as Error).message}`);
  }
}

function presetsText(): string {
  const rows = [...PRESETS.values()].map((preset) => {
    const { name, title, note, sources } = preset;
    const incoming = incomingText(preset);
    const outgoing = outgoingText(preset);
    const lines = [
      `${title}${note === undefined ? "" : `. ${note}`}`,
      ...(incoming === "" ? [] : [`${preset.device === undefined ? "incoming: " : ""}${incoming}`]),
      ...(outgoing === "" ? [] : [`outgoing: ${outgoing}`]),
      ...sources,
    ];
    return lines.map((line, index) => `${(index === 0 ? name : "").padEnd(26)}${line}\n`).join("");
  });
  return rows.join("");
}

function presetsJson(): string {
  const infinite = (_key: string, value: unknown): unknown => (value === Number.POSITIVE_INFINITY ? "off" : value);
  const presets: readonly Preset[] = [...PRESETS.values()];
  return `${JSON.stringify({ presets }, infinite, 2)}\n`;
}
