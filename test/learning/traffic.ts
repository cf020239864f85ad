/** Made-up exchanges, and what a pool makes of them. */

/** One exchange, in milliseconds. */
export interface Arrival {
  readonly atMs: number;
  /** How long it holds its connection. */
  readonly holdMs: number;
}

/** Numbers from 0 to below 1 that are the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Kinds of traffic. */
export const TRAFFIC = {
  /** 100 a second, at random, 50 ms each: 5 in use on average. */
  poisson: { calm: { lastsMs: Number.POSITIVE_INFINITY, gapMs: 10 }, burst: undefined, holdMs: 50, slowShare: 0 },
  /** Nothing for 3 s on average, then 333 a second for half a second. */
  "on and off": {
    calm: { lastsMs: 3000, gapMs: Number.POSITIVE_INFINITY },
    burst: { lastsMs: 500, gapMs: 3 },
    holdMs: 70,
    slowShare: 0,
  },
  /** A Markov-modulated Poisson process: 50 a second, for 2 s in 12 ten times that; one in 20 takes ten times as long. */
  modulated: {
    calm: { lastsMs: 10_000, gapMs: 20 },
    burst: { lastsMs: 2000, gapMs: 2 },
    holdMs: 40,
    slowShare: 0.05,
  },
} as const;

/** See {@link TRAFFIC}. */
export type TrafficKind = keyof typeof TRAFFIC;

/** So many exchanges of a kind of traffic. */
export function arrivals(kind: TrafficKind, count: number, random: () => number): Arrival[] {
  const { calm, burst, holdMs, slowShare } = TRAFFIC[kind];
  const exponential = (mean: number) => -Math.log(1 - random()) * mean;
  const found: Arrival[] = [];
  let nowMs = 0;
  let isBurst = false;
  let untilMs = exponential(Math.min(calm.lastsMs, 1e12));
  while (found.length < count) {
    const phase = isBurst && burst !== undefined ? burst : calm;
    const nextMs = nowMs + (phase.gapMs === Number.POSITIVE_INFINITY ? phase.gapMs : exponential(phase.gapMs));
    if (nextMs >= untilMs) {
      // Without a memory, so that it may begin anew.
      nowMs = untilMs;
      isBurst = !isBurst;
      untilMs = nowMs + exponential((isBurst && burst !== undefined ? burst : calm).lastsMs);
      continue;
    }
    nowMs = nextMs;
    found.push({ atMs: nowMs, holdMs: exponential(random() < slowShare ? 10 * holdMs : holdMs) });
  }
  return found;
}

/** Calls `begin` and `end` in the order of time. */
export function play(
  exchanges: readonly Arrival[],
  begin: (nowMs: number) => void,
  end: (nowMs: number) => void,
): void {
  const ends = exchanges.map(({ atMs, holdMs }) => atMs + holdMs).sort((a, b) => a - b);
  let next = 0;
  for (const { atMs } of exchanges) {
    while (next < ends.length && ends[next]! <= atMs) end(ends[next++]!);
    begin(atMs);
  }
  while (next < ends.length) end(ends[next++]!);
}

/** A pool as plain as can be: keeps so many idle connections, closes the oldest beyond, hands out the newest. */
export class PlainPool {
  readonly #kept: number;
  readonly #idleSinceMs: number[] = [];
  exchanges = 0;
  /** Connections that it opened. */
  opened = 0;

  constructor(kept: number) {
    this.#kept = kept;
  }

  begin(nowMs: number, idleLimitMs: number): void {
    this.exchanges++;
    while (this.#idleSinceMs.length > 0 && nowMs - this.#idleSinceMs[0]! >= idleLimitMs) this.#idleSinceMs.shift();
    if (this.#idleSinceMs.pop() === undefined) this.opened++;
  }

  end(nowMs: number, kept: boolean): void {
    if (!kept) return;
    this.#idleSinceMs.push(nowMs);
    if (this.#idleSinceMs.length > this.#kept) this.#idleSinceMs.shift();
  }

  get reusedShare(): number {
    return 1 - this.opened / this.exchanges;
  }
}
