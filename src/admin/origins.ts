/**
 * `GET /origins`: what is known of every origin, and which limit follows from it.
 *
 * @module
 */
import type { Callers } from "../learning/callers.ts";
import type { IdleEstimate } from "../learning/idle-limit.ts";
import type { LearnedPeer } from "../learning/peer.ts";
import { poolSizeBody } from "../learning/pool-advice.ts";
import type { Direction } from "../plugin/api.ts";
import { originText } from "./connections.ts";
import type { OriginView } from "./view.ts";

/** The body of `GET /origins`. */
export interface OriginList {
  /** In the order in which they were called first. */
  readonly origins: readonly object[];
  /** How long callers keep idle connections to us, per direction. */
  readonly callers: readonly object[];
}

/** Describes the pools of all directions, and who calls. */
export function listOrigins(
  pools: Iterable<OriginView>,
  callers: Iterable<readonly [direction: Direction, callers: Callers]>,
): OriginList {
  return {
    origins: Array.from(pools, describe),
    callers: Array.from(callers, ([direction, each]) => {
      const limit = each.limit(performance.now());
      return { direction, idle: limit === undefined ? null : describeLimit(limit), closedByUs: each.closedByUs };
    }),
  };
}

function describeLimit({ limitMs, confidence, closes }: IdleEstimate): object {
  return { timeoutMs: rounded(limitMs), confidence: Math.round(confidence * 1000) / 1000, closes };
}

function describe(pool: OriginView): object {
  const { learned } = pool;
  const addresses = Array.from(learned.addresses(), ([address, peer]) => ({ address, ...describePeer(peer) }));
  return {
    direction: pool.direction,
    origin: originText(pool.origin),
    backend: pool.backend?.name ?? null,
    pool: { connections: pool.connections, idle: pool.idle, watched: pool.watched, queued: pool.queued },
    idleLimit: idleLimit(pool),
    learned: describePeer(learned.whole),
    roundTripMs: rounded(learned.whole.roundTripMs),
    addresses,
    poolSize: poolSizeBody(pool.origin.scheme, pool.idleKept, pool.advice),
  };
}

/** As the newest connection has it: limits are stated per connection. */
function idleLimit({ open }: OriginView): object | null {
  const newest = [...open].at(-1);
  if (newest === undefined) return null;
  const { idleLimitMs, idleLimitSource, keepAlive, hint } = newest;
  return {
    effectiveMs: rounded(idleLimitMs),
    source: idleLimitSource,
    configuredMs: keepAlive.idleTimeoutMs,
    hintMs: hint?.timeoutMs ?? null,
  };
}

function describePeer(peer: LearnedPeer): object {
  const { limit, ending, provenMs } = peer;
  const { requests, ageMs } = ending;
  return {
    idle: limit === undefined ? null : { ...describeLimit(limit), leaveAfterMs: rounded(peer.usableIdleMs) },
    requests: requests === undefined ? null : { max: requests.limit, announced: requests.announced },
    age: ageMs === undefined ? null : { maxMs: rounded(ageMs.limit), announced: ageMs.announced },
    openAtMs: rounded(provenMs),
  };
}

/** To a tenth of a millisecond. */
function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}
