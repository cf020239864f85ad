/**
 * Scenarios of the simulation and what is measured in each. `npm run simulate` runs many; the tests run a few.
 *
 * @module
 */
import { Random } from "../proxy/wire/random.ts";
import { type SimulatedOrigin, Simulation } from "./simulation.ts";

/** What one origin is like, drawn from a seed. */
export interface Drawn {
  readonly seed: number;
  readonly origin: SimulatedOrigin;
  readonly wayMs: number;
  /**
   * The smallest time that any replica ever keeps an idle connection, in milliseconds: of one that varies it, the lower
   * end of its range, which is below all that it was seen to do.
   */
  readonly trueMs: number;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** An origin with a limit from 0.05 to 120 s, with and without ±10 % jitter, one to three replicas. */
export function draw(seed: number): Drawn {
  const random = new Random(seed);
  const limitMs = 50 * 2400 ** (random.below(1_000_001) / 1_000_000);
  const replicas = 1 + random.below(3);
  const isMixed = random.oneIn(2);
  // What differs between replicas is an old and a new setting, not a few per cent.
  const limitsMs = Array.from({ length: replicas }, (_, at) => (isMixed ? limitMs * 1.6 ** at : limitMs));
  const jitter = random.oneIn(2) ? 0.1 : 0;
  const wayMs = Math.min(limitMs / 50, random.pick([0.05, 0.25, 1, 15]));
  const origin = { limitsMs, jitter, showsAddresses: random.oneIn(2) };
  return { seed, origin, wayMs, trueMs: limitMs * (1 - jitter) };
}

/** What was learned from the first closes of a peer. */
export interface Learned {
  readonly drawn: Drawn;
  /** Closes of replicas with the smallest limit until a limit was known. */
  readonly closes: number;
  /** What was learned after the wanted number of them, relative to the true limit: −0.01 is 1 % below. `undefined`: nothing yet. */
  readonly error: number | undefined;
  readonly errorMs: number | undefined;
  /**
   * As {@link error}, of the most that is certain to whoever knows each time that was seen exactly, and that they vary by
   * 10 % either way: the longest of them may be the longest that there is.
   */
  readonly certainError: number;
  readonly simulation: Simulation;
  readonly random: Random;
}

/** Sparse traffic until replicas with the smallest limit have closed connections so often. */
export function learn(seed: number, wanted = 3): Learned {
  const drawn = draw(seed);
  const { origin, wayMs, trueMs } = drawn;
  const random = new Random(seed + 1);
  const options = { random, origin, wayMs, configuredMs: Number.POSITIVE_INFINITY, canaries: 1, posts: 0.5 };
  const simulation = new Simulation(options);
  const longestMs = Math.max(...origin.limitsMs);
  let closes: number | undefined;
  const known = (): number | undefined => smallestLearned(simulation);
  while (simulation.counts.smallestCloses < wanted) {
    simulation.request(longestMs * exponential(random));
    if (closes === undefined && known() !== undefined) closes = simulation.counts.smallestCloses;
  }
  const limitMs = known();
  return {
    drawn,
    closes: closes ?? Number.POSITIVE_INFINITY,
    error: limitMs === undefined ? undefined : limitMs / trueMs - 1,
    errorMs: limitMs === undefined ? undefined : limitMs - trueMs,
    certainError: (simulation.longestSmallestMs * (1 - origin.jitter)) / (1 + origin.jitter) / trueMs - 1,
    simulation,
    random,
  };
}

/** The smallest limit that is known of any peer, in milliseconds. */
export function smallestLearned(simulation: Simulation): number | undefined {
  const limits = [simulation.learned.whole, ...[...simulation.learned.addresses()].map(([, peer]) => peer)]
    .map(({ limit }) => limit?.limitMs)
    .filter((limit) => limit !== undefined);
  return limits.length === 0 ? undefined : Math.min(...limits);
}

/** Whether what was learned is close enough: 2 % or 20 ms below, 12 % under jitter, and never above. */
export function isClose({ drawn, error, errorMs }: Learned): boolean {
  if (error === undefined || errorMs === undefined || errorMs > 0) return false;
  return errorMs >= -20 || error >= leastError(drawn);
}

/** Whether what was seen made a close enough limit certain. */
export function couldBeClose({ drawn, certainError }: Learned): boolean {
  return drawn.trueMs * certainError >= -20 || certainError >= leastError(drawn);
}

function leastError({ origin }: Drawn): number {
  return origin.jitter > 0 ? -0.12 : -0.02;
}

/** Requests that come as the peer closes. */
export function atTheEdge({ drawn, simulation, random }: Learned, exchanges: number): { races: number } {
  const before = simulation.counts.races;
  const edgeMs = drawn.trueMs;
  for (let at = 0; at < exchanges; at++) {
    simulation.request(edgeMs * (0.94 + 0.12 * uniform(random)));
  }
  return { races: simulation.counts.races - before };
}

/** Share of reuse relative to a pool that knows the limit: connections that are idle for half of it, on average. */
export function reuseOfOracle({ drawn, simulation, random }: Learned, exchanges: number): number {
  const { origin, wayMs } = drawn;
  const before = simulation.counts.reused;
  // It knows what is sure: the smallest time that this origin ever uses, and the way.
  const knownMs = drawn.trueMs - 2 * wayMs;
  let oracle = 0;
  for (let at = 0; at < exchanges; at++) {
    // The last one is answered by then.
    const gapMs = 2 * wayMs + 10 + (Math.min(...origin.limitsMs) / 2) * exponential(random);
    const idleMs = (simulation.newestIdleMs ?? Number.POSITIVE_INFINITY) + gapMs;
    if (idleMs < knownMs) oracle++;
    simulation.request(gapMs);
  }
  return (simulation.counts.reused - before) / oracle;
}

/** What became of an origin that changed its limit. */
export interface Moved {
  /** Requests that met a closing connection from the change until the new limit was known. */
  readonly races: number;
  /** From the change until the new limit was known, in milliseconds. */
  readonly tookMs: number;
}

/** The origin changes its limit at once, for all connections that become idle from then on. */
export function move(seed: number, fromMs: number, toMs: number, canaries: number): Moved {
  const random = new Random(seed);
  const origin: SimulatedOrigin = { limitsMs: [fromMs], jitter: 0, showsAddresses: true };
  const options = { random, origin, wayMs: 0.5, configuredMs: 2 * Math.max(fromMs, toMs), canaries, posts: 0.5 };
  const simulation = new Simulation(options);
  while (simulation.counts.closes < 4) simulation.request(2 * fromMs * exponential(random));
  // Traffic to which both limits matter.
  const shorterMs = Math.min(fromMs, toMs);
  for (let at = 0; at < 50; at++) simulation.request(shorterMs * exponential(random));
  const before = simulation.counts.races;
  const changedAtMs = simulation.nowMs;
  origin.limitsMs = [toMs];
  const isKnown = (): boolean => {
    const usableMs = Math.min(...[...simulation.learned.addresses()].map(([, peer]) => peer.usableIdleMs));
    return toMs < fromMs ? usableMs < toMs : usableMs > fromMs;
  };
  while (!isKnown() && simulation.nowMs - changedAtMs < DAY_MS) simulation.request(shorterMs * exponential(random));
  return { races: simulation.counts.races - before, tookMs: simulation.nowMs - changedAtMs };
}

/** Days of traffic. */
export interface Days {
  readonly exchanges: number;
  readonly reuse: number;
  readonly races: number;
  /** Requests that could not be sent again. */
  readonly lost: number;
  readonly closes: number;
}

/** Traffic that comes and goes with the day, a restart of the origin every eight hours, and a new limit every day. */
export function days(seed: number, count: number): Days {
  const random = new Random(seed);
  const origin: SimulatedOrigin = { limitsMs: [60_000], jitter: 0, showsAddresses: random.oneIn(2) };
  const options = { random, origin, wayMs: 0.5, configuredMs: 55_000, canaries: 1, posts: 0.5 };
  const simulation = new Simulation(options);
  let restartAtMs = 8 * HOUR_MS;
  let changeAtMs = DAY_MS;
  while (simulation.nowMs < count * DAY_MS) {
    const hour = (simulation.nowMs % DAY_MS) / HOUR_MS;
    // From one request in 300 ms at noon to one in 30 s at night.
    const meanMs = 300 * 100 ** ((1 + Math.cos((hour / 12) * Math.PI)) / 2);
    simulation.request(meanMs * exponential(random));
    if (simulation.nowMs >= restartAtMs) {
      simulation.restart();
      restartAtMs += 8 * HOUR_MS;
    }
    if (simulation.nowMs >= changeAtMs) {
      const limitMs = random.pick([2000, 5000, 15_000, 60_000, 75_000]);
      origin.limitsMs = random.oneIn(3) ? [limitMs, limitMs * 2] : [limitMs];
      origin.jitter = random.oneIn(3) ? 0.1 : 0;
      changeAtMs += DAY_MS;
    }
  }
  const { exchanges, reused, races, lost, closes } = simulation.counts;
  return { exchanges, reuse: reused / exchanges, races, lost, closes };
}

function uniform(random: Random): number {
  return random.below(1 << 24) / (1 << 24);
}

function exponential(random: Random): number {
  return -Math.log(1 - uniform(random));
}
