/**
 * How often an inversion is met, from a simple model: the requests of a link come at random (Poisson) and are spread
 * over its connections, so that the time between two requests on one connection is exponential.
 *
 * @module
 */
import type { Circumstances } from "./finding.ts";

/** What a wake-up on either side takes, besides the way. */
const WAKE_UP_MS = 1;
/** Round trip where nobody says: two machines of one data centre. */
const NEAR_MS = 1;
const DAY_MS = 86_400_000;

/**
 * Requests a day that are sent while the close of an idle connection is on its way.
 *
 * A connection is idle for T, the peer's limit, with probability e^(−λT), where λ is the rate of requests on one
 * connection; the next request falls into the window W = round trip + wake-up with probability 1 − e^(−λW).
 *
 * @param ratePerMs - requests a millisecond over the link
 */
export function racesPerDay(ratePerMs: number, connections: number, limitMs: number, rttMs = NEAR_MS): number {
  const rate = ratePerMs / connections;
  return DAY_MS * ratePerMs * Math.exp(-rate * limitMs) * -Math.expm1(-rate * (rttMs + WAKE_UP_MS));
}

/**
 * The most of {@link racesPerDay} that there can be for one connection, at any rate: at λ = 2/T, when a request comes
 * every T/2 on average.
 */
export function mostRacesPerDay(limitMs: number, rttMs = NEAR_MS): number {
  return racesPerDay(2 / limitMs, 1, limitMs, rttMs);
}

/** Requests a day that come after a pause longer than a device remembers: each of them is lost. */
export function lossesPerDay(ratePerMs: number, connections: number, forgetsMs: number): number {
  return DAY_MS * ratePerMs * Math.exp((-ratePerMs / connections) * forgetsMs);
}

/** How often a race is met, in words. */
export function racesText(
  { requestsPerSecond, connections }: Circumstances,
  limitMs: number,
  rttMs: number | undefined,
): string {
  if (requestsPerSecond !== undefined) {
    const perDay = racesPerDay(requestsPerSecond / 1000, connections, limitMs, rttMs);
    return `about ${amount(perDay)} a day at ${requestsPerSecond} requests/s over ${connections} connections`;
  }
  const most = mostRacesPerDay(limitMs, rttMs);
  return `at most ${amount(most)} a day for each kept connection, when a request comes about every ${seconds(limitMs / 2)}; hardly ever on connections that are always busy`;
}

/** How often a forgotten connection is met, in words. */
export function lossesText({ requestsPerSecond, connections }: Circumstances, forgetsMs: number): string {
  if (requestsPerSecond !== undefined) {
    const perDay = lossesPerDay(requestsPerSecond / 1000, connections, forgetsMs);
    return `about ${amount(perDay)} a day at ${requestsPerSecond} requests/s over ${connections} connections`;
  }
  const most = lossesPerDay(1 / forgetsMs, 1, forgetsMs);
  return `each request that comes after a pause of ${seconds(forgetsMs)} or more on its connection: at most ${amount(most)} a day for each`;
}

function amount(value: number): string {
  if (value >= 10) return String(Math.round(value));
  return value >= 0.01 ? value.toPrecision(2) : "fewer than 0.01";
}

function seconds(ms: number): string {
  return ms >= 1000 ? `${Math.round(ms / 100) / 10} s` : `${Math.round(ms)} ms`;
}
