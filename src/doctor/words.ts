/**
 * One hop as it is written: `aws-alb:idle=120s,rtt=2ms`.
 *
 * @module
 */
import { nearest } from "../config/faults.ts";
import { parseDuration } from "../config/units.ts";
import type { Device, Hop, HttpHop, Side } from "./hop.ts";

/** What is wrong with a chain as it was written: one line that says what, where and what is allowed. */
export class ChainError extends Error {
  override readonly name = "ChainError";
}

/** A hop as it is written. */
export interface Word {
  /** The text before the colon: a preset, or a file. */
  readonly use: string;
  /** What is set apart from it. */
  readonly overrides: ReadonlyMap<string, string>;
}

/** Takes `use:key=value,key=value` apart. A URL or Windows path before it keeps its colons. */
export function parseWord(text: string): Word {
  const match = /^(.*?)(?::((?:[\w.-]+=[^,=]*)(?:,[\w.-]+=[^,=]*)*))?$/.exec(text);
  const [, use = text, settings] = match ?? [];
  const overrides = new Map<string, string>();
  for (const part of settings?.split(",") ?? []) {
    const [key = "", value = ""] = part.split("=");
    if (overrides.has(key)) throw new ChainError(`${text}: ${key} stands twice`);
    overrides.set(key, value);
  }
  return { use, overrides };
}

type Change = (hop: HttpHop, value: string) => HttpHop;

const both =
  (change: (value: string) => Partial<Side>): Change =>
  (hop, value) => ({ ...hop, ...down(hop, change(value)), ...up(hop, change(value)) });

function down(hop: HttpHop, change: Partial<NonNullable<HttpHop["downstream"]>>): Pick<HttpHop, "downstream"> {
  return { downstream: hop.downstream === undefined ? undefined : { ...hop.downstream, ...change } };
}

function up(hop: HttpHop, change: Partial<NonNullable<HttpHop["upstream"]>>): Pick<HttpHop, "upstream"> {
  return { upstream: hop.upstream === undefined ? undefined : { ...hop.upstream, ...change } };
}

const SIDE_KEYS: Readonly<Record<string, (value: string) => Partial<Side>>> = {
  keepalive: (value) => ({ keepAlive: yes(value) }),
  idle: (value) => ({ idleMs: parseDuration(value), idleEvidence: undefined }),
  max: (value) => ({ maxRequests: number(value) }),
  age: (value) => ({ maxAgeMs: parseDuration(value) }),
  "tcp-keepalive": (value) => ({ tcpKeepAliveMs: parseDuration(value) }),
};

const HTTP_KEYS: Readonly<Record<string, Change>> = {
  name: (hop, value) => ({ ...hop, name: value }),
  rtt: (hop, value) => ({ ...hop, rttMs: parseDuration(value) }),
  tls: (hop, value) => ({ ...hop, tls: yes(value) }),
  drain: (hop, value) => ({ ...hop, drainMs: parseDuration(value) }),
  deregistration: (hop, value) => ({ ...hop, deregistrationMs: parseDuration(value) }),
  hint: (hop, value) => ({
    ...hop,
    ...down(hop, { announcedMs: value === "off" ? undefined : parseDuration(value) }),
  }),
  "announces-end": (hop, value) => ({ ...hop, ...down(hop, { announcesEnd: yes(value) }) }),
  "reads-hint": (hop, value) => ({ ...hop, ...up(hop, { readsHint: yes(value) }) }),
  "hint-if-asked": (hop, value) => ({ ...hop, ...down(hop, { announcesIfAsked: yes(value) }) }),
  "asks-hint": (hop, value) => ({ ...hop, ...up(hop, { asksForHint: yes(value) }) }),
  "hint-margin": (hop, value) => ({ ...hop, ...up(hop, { hintMarginMs: parseDuration(value) }) }),
  ...Object.fromEntries(Object.entries(SIDE_KEYS).map(([key, change]) => [key, both(change)])),
  ...Object.fromEntries(
    Object.entries(SIDE_KEYS).map(([key, change]): [string, Change] => [
      `downstream.${key}`,
      (hop, value) => ({ ...hop, ...down(hop, change(value)) }),
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(SIDE_KEYS).map(([key, change]): [string, Change] => [
      `upstream.${key}`,
      (hop, value) => ({ ...hop, ...up(hop, change(value)) }),
    ]),
  ),
};

const DEVICE_KEYS: Readonly<Record<string, (device: Device, value: string) => Device>> = {
  name: (device, value) => ({ ...device, name: value }),
  forgets: (device, value) => ({ ...device, forgetsMs: parseDuration(value) }),
  idle: (device, value) => ({ ...device, forgetsMs: parseDuration(value) }),
  reset: (device, value) => ({ ...device, resets: yes(value) }),
};

/**
 * A hop with what was set apart.
 *
 * @throws ChainError that names key and value
 */
export function override(hop: Hop, overrides: ReadonlyMap<string, string>): Hop {
  let changed = hop;
  for (const [key, value] of overrides) {
    changed =
      changed.kind === "device"
        ? apply(changed, DEVICE_KEYS, key, value)
        : followIdle(apply(changed, HTTP_KEYS, key, value), key, overrides);
  }
  return changed;
}

/**
 * A limit of incoming connections that is set apart: what was counted under the old one says nothing of it, and who
 * announces its limit announces the new one, unless something else is said.
 */
function followIdle(hop: HttpHop, key: string, overrides: ReadonlyMap<string, string>): HttpHop {
  const { downstream } = hop;
  if (downstream === undefined || (key !== "idle" && key !== "downstream.idle")) return hop;
  const isFollowed = downstream.announcedMs !== undefined && !overrides.has("hint");
  const announcedMs = isFollowed ? downstream.idleMs : downstream.announcedMs;
  return { ...hop, ...down(hop, { announcedMs, closedHere: undefined }) };
}

function apply<T extends Hop>(
  hop: T,
  keys: Readonly<Record<string, (hop: T, value: string) => T>>,
  key: string,
  value: string,
): T {
  const change = Object.hasOwn(keys, key) ? keys[key] : undefined;
  if (change === undefined) {
    const names = Object.keys(keys);
    const suggestion = nearest(key, names);
    const allowed = suggestion === undefined ? `keys: ${names.join(", ")}` : `did you mean ${suggestion}?`;
    throw new ChainError(`${hop.name}: unknown key "${key}"; ${allowed}`);
  }
  try {
    return change(hop, value);
  } catch (error) {
    throw new ChainError(`${hop.name}: ${key}=${value} is not valid; ${(error as Error).message}`);
  }
}

function yes(value: string): boolean {
  if (["on", "yes", "true"].includes(value)) return true;
  if (["off", "no", "false"].includes(value)) return false;
  throw new TypeError("must be on or off");
}

function number(value: string): number {
  if (value === "off") return Number.POSITIVE_INFINITY;
  if (!/^[1-9]\d{0,9}$/.test(value)) throw new TypeError('must be a whole number above 0, or "off"');
  return Number(value);
}
