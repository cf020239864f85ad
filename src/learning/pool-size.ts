/**
 * How many idle connections to keep: what every number would have come to, found out while exchanges pass.
 *
 * Idle connections are a stack, and a pool that keeps at most K of them closes the oldest beyond K. The pool that keeps
 * more always has those that the smaller one has (as with the stack algorithms for caches of Mattson and others, 1970),
 * so one imagined pool that closes nothing tells of all K at once: the connection that it hands out would have been
 * there for K and above, where K is how deep that connection had been in the stack since it was put there.
 *
 * @module
 */

/**
 * Share of exchanges that may have needed a new connection because too few were kept. Half of what is promised: they
 * come in bursts, and the next hour is not the last one.
 */
const ALLOWED_SHARE = 0.005;

/** Exchanges below which there is no advice. */
const LEAST_EXCHANGES = 200;

/** Idle connections that the imagined pool has at most. */
const MOST_IDLE = 4096;

/** After this time, in milliseconds, what happened counts half. */
export const HALF_LIFE_MS = 30 * 60_000;

/** Between two steps of forgetting, in milliseconds. */
const STEP_MS = 60_000;

/** How much one measurement changes the mean time to open a connection. */
const SETUP_WEIGHT = 1 / 8;

/** What a number of kept connections comes to. */
export interface PoolSizeCost {
  /** Idle connections kept at most. */
  readonly kept: number;
  /** Share of exchanges that get a kept connection, from 0 to 1. */
  readonly reusedShare: number;
  /** Connections that have to be opened. */
  readonly handshakesPerSecond: number;
}

/** How many idle connections to keep, and why. */
export interface PoolAdvice {
  readonly arrivalsPerSecond: number;
  /** How long an exchange holds its connection, in milliseconds; the mean, by Little's law. */
  readonly exchangeMs: number;
  /** Connections in use at one time: the mean. */
  readonly meanBusy: number;
  /** The most that were in use at one time within the last hour. */
  readonly peakBusy: number;
  /** What suffices: the least that leaves at most one exchange in a hundred without a kept connection for lack of it. */
  readonly enough: PoolSizeCost;
  readonly oneMore: PoolSizeCost;
  readonly oneLess: PoolSizeCost | undefined;
  /** Share of exchanges that need a new connection however many are kept: none was idle long after, or all had expired. */
  readonly unavoidableShare: number;
  /** How long opening a connection takes, in milliseconds; the mean. `undefined`: none was opened yet. */
  readonly setupMs: number | undefined;
}

/** Watches the exchanges of one pool. Time is that of `performance.now()`. */
export class PoolDemand {
  /** For each idle connection of the imagined pool, the bottom first: how high the stack was at most since it came. */
  readonly #highest: number[] = [];
  /** When each came. */
  readonly #idleSinceMs: number[] = [];
  /** How often an exchange got a connection that at least this many kept ones have; grows as needed. */
  #atDepth = new Float64Array(16);
  #deepest = 0;
  #exchanges = 0;
  #unavoidable = 0;
  #watchedMs = 0;
  #busyMs = 0;
  #busy = 0;
  #peakBusy = 0;
  #peakBusyBefore = 0;
  #peakSinceMs: number;
  #lastMs: number;
  #forgotAtMs: number;
  #setupMs: number | undefined;

  constructor(nowMs: number) {
    this.#lastMs = nowMs;
    this.#forgotAtMs = nowMs;
    this.#peakSinceMs = nowMs;
  }

  /**
   * An exchange takes a connection.
   *
   * @param idleLimitMs - an idle connection is not used from this age on
   */
  begin(nowMs: number, idleLimitMs: number): void {
    this.#pass(nowMs);
    if (++this.#busy > this.#peakBusy) this.#peakBusy = this.#busy;
    this.#exchanges++;
    const top = this.#highest.length - 1;
    if (top === -1) {
      this.#unavoidable++;
      return;
    }
    if (nowMs - this.#idleSinceMs[top]! >= idleLimitMs) {
      // What lies below came earlier.
      this.#highest.length = 0;
      this.#idleSinceMs.length = 0;
      this.#unavoidable++;
      return;
    }
    const highest = this.#highest.pop()!;
    this.#idleSinceMs.pop();
    const depth = highest - top;
    if (depth > this.#deepest) this.#reach(depth);
    this.#atDepth[depth]!++;
    if (top > 0 && this.#highest[top - 1]! < highest) this.#highest[top - 1] = highest;
  }

  /**
   * An exchange is over.
   *
   * @param kept - whether its connection can carry another
   */
  end(nowMs: number, kept: boolean): void {
    this.#pass(nowMs);
    this.#busy--;
    if (!kept || this.#highest.length === MOST_IDLE) return;
    this.#idleSinceMs.push(nowMs);
    this.#highest.push(this.#highest.length + 1);
  }

  /** A connection was opened; that took this long, in milliseconds. */
  opened(setupMs: number): void {
    this.#setupMs = this.#setupMs === undefined ? setupMs : this.#setupMs + SETUP_WEIGHT * (setupMs - this.#setupMs);
  }

  /** Lets what is old count less. */
  sweep(nowMs: number): void {
    const agedMs = nowMs - this.#forgotAtMs;
    if (agedMs < STEP_MS) return;
    this.#pass(nowMs);
    this.#forgotAtMs = nowMs;
    const factor = 2 ** (-agedMs / HALF_LIFE_MS);
    this.#exchanges *= factor;
    this.#unavoidable *= factor;
    this.#watchedMs *= factor;
    this.#busyMs *= factor;
    for (let depth = 1; depth <= this.#deepest; depth++) this.#atDepth[depth]! *= factor;
    if (nowMs - this.#peakSinceMs < HALF_LIFE_MS) return;
    this.#peakBusyBefore = this.#peakBusy;
    this.#peakBusy = this.#busy;
    this.#peakSinceMs = nowMs;
  }

  /** What follows from all that was seen; `undefined` while that is too little. Takes time with the number kept. */
  advice(nowMs: number): PoolAdvice | undefined {
    this.#pass(nowMs);
    if (this.#exchanges < LEAST_EXCHANGES || this.#watchedMs === 0) return undefined;
    let kept = 0;
    let missed = this.#exchanges - this.#unavoidable;
    while (kept < this.#deepest && !isRare(missed, this.#exchanges)) missed -= this.#atDepth[++kept]!;
    const seconds = this.#watchedMs / 1000;
    return {
      arrivalsPerSecond: this.#exchanges / seconds,
      exchangeMs: this.#busyMs / this.#exchanges,
      meanBusy: this.#busyMs / this.#watchedMs,
      peakBusy: Math.max(this.#peakBusy, this.#peakBusyBefore),
      enough: this.cost(kept),
      oneMore: this.cost(kept + 1),
      oneLess: kept === 0 ? undefined : this.cost(kept - 1),
      unavoidableShare: this.#unavoidable / this.#exchanges,
      setupMs: this.#setupMs,
    };
  }

  /** What a number of kept connections would have come to. */
  cost(kept: number): PoolSizeCost {
    let reused = 0;
    for (let depth = Math.min(kept, this.#deepest); depth > 0; depth--) reused += this.#atDepth[depth]!;
    // Sums of what is forgotten bit by bit may differ in the last digits.
    const opened = Math.max(0, this.#exchanges - reused);
    return {
      kept,
      reusedShare: this.#exchanges === 0 ? 0 : reused / this.#exchanges,
      handshakesPerSecond: this.#watchedMs === 0 ? 0 : (opened * 1000) / this.#watchedMs,
    };
  }

  #pass(nowMs: number): void {
    const passedMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    this.#watchedMs += passedMs;
    this.#busyMs += passedMs * this.#busy;
  }

  #reach(depth: number): void {
    this.#deepest = depth;
    if (depth < this.#atDepth.length) return;
    const wider = new Float64Array(2 ** Math.ceil(Math.log2(depth + 1)));
    wider.set(this.#atDepth);
    this.#atDepth = wider;
  }
}

/** Whether few enough of all exchanges missed a kept connection, also at two standard deviations above what was counted. */
function isRare(missed: number, exchanges: number): boolean {
  return missed + 2 * Math.sqrt(missed + 1) <= ALLOWED_SHARE * exchanges;
}
