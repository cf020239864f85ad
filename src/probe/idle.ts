/**
 * How long a peer keeps idle connections: opening several, and waiting.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pace } from "./pace.ts";
import type { IdleConnection, IdleMeasured } from "./result.ts";
import { type Approach, type End, Visit } from "./visit.ts";

/** What is waited for. */
export interface IdleOptions {
  /** Requests before the wait. */
  readonly requests: 0 | 1;
  /** How many connections. */
  readonly connections: number;
  readonly maxWaitMs: number;
  /** Called as each connection begins to wait and when it is over. */
  readonly progress: (change: "waits" | "over") => void;
}

interface Waited extends IdleConnection {
  /** Of a connection that stayed open: whether a request on it was answered. */
  readonly answers: boolean | undefined;
}

/**
 * Measures. When the signal aborts, what was seen so far is the result: connections that are open then count as open
 * for as long as they were watched.
 *
 * @throws HoldfastError when no connection could be brought to wait
 */
export async function measureIdle(approach: Approach, pace: Pace, options: IdleOptions): Promise<IdleMeasured> {
  const all = await Promise.allSettled(
    Array.from({ length: options.connections }, () => waitOnOne(approach, pace, options)),
  );
  const waited = all.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  if (waited.length === 0) throw (all[0] as PromiseRejectedResult).reason;
  return summary(waited);
}

function summary(waited: readonly Waited[]): IdleMeasured {
  const closedMs = waited.filter(({ end }) => end !== "open").map(({ idleMs }) => idleMs);
  const answers = waited.flatMap(({ answers }) => (answers === undefined ? [] : [answers]));
  return {
    shortestMs: closedMs.length === 0 ? null : Math.min(...closedMs),
    longestMs: closedMs.length === 0 ? null : Math.max(...closedMs),
    waitedMs: Math.max(...waited.map(({ idleMs }) => idleMs)),
    stillAnswers: answers.length === 0 ? null : answers.every(Boolean),
    connections: waited.map(({ answers: _, ...connection }) => connection),
  };
}

async function waitOnOne(approach: Approach, pace: Pace, options: IdleOptions): Promise<Waited> {
  const { requests, maxWaitMs, progress } = options;
  const { signal } = approach;
  await pace.turn(signal);
  const visit = await Visit.open(approach);
  try {
    const sinceMs = requests === 0 ? visit.openedAtMs : (await visit.request()).endedAtMs;
    const address = visit.address ?? null;
    progress("waits");
    const over = new AbortController();
    const end = await Promise.race([
      visit.ended,
      sleep(Math.max(0, sinceMs + maxWaitMs - performance.now()), undefined, {
        signal: AbortSignal.any([signal, over.signal]),
      }).catch(() => undefined),
    ]);
    over.abort();
    progress("over");
    const ended = ({ atMs, by, said }: End): Waited => {
      return { address, idleMs: atMs - sinceMs, end: by, said: said ?? null, answers: undefined };
    };
    if (end !== undefined) return ended(end);
    const idleMs = performance.now() - sinceMs;
    const answers = signal.aborted ? undefined : await stillAnswers(approach, pace, visit);
    if (answers === false) {
      // It was there until just now. A reset, though, is what a device sends that had forgotten the connection.
      const late = await Promise.race([visit.ended, undefined]);
      if (late?.by === "fin") return ended(late);
    }
    return { address, idleMs, end: "open", said: null, answers };
  } finally {
    visit.close();
  }
}

/** Whether the connection is there, and not only nobody said that it is gone. */
async function stillAnswers(approach: Approach, pace: Pace, visit: Visit): Promise<boolean | undefined> {
  try {
    await pace.turn(approach.signal);
    await visit.request();
    return true;
  } catch {
    return approach.signal.aborted ? undefined : false;
  }
}
