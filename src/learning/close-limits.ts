/**
 * How many requests a peer takes on one connection, and how old it lets one become, told from where connections ended.
 *
 * Pure: evidence goes in and comes out unchanged.
 *
 * @module
 */
import { FORGET_AFTER_MS, LEAST_IDLE_MS } from "./idle-limit.ts";

/** One orderly end of a connection by the peer. All times in milliseconds. */
export interface PeerEnd {
  /** Exchanges that the connection had carried, the last one included. */
  readonly exchanges: number;
  /** Since it opened. */
  readonly ageMs: number;
  /** How long it had carried nothing; 0 when the end was announced with a response. */
  readonly idleMs: number;
  /** Whether the last response said `Connection: close`. */
  readonly announced: boolean;
  /** When it was seen. */
  readonly atMs: number;
}

/** A limit with what it stands on. */
export interface CloseLimit {
  /** Requests, or milliseconds. */
  readonly limit: number;
  /** Whether the peer announces its close there: then it is no danger. */
  readonly announced: boolean;
}

/** What the ends say altogether. */
export interface CloseVerdict {
  readonly requests: CloseLimit | undefined;
  readonly ageMs: CloseLimit | undefined;
}

const NOTHING: CloseVerdict = { requests: undefined, ageMs: undefined };

/** Ends that must agree. */
const AGREEING = 3;
const MAX_ENDS = 8;
/** Counts below this agree by chance, where callers are few: then all the ends that are kept must agree. */
const TELLING_COUNT = 5;
/** Ages of one limit are as close as this, relative to the least: peers check now and then. */
const AGE_SPREAD = 0.05;
/** Idle times as close as this are of an idle limit. */
const IDLE_SPREAD = 0.25;

/** Connections that were open together and end within this time end of one cause, such as a restart. */
const ONE_CAUSE_MS = 1000;

/** The ends with another one, unless it came of the same cause as the last; the oldest leave. */
export function withEnd(ends: readonly PeerEnd[], end: PeerEnd): readonly PeerEnd[] {
  const recent = ends.filter(({ atMs }) => end.atMs - atMs <= FORGET_AFTER_MS);
  const last = recent.at(-1);
  const wasOpenThen = last !== undefined && end.atMs - end.ageMs <= last.atMs;
  if (wasOpenThen && end.atMs - last.atMs < ONE_CAUSE_MS) return recent;
  return [...recent, end].slice(-MAX_ENDS);
}

/** The ends that still tell something once a connection has carried so many exchanges and is open. */
export function withoutFewer(ends: readonly PeerEnd[], exchanges: number): readonly PeerEnd[] {
  return ends.filter((end) => end.exchanges >= exchanges);
}

/**
 * What the last ends agree on. A count explains ends with a response, an age those whose counts and idle times differ;
 * a constant idle time is an idle limit and neither of the two.
 */
export function judgeEnds(ends: readonly PeerEnd[], nowMs: number): CloseVerdict {
  const recent = ends.filter(({ atMs }) => nowMs - atMs <= FORGET_AFTER_MS);
  const withResponse = recent.filter(({ announced, idleMs }) => announced || idleMs < LEAST_IDLE_MS);
  const count = withResponse.at(-1)?.exchanges ?? 0;
  const counted = withResponse.slice(count < TELLING_COUNT ? -MAX_ENDS : -AGREEING);
  if (
    counted.length >= (count < TELLING_COUNT ? MAX_ENDS : AGREEING) &&
    counted.every((end) => end.exchanges === count)
  ) {
    return { requests: { limit: count, announced: counted.every((end) => end.announced) }, ageMs: undefined };
  }
  const last = recent.slice(-AGREEING);
  if (last.length < AGREEING || !isConstant(last, ({ ageMs }) => ageMs, AGE_SPREAD)) return NOTHING;
  const idle = last.filter((end) => !end.announced);
  if (idle.length > 1 && isConstant(idle, ({ idleMs }) => idleMs, IDLE_SPREAD)) return NOTHING;
  // One exchange each and then the same wait tells nothing of age.
  if (isConstant(last, ({ exchanges }) => exchanges, 0)) return NOTHING;
  const limit = Math.min(...last.map(({ ageMs }) => ageMs));
  return { requests: undefined, ageMs: { limit, announced: last.every((end) => end.announced) } };
}

function isConstant(ends: readonly PeerEnd[], of: (end: PeerEnd) => number, spread: number): boolean {
  const values = ends.map(of);
  const least = Math.min(...values);
  return Math.max(...values) - least <= spread * least;
}
