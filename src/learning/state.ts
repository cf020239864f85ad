/**
 * What was learned, as text that another process can go on from.
 *
 * @module
 */
import type { PeerEnd } from "./close-limits.ts";
import type { IdleClose, IdleEvidence, IdleGroup } from "./idle-limit.ts";
import type { OriginMemory } from "./origin.ts";
import type { PeerMemory } from "./peer.ts";

/** Version of the format: another one is not read. */
const VERSION = 1;

/** Two clocks at one moment: that of the process, which learning goes by, and that on the wall, which outlives it. */
export interface Moment {
  /** As `performance.now()`. */
  readonly nowMs: number;
  /** As `Date.now()`. */
  readonly epochMs: number;
}

/** Writes what is known of each origin. */
export function encodeState(origins: Iterable<readonly [name: string, memory: OriginMemory]>, at: Moment): string {
  const shift = (ms: number): number => Math.round(ms - at.nowMs + at.epochMs);
  const shifted = Object.fromEntries(Array.from(origins, ([name, memory]) => [name, ofOrigin(memory, shift)]));
  return `${JSON.stringify({ version: VERSION, savedAtEpochMs: at.epochMs, origins: shifted })}\n`;
}

/**
 * Reads what {@link encodeState} wrote.
 *
 * @throws Error with one line that says what is wrong
 */
export function decodeState(text: string, at: Moment): ReadonlyMap<string, OriginMemory> {
  const state = object(JSON.parse(text), "the file");
  if (state["version"] !== VERSION)
    throw new Error(`its version is ${JSON.stringify(state["version"])}, not ${VERSION}`);
  // A clock that was set back must not make anything last longer.
  const shift = (ms: number): number => Math.min(at.nowMs, ms - at.epochMs + at.nowMs);
  const origins = new Map<string, OriginMemory>();
  for (const [name, value] of Object.entries(object(state["origins"], "origins"))) {
    const memory = object(value, name);
    const addresses: Record<string, PeerMemory> = {};
    for (const [address, peer] of Object.entries(object(memory["addresses"], `addresses of ${name}`))) {
      addresses[address] = readPeer(object(peer, address), `${name} at ${address}`);
    }
    origins.set(name, ofOrigin({ ...readPeer(memory, name), addresses }, shift));
  }
  return origins;
}

type Shift = (ms: number) => number;

function ofOrigin(memory: OriginMemory, shift: Shift): OriginMemory {
  const addresses = Object.entries(memory.addresses).map(([address, peer]) => [address, ofPeer(peer, shift)] as const);
  return { ...ofPeer(memory, shift), addresses: Object.fromEntries(addresses) };
}

function ofPeer({ idle, ends }: PeerMemory, shift: Shift): PeerMemory {
  const groups = idle.groups.map((group) => {
    const closes = group.closes.map((close) => ({ ...close, atMs: shift(close.atMs) }));
    return { ...group, closes, outlivedAtMs: shift(group.outlivedAtMs) };
  });
  const { restartAtMs } = idle;
  return {
    idle: { groups, restartAtMs: restartAtMs === undefined ? undefined : shift(restartAtMs) },
    ends: ends.map((end) => ({ ...end, atMs: shift(end.atMs) })),
  };
}

function readPeer(value: Readonly<Record<string, unknown>>, where: string): PeerMemory {
  const idle = object(value["idle"], `idle of ${where}`);
  const restartAtMs = idle["restartAtMs"] === undefined ? undefined : number(idle["restartAtMs"], where);
  const groups = list(idle["groups"], `groups of ${where}`).map((group) => readGroup(object(group, where), where));
  const evidence: IdleEvidence = { groups, restartAtMs };
  return {
    idle: evidence,
    ends: list(value["ends"], `ends of ${where}`).map((end) => readEnd(object(end, where), where)),
  };
}

function readGroup(group: Readonly<Record<string, unknown>>, where: string): IdleGroup {
  const closes = list(group["closes"], `closes of ${where}`).map((value): IdleClose => {
    const close = object(value, where);
    const [openMs, closedMs] = [amount(close["openMs"], where), amount(close["closedMs"], where)];
    if (openMs > closedMs) throw new Error(`a connection to ${where} was open after it was closed`);
    return { openMs, closedMs, atMs: number(close["atMs"], where) };
  });
  if (closes.length === 0) throw new Error(`a group of ${where} has no closes`);
  return {
    closes,
    instants: Math.max(1, amount(group["instants"], where)),
    outlived: amount(group["outlived"], where),
    outlivedEver: amount(group["outlivedEver"], where),
    outlivedAtMs: number(group["outlivedAtMs"], where),
    lifted: group["lifted"] === true,
  };
}

function readEnd(end: Readonly<Record<string, unknown>>, where: string): PeerEnd {
  return {
    exchanges: amount(end["exchanges"], where),
    ageMs: amount(end["ageMs"], where),
    idleMs: amount(end["idleMs"], where),
    announced: end["announced"] === true,
    atMs: number(end["atMs"], where),
  };
}

function object(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${where} is not an object`);
  return value as Readonly<Record<string, unknown>>;
}

function list(value: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error(`${where} are not a list`);
  return value;
}

function number(value: unknown, where: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new Error(`a time of ${where} is not a number`);
  return value;
}

function amount(value: unknown, where: string): number {
  const given = number(value, where);
  if (given < 0) throw new Error(`a number of ${where} is below 0`);
  return given;
}
