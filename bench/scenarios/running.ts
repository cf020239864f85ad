/**
 * What scenarios have in common: peers that run, and exchanges with them that are right.
 *
 * @module
 */
import type { Exchange, LoadReport } from "../load/job.ts";
import type { OriginRequest } from "../origin/answers.ts";
import type { Upstream } from "../origin/origin.ts";
import { type Peer, type RunningPeer, startPeer } from "../peers/peer.ts";
import type { Bench } from "./scenario.ts";

/** Starts a peer on its core. `undefined`, with a problem noted: it does not start. */
export async function run(bench: Bench, peer: Peer, upstream: Upstream): Promise<RunningPeer | undefined> {
  bench.signal.throwIfAborted();
  const setting = { parent: bench.folder, upstream, collector: bench.collector.url(peer.label) };
  try {
    return await startPeer(peer, setting, bench.cores.proxy);
  } catch (error) {
    bench.problem(`${peer.label}: ${messageOf(error)}`);
    return undefined;
  }
}

/** Ends a peer and notes what it complained of. */
export async function end(bench: Bench, running: RunningPeer): Promise<void> {
  try {
    for (const complaint of await running.stop()) bench.problem(`${running.peer.label} says: ${complaint}`);
  } catch (error) {
    bench.problem(messageOf(error));
  }
}

/** Notes what the load generator found wrong. */
export function noteErrors(bench: Bench, what: string, { errors }: LoadReport): void {
  for (const [reason, count] of Object.entries(errors)) bench.problem(`${what}: ${reason} (${count} times)`);
}

/** A request of a scenario with what must come back. */
export function exchangeWith(bench: Bench, port: number, request: OriginRequest, closes = false): Exchange {
  return { ...request, port, closes, expected: bench.origin.answer(request) };
}

/**
 * 200 exchanges on 8 connections: every byte must be right before anything is measured.
 *
 * @returns whether they were; else a problem is noted
 */
export async function verify(bench: Bench, what: string, exchange: Exchange): Promise<boolean> {
  const until = { exchanges: 200 };
  const report = await bench.load.check({ kind: "saturating", exchange, connections: 8, until });
  noteErrors(bench, what, report);
  if (report.exchanges === until.exchanges) return true;
  bench.problem(`${what} is not measured: ${report.exchanges} of ${until.exchanges} exchanges were right`);
  return false;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
