/**
 * What is known of one peer, ready to be asked for every exchange.
 *
 * @module
 */
import { type CloseLimit, type CloseVerdict, judgeEnds, type PeerEnd, withEnd, withoutFewer } from "./close-limits.ts";
import {
  type IdleClose,
  type IdleEstimate,
  type IdleEvidence,
  type IdleVerdict,
  judgeIdle,
  LEAST_IDLE_MS,
  NO_IDLE_EVIDENCE,
  withClose,
  withOpen,
} from "./idle-limit.ts";

/** A peer that has closed nothing so far is trusted to keep an idle connection this long, in milliseconds. */
export const TRUSTED_IDLE_MS = 1000;

/** Least margin before a learned limit, in milliseconds. */
const LEAST_MARGIN_MS = 1.5;
/** How late a busy peer may read what has come: its own limit it may notice first. In milliseconds. */
const LEAST_PEER_LATE_MS = 2;
const PEER_LATE = 0.04;
const MOST_PEER_LATE_MS = 5;
/** Where the limit is longer, the margin is more than what our own event loop may be late, in milliseconds. */
const TIMED_BELOW_MS = 1000;
/** Margin as a part of the limit, and the most that it comes to, in milliseconds. */
const MARGIN = 0.02;
const MOST_MARGIN_MS = 1000;
const NO_MEMORY: PeerMemory = { idle: NO_IDLE_EVIDENCE, ends: [] };

/** How long what was seen open is believed, in milliseconds: once to twice this. */
const PROOF_LASTS_MS = 6 * 3_600_000;

/** How long a limit on requests is kept to before one connection may go beyond it, in milliseconds: it may be gone. */
const TRY_BEYOND_MS = 10 * 60_000;

/** What a {@link LearnedPeer} remembers: its evidence. Times are those of the clock it was told by. Plain JSON. */
export interface PeerMemory {
  readonly idle: IdleEvidence;
  readonly ends: readonly PeerEnd[];
}

/**
 * How much earlier than a learned limit a connection is left: a part of the limit, more as long as it is not sure, and
 * the way there and back, because the peer began to count when it sent the response and counts on until the request
 * arrives.
 *
 * @param roundTripMs - in milliseconds
 */
export function learnedMarginMs({ limitMs, closes }: IdleEstimate, roundTripMs: number): number {
  const own = Math.max(LEAST_MARGIN_MS, Math.min(MOST_MARGIN_MS, MARGIN * limitMs));
  return own * (1 + 1 / closes) + roundTripMs;
}

/** What is sure of a peer. */
export interface PeerLimits {
  /** The peer keeps an idle connection at least this long, in milliseconds. */
  readonly idleTimeoutMs: number | undefined;
  /** From 0 to 1: how sure that is. */
  readonly confidence: number;
  /** When an idle connection is left because of it, in milliseconds. */
  readonly leaveAfterMs: number | undefined;
  /** How many requests it takes on one connection. */
  readonly maxRequests: number | undefined;
  /** How old it lets a connection become, in milliseconds. */
  readonly maxAgeMs: number | undefined;
}

const NO_LIMITS: PeerLimits = {
  idleTimeoutMs: undefined,
  confidence: 0,
  leaveAfterMs: undefined,
  maxRequests: undefined,
  maxAgeMs: undefined,
};

/** One peer: an origin as a whole, or one address of it. */
export class LearnedPeer {
  /** An idle connection must not be used from this idle age on, in milliseconds; `Infinity`: nothing is known. */
  usableIdleMs = Number.POSITIVE_INFINITY;
  /** The peer ends a connection after so many exchanges without a word; `Infinity`: nothing is known. */
  leaveAfterExchanges = Number.POSITIVE_INFINITY;
  /** The peer ends a connection at this age without a word, in milliseconds; `Infinity`: nothing is known. */
  leaveAfterAgeMs = Number.POSITIVE_INFINITY;
  /** Whether it matters how late the event loop may have been when a connection became idle. */
  timesIdle = true;
  /** What is sure, all in one; another object after each change. */
  known: PeerLimits = NO_LIMITS;
  /** From this idle age on a connection may be closed, in milliseconds. */
  #suspectIdleMs = Number.POSITIVE_INFINITY;
  /** A connection that was seen open beyond this idle age is worth telling of. */
  #tellingMs = Number.POSITIVE_INFINITY;
  /** The longest that a connection was seen open while idle: lately, and before that. */
  #provenMs = 0;
  #provenBeforeMs = 0;
  #provenSinceMs = 0;
  #roundTripMs = 0;
  /** When the limit on requests was last confirmed, or a connection last let beyond it. */
  #triedAtMs: number;

  #idle: IdleEvidence;
  #ends: readonly PeerEnd[];
  #verdict: IdleVerdict = { limit: undefined, suspicion: undefined, tellingMs: Number.POSITIVE_INFINITY };
  #ending: CloseVerdict = { requests: undefined, ageMs: undefined };
  /** What holds where this peer's own closes say nothing. */
  readonly #general: LearnedPeer | undefined;
  readonly #onJudged: (nowMs: number) => void;

  /**
   * @param general - the origin that the peer belongs to, which learns all that the peer learns; `undefined` for the
   *   origin itself
   * @param memory - what is known from before
   * @param onJudged - called after new evidence was looked at
   */
  constructor(
    nowMs: number,
    general: LearnedPeer | undefined,
    memory: PeerMemory = NO_MEMORY,
    onJudged: (nowMs: number) => void = () => {},
  ) {
    this.#general = general;
    this.#onJudged = onJudged;
    this.#idle = memory.idle;
    this.#ends = memory.ends;
    this.#provenSinceMs = nowMs;
    this.#triedAtMs = nowMs;
    this.judge(nowMs, general?.roundTripMs ?? 0);
  }

  /** The limit that holds; `undefined` when none is known. */
  get limit(): IdleEstimate | undefined {
    const own = this.#verdict.limit;
    if (own === undefined) return this.#inherited();
    // All addresses together have seen more.
    const general = this.#general?.limit;
    const agrees = general !== undefined && general.limitMs > own.limitMs && general.limitMs <= own.closedMs;
    return agrees ? general : own;
  }

  /** Requests per connection and age of a connection, where the peer ends them. */
  get ending(): CloseVerdict {
    return this.#ending;
  }

  get roundTripMs(): number {
    return this.#roundTripMs;
  }

  /** The longest that a connection was seen open while idle, in milliseconds. */
  get provenMs(): number {
    return Math.max(this.#provenMs, this.#provenBeforeMs);
  }

  get memory(): PeerMemory {
    return { idle: this.#idle, ends: this.#ends };
  }

  /** Whether no connection to the peer was seen open yet after it had been idle for so long. */
  isUntried(idleMs: number): boolean {
    return idleMs > LEAST_IDLE_MS && idleMs + this.#roundTripMs > this.provenMs;
  }

  /** Whether a connection that is idle for so long may be closed by the time a request reaches the peer. */
  isDoubtful(idleMs: number): boolean {
    if (idleMs >= this.#suspectIdleMs) return true;
    return idleMs > TRUSTED_IDLE_MS && idleMs + this.#roundTripMs > this.provenMs;
  }

  /** A connection that had been idle for so long was open: a response came on it, or we closed it. Once per idle time. */
  survived(idleMs: number, nowMs: number): void {
    if (idleMs > this.#provenMs) this.#provenMs = idleMs;
    if (idleMs > this.#tellingMs) this.#told(withOpen(this.#idle, idleMs, nowMs), nowMs);
    this.#general?.survived(idleMs, nowMs);
  }

  /** An idle connection is still open at this idle age; to be told as often as one likes. */
  seenOpen(idleMs: number): void {
    if (idleMs > this.#provenMs) this.#provenMs = idleMs;
    this.#general?.seenOpen(idleMs);
  }

  /** The peer closed an idle connection. */
  closed(close: IdleClose): void {
    this.#general?.closed(close);
    this.#told(withClose(this.#idle, close), close.atMs);
  }

  /** The peer ended a connection. */
  ended(end: PeerEnd): void {
    this.#general?.ended(end);
    this.#ends = withEnd(this.#ends, end);
    this.#triedAtMs = end.atMs;
    this.#judgeEnds(end.atMs);
  }

  /**
   * Whether a connection that is open after so many exchanges is better left. Now and then one is not, to see whether
   * the limit still holds: {@link isBeyond} says which.
   */
  leavesAfter(exchanges: number, nowMs: number): boolean {
    if (exchanges < this.leaveAfterExchanges) return false;
    if (exchanges > this.leaveAfterExchanges) {
      this.#ends = withoutFewer(this.#ends, exchanges);
      this.#judgeEnds(nowMs);
      return false;
    }
    if (nowMs - this.#triedAtMs < TRY_BEYOND_MS) return true;
    this.#triedAtMs = nowMs;
    return false;
  }

  /** Whether the peer may end the connection after the next exchange, or before. */
  isBeyond(exchanges: number): boolean {
    return exchanges >= this.leaveAfterExchanges;
  }

  /** Forgets what is old. */
  sweep(nowMs: number): void {
    if (nowMs - this.#provenSinceMs < PROOF_LASTS_MS) return;
    this.#provenBeforeMs = this.#provenMs;
    this.#provenMs = 0;
    this.#provenSinceMs = nowMs;
    this.judge(nowMs, this.#roundTripMs);
  }

  /** Looks at the evidence again: time has passed, or the way has become longer. */
  judge(nowMs: number, roundTripMs: number): void {
    this.#roundTripMs = roundTripMs;
    this.#verdict = judgeIdle(this.#idle, nowMs, this.provenMs);
    const { suspicion, tellingMs } = this.#verdict;
    const { limit } = this;
    this.usableIdleMs = limit === undefined ? Number.POSITIVE_INFINITY : usable(limit, roundTripMs);
    this.timesIdle = limit === undefined || limit.limitMs < TIMED_BELOW_MS;
    const suspectMs = suspicion === undefined ? Number.POSITIVE_INFINITY : usable(suspicion, roundTripMs);
    const soonestMs = Math.min(this.usableIdleMs, suspectMs);
    const peerLateMs = Math.max(LEAST_PEER_LATE_MS, Math.min(MOST_PEER_LATE_MS, PEER_LATE * soonestMs));
    this.#suspectIdleMs = Math.max(0, soonestMs - peerLateMs);
    this.#tellingMs = tellingMs;
    this.#judgeEnds(nowMs);
  }

  #judgeEnds(nowMs: number): void {
    this.#ending = judgeEnds(this.#ends, nowMs);
    const { requests, ageMs } = this.#ending;
    this.leaveAfterExchanges = unannounced(requests);
    this.leaveAfterAgeMs = unannounced(ageMs) * (1 - MARGIN) - this.#roundTripMs;
    const { limit } = this;
    this.known = {
      idleTimeoutMs: limit?.limitMs,
      confidence: limit?.confidence ?? 0,
      leaveAfterMs: limit === undefined ? undefined : this.usableIdleMs,
      maxRequests: requests?.limit,
      maxAgeMs: ageMs?.limit,
    };
  }

  #told(evidence: IdleEvidence, nowMs: number): void {
    this.#idle = evidence;
    this.judge(nowMs, this.#roundTripMs);
    this.#onJudged(nowMs);
  }

  /** What other addresses of the origin do, unless this one has shown that it does not. */
  #inherited(): IdleEstimate | undefined {
    const general = this.#general?.limit;
    return general === undefined || this.provenMs > general.outlivedMs ? undefined : general;
  }
}

function usable(estimate: IdleEstimate, roundTripMs: number): number {
  return Math.max(0, estimate.limitMs - learnedMarginMs(estimate, roundTripMs));
}

function unannounced(limit: CloseLimit | undefined): number {
  return limit === undefined || limit.announced ? Number.POSITIVE_INFINITY : limit.limit;
}
