/**
 * The traffic of the demo: callers that make some calls, then pause for about as long as a stock Node.js server keeps
 * an idle connection, then call again.
 *
 * @module
 */
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

/** One call: whether it worked, and if not, why. */
export type Call = (method: "GET" | "POST", target: string) => Promise<string | undefined>;

/** What the callers do at the moment. */
export type Phase = { readonly kind: "calls" } | { readonly kind: "pause"; readonly pauseMs: number };

/** What came of some callers' calls. */
export interface Tally {
  calls: number;
  /** Failed calls by reason. */
  readonly failures: Map<string, number>;
}

/** Calls of one caller between two pauses. */
const CALLS_PER_ROUND = 10;
/** Time between two calls of one caller. */
const GAP_MS = 25;
/** Time between two calls when there is none left for a pause. */
const STEADY_GAP_MS = 100;
/**
 * A stock Node.js server announces 5 s. Since version 24 it closes a second later than that, so a pool that does not
 * know how long its peer keeps a connection meets the close after 6 s.
 */
const PAUSES_MS = [5000, 6000, 6000];
/** About how long one round of calls takes. */
const ROUND_MS = 500;
const CALL_TIMEOUT_MS = 10_000;

/**
 * The pauses between rounds of calls that fit into a time, in milliseconds. They are fixed before the traffic starts, so
 * that a slow machine shows the same, if a little later.
 */
export function pausesIn(seconds: number): number[] {
  const pauses: number[] = [];
  let leftMs = seconds * 1000 - ROUND_MS;
  for (;;) {
    const pauseMs = PAUSES_MS[pauses.length % PAUSES_MS.length]!;
    leftMs -= pauseMs + ROUND_MS;
    if (leftMs < 0) return pauses;
    pauses.push(pauseMs);
  }
}

/** What a caller runs with. */
export interface CallerOptions {
  readonly call: Call;
  readonly tally: Tally;
  /** Place among the callers, from 0; the first one logs out before each pause. */
  readonly index: number;
  /** Between its rounds of calls. */
  readonly pausesMs: readonly number[];
  /** `performance.now()` until which it makes a call now and then after the last round. */
  readonly endAtMs: number;
  readonly signal: AbortSignal;
  readonly onPhase: (phase: Phase) => void;
}

/** Runs one caller to its end. Never rejects. */
export async function runCaller(options: CallerOptions): Promise<void> {
  const { index, pausesMs, endAtMs, signal, onPhase } = options;
  await makeCalls(options);
  for (const pauseMs of pausesMs) {
    if (signal.aborted) return;
    if (index === 0) await count(options, "POST", "/logout");
    onPhase({ kind: "pause", pauseMs });
    // A millisecond apart, so that together they cover the moment at which the server closes.
    await pause(pauseMs - 2 + (index % 4), signal);
    await makeCalls(options);
  }
  while (performance.now() < endAtMs && !signal.aborted) {
    await pause(STEADY_GAP_MS, signal);
    await count(options, "GET", "/orders");
  }
}

async function makeCalls(options: CallerOptions): Promise<void> {
  const { signal, onPhase } = options;
  if (!signal.aborted) onPhase({ kind: "calls" });
  for (let at = 0; at < CALLS_PER_ROUND && !signal.aborted; at++) {
    if (at > 0) await pause(GAP_MS, signal);
    // The first call after a pause must be one that nobody may send twice.
    await count(options, at % 3 === 0 ? "POST" : "GET", "/orders");
  }
}

async function count({ call, tally }: CallerOptions, method: "GET" | "POST", target: string): Promise<void> {
  const failure = await call(method, target);
  tally.calls++;
  if (failure !== undefined) tally.failures.set(failure, (tally.failures.get(failure) ?? 0) + 1);
}

async function pause(timeMs: number, signal: AbortSignal): Promise<void> {
  await sleep(timeMs, undefined, { signal }).catch(() => {});
}

/** Calls an origin over one connection, kept by Node.js's own agent at its defaults. */
export function agentCall(origin: string): Call {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  return (method, target) =>
    new Promise((resolve) => {
      const request = http.request(`${origin}${target}`, { agent, method, timeout: CALL_TIMEOUT_MS }, (response) => {
        const { statusCode = 0 } = response;
        response.resume();
        response.on("end", () => resolve(statusCode < 400 ? undefined : `status ${statusCode}`));
        response.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      });
      request.on("timeout", () => request.destroy(new Error(`no answer within ${CALL_TIMEOUT_MS / 1000} s`)));
      request.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      request.end(method === "POST" ? '{"item":"rope"}' : undefined);
    });
}

/** Nothing called yet. */
export function emptyTally(): Tally {
  return { calls: 0, failures: new Map() };
}

/** How many calls failed. */
export function failed({ failures }: Tally): number {
  return failures.values().reduce((sum, count) => sum + count, 0);
}
