/**
 * What a running sidecar has measured, from its `GET /origins`, as facts about hops: the peers that it calls, and those
 * who call it.
 *
 * @module
 */
import type { PoolSizeBody } from "../learning/pool-advice.ts";
import type { Downstream, Evidence, HttpHop, Measured } from "./hop.ts";
import { downstreamOf, hopOf } from "./preset.ts";
import { shown } from "./shown.ts";

/** Milliseconds, where `"off"` is no limit. */
type Ms = number | "off";

/** An idle limit that was learned. */
export interface LearnedIdle {
  readonly timeoutMs: Ms;
  readonly confidence: number;
  readonly closes: number;
}

/** What was learned of a peer. */
export interface LearnedState {
  readonly idle: (LearnedIdle & { readonly leaveAfterMs: Ms }) | null;
  readonly requests: { readonly max: number; readonly announced: boolean } | null;
  readonly age: { readonly maxMs: number; readonly announced: boolean } | null;
  readonly openAtMs: number;
}

/** One origin of `GET /origins`, described in docs/admin/origins.md. */
export interface OriginState {
  readonly direction: string;
  readonly origin: string;
  readonly backend: string | null;
  readonly pool: {
    readonly connections: number;
    readonly idle: number;
    readonly watched: number;
    readonly queued: number;
  };
  readonly idleLimit: {
    readonly effectiveMs: Ms;
    readonly source: Evidence["source"];
    readonly configuredMs: Ms;
    readonly hintMs: Ms | null;
  } | null;
  readonly learned: LearnedState;
  readonly roundTripMs: number;
  readonly addresses: readonly (LearnedState & { readonly address: string })[];
  readonly poolSize: Omit<PoolSizeBody, "idleKept"> & { readonly idleKept: number | "off" };
}

/** Those who call, of one direction. */
export interface CallerState {
  readonly direction: string;
  readonly idle: LearnedIdle | null;
  readonly closedByUs: { readonly count: number; readonly of: number };
}

function has(value: unknown, ...keys: readonly string[]): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && keys.every((key) => Object.hasOwn(value, key));
}

function isLearned(value: unknown): boolean {
  return has(value, "idle", "requests", "age", "openAtMs");
}

/** Whether it has the form of an origin: a sidecar of another version may write another one. */
export function isOriginState(value: unknown): value is OriginState {
  return (
    has(value, "direction", "origin", "backend", "idleLimit", "roundTripMs") &&
    has(value["pool"], "connections", "idle", "watched", "queued") &&
    has(value["poolSize"], "idleKept", "advice") &&
    isLearned(value["learned"]) &&
    Array.isArray(value["addresses"]) &&
    value["addresses"].every(isLearned)
  );
}

/** Whether it has the form of callers. */
export function isCallerState(value: unknown): value is CallerState {
  return has(value, "direction", "idle") && has(value["closedByUs"], "count", "of");
}

/** Limits of addresses behind one name that differ by more than this factor are told apart. */
const DIFFERENT = 1.1;
/** So many of the last idle connections closed by us, and callers keep connections longer than we do. */
const MANY_CLOSED_BY_US = 10;
/** Of so many, it tells something that most were not. */
const MANY_ENDED = 20;

/** A number of milliseconds. */
export function msOf(value: Ms): number {
  return value === "off" ? Number.POSITIVE_INFINITY : value;
}

/** When the sidecar leaves an idle connection to the origin, and why; `undefined` when nothing but configuration says. */
export function leaves(
  { idleLimit, learned }: OriginState,
  isLearning: boolean,
): { readonly idleMs: number; readonly evidence: Evidence } | undefined {
  // The newest connection may lead to an address with a longer limit than the origin's.
  const learnedMs = learned.idle === null || !isLearning ? Number.POSITIVE_INFINITY : msOf(learned.idle.leaveAfterMs);
  const effectiveMs = idleLimit === null ? Number.POSITIVE_INFINITY : msOf(idleLimit.effectiveMs);
  if (learnedMs === Number.POSITIVE_INFINITY && idleLimit === null) return undefined;
  const source = learnedMs <= effectiveMs ? "learned" : idleLimit!.source;
  const isLearned = source === "learned" && learned.idle !== null;
  return {
    idleMs: Math.min(learnedMs, effectiveMs),
    evidence: {
      source,
      confidence: isLearned ? learned.idle.confidence : undefined,
      closes: isLearned ? learned.idle.closes : undefined,
    },
  };
}

/** What the sidecar has measured of an origin and the requests to it. */
export function measuredOf(origin: OriginState): Measured {
  const { pool, roundTripMs, poolSize } = origin;
  return {
    requestsPerSecond: poolSize.advice?.arrivalsPerSecond,
    connections: Math.max(1, pool.connections),
    rttMs: roundTripMs > 0 ? roundTripMs : undefined,
    receiver: receiverOf(origin),
  };
}

function receiverOf({ learned, idleLimit, addresses }: OriginState): Downstream {
  const { idle, requests, age, openAtMs } = learned;
  const hintMs = idleLimit?.hintMs ?? null;
  return downstreamOf({
    // Every connection ends with its first response.
    keepAlive: requests?.max !== 1,
    idleMs: idle !== null ? msOf(idle.timeoutMs) : openAtMs > 0 ? openAtMs : undefined,
    isAtLeast: idle === null && openAtMs > 0,
    idleEvidence: idle === null ? undefined : { source: "learned", confidence: idle.confidence, closes: idle.closes },
    announcedMs: hintMs === null ? undefined : msOf(hintMs),
    maxRequests: requests?.max ?? Number.POSITIVE_INFINITY,
    maxAgeMs: age?.maxMs ?? Number.POSITIVE_INFINITY,
    announcesEnd: requests?.announced ?? true,
    announcesAge: age?.announced,
    notes: addressNotes(addresses),
  });
}

/** Replicas behind one name that do not have the same limit. */
function addressNotes(addresses: OriginState["addresses"]): string[] {
  const limits = addresses.flatMap(({ address, idle }) =>
    idle === null ? [] : [{ address, ms: msOf(idle.timeoutMs) }],
  );
  const all = limits.map(({ ms }) => ms);
  if (limits.length < 2 || Math.max(...all) <= DIFFERENT * Math.min(...all)) return [];
  const each = limits.map(({ address, ms }) => `${address} after ${shown(ms)}`);
  return [`addresses differ: ${each.join(", ")}`];
}

/** An origin as the last hop of a chain. */
export function measuredHop(name: string, origin: OriginState): HttpHop {
  const hop = hopOf({ name, title: name, sources: [], downstream: receiverOf(origin), settings: {} });
  if (hop.kind !== "http") throw new TypeError("an origin speaks HTTP");
  return { ...hop, product: "measured", tls: origin.origin.startsWith("https:") };
}

/**
 * What the sidecar says of its connections to an origin, for people.
 *
 * @param configuredMs - the idle limit that is configured for them
 */
export function upstreamNotes(origin: OriginState, evidence: Evidence | undefined, configuredMs: number): string[] {
  const { pool, learned, poolSize } = origin;
  const why: string[] = [];
  if (evidence?.source === "learned") why.push(`that is learned, ${sureText(evidence)}`);
  else if (evidence?.source === "hint") why.push("that is what the origin announces, less a margin");
  else if (evidence?.source === "configured") why.push("that is configured");
  if (evidence !== undefined && evidence.source !== "configured") why.push(configuredText(configuredMs));
  if (learned.idle === null && learned.openAtMs > 0)
    why.push(`the longest idle one seen open: ${shown(learned.openAtMs)}`);
  const { connections, idle, watched, queued } = pool;
  const counts = [
    `${connections} ${connections === 1 ? "connection" : "connections"}`,
    `${idle} idle`,
    ...(watched > 0 ? [`${watched} left alone to learn from`] : []),
    ...(queued > 0 ? [`${queued} requests waiting for one`] : []),
  ];
  const rate =
    poolSize.advice === null ? "" : `; ${Number(poolSize.advice.arrivalsPerSecond.toPrecision(3))} requests/s`;
  return [...(why.length > 0 ? [why.join("; ")] : []), `${counts.join(", ")}${rate}`];
}

function configuredText(ms: number): string {
  return ms === Number.POSITIVE_INFINITY ? "configured without limit" : `configured ${shown(ms)}`;
}

/** What the sidecar says of those who call it, for people. */
export function callerNotes({ idle, closedByUs }: CallerState): string[] {
  return [
    ...(idle === null ? [] : [`callers close after ${shown(msOf(idle.timeoutMs))}, learned, ${sureText(idle)}`]),
    ...(closedByUs.of > 0 ? [`closed ${closedByUs.count} of the last ${closedByUs.of} idle ones itself`] : []),
  ];
}

/** Whether callers are seen to keep idle connections longer than the sidecar. */
export function isOutlived({ closedHere }: Downstream): boolean {
  return closedHere !== undefined && closedHere.count >= MANY_CLOSED_BY_US;
}

/** Whether callers are seen to close idle connections before the sidecar does. */
export function isOutlasting({ closedHere }: Downstream): boolean {
  return closedHere !== undefined && closedHere.of >= MANY_ENDED && closedHere.count < MANY_CLOSED_BY_US;
}

/** "99.8 % sure from 8 closes". */
export function sureText({ confidence, closes }: Pick<Evidence, "confidence" | "closes">): string {
  const sure = `${Number(((confidence ?? 0) * 100).toFixed(1))} % sure`;
  return closes === undefined ? sure : `${sure} from ${closes} ${closes === 1 ? "close" : "closes"}`;
}
