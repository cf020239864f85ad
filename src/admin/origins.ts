/**
 * `GET /origins`: what is known of every origin, and which limit follows from it.
 *
 * @module
 */
import type { LearnedPeer } from "../learning/peer.ts";
import { poolSizeBody } from "../learning/pool-advice.ts";
import { originText } from "./connections.ts";
import type { OriginView } from "./view.ts";

/** The body of `GET /origins`. */
export interface OriginList {
  /** In the order in which they were called first. */
  readonly origins: readonly object[];
}

/** Describes the pools of all directions. */
export function listOrigins(pools: Iterable<OriginView>): OriginList {
  return { origins: Array.from(pools, describe) };
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
    idle:
      limit === undefined
        ? null
        : {
            timeoutMs: rounded(limit.limitMs),
            leaveAfterMs: rounded(peer.usableIdleMs),
            confidence: Math.round(limit.confidence * 1000) / 1000,
            closes: limit.closes,
          },
    requests: requests === undefined ? null : { max: requests.limit, announced: requests.announced },
    age: ageMs === undefined ? null : { maxMs: rounded(ageMs.limit), announced: ageMs.announced },
    openAtMs: rounded(provenMs),
  };
}

/** To a tenth of a millisecond. */
function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}
