/**
 * Measuring subjects in turns, so that what disturbs the machine disturbs all of them.
 *
 * @module
 */
import type { LoadReport } from "../load/job.ts";
import { cpuMicros, residentBytes } from "../measure.ts";
import type { Upstream } from "../origin/origin.ts";
import type { Peer, RunningPeer } from "../peers/peer.ts";
import { end, noteErrors, run } from "./running.ts";
import type { Bench, Metric, Sample } from "./scenario.ts";

/** A peer under a certain load. */
export interface Subject {
  readonly peer: Peer;
  /** Names it in the result; unique in the scenario. */
  readonly label: string;
  /** Whether what comes back is right. Notes what is not. */
  verify(running: RunningPeer): Promise<boolean>;
  /** Puts the load on it for a time, and tells what was seen. */
  load(running: RunningPeer, seconds: number): Promise<LoadReport>;
}

/**
 * Starts the peers, warms each subject up, measures them in turns and ends them.
 *
 * @param rounds - their numbers
 */
export async function measureInTurns(
  bench: Bench,
  subjects: readonly Subject[],
  upstream: Upstream,
  rounds: readonly number[],
): Promise<readonly Sample[]> {
  const { options, signal } = bench;
  const running = new Map<Peer, RunningPeer>();
  const samples: Sample[] = [];
  const exchanges = new Map<Peer, number>();
  const load = async (subject: Subject, seconds: number): Promise<LoadReport> => {
    signal.throwIfAborted();
    const report = await subject.load(running.get(subject.peer)!, seconds);
    noteErrors(bench, subject.label, report);
    exchanges.set(subject.peer, (exchanges.get(subject.peer) ?? 0) + report.exchanges);
    return report;
  };

  try {
    for (const { peer } of subjects) {
      if (running.has(peer) || !bench.has(peer)) continue;
      const started = await run(bench, peer, upstream);
      if (started !== undefined) running.set(peer, started);
    }
    const ready: Subject[] = [];
    for (const subject of subjects.filter(({ peer }) => running.has(peer))) {
      // The quick load is checked as thoroughly as this, and is as short.
      if (options.quick || (await subject.verify(running.get(subject.peer)!))) ready.push(subject);
    }
    // As the first round will measure them: a process that idles longer between the two is cheaper afterwards.
    for (const subject of options.quick ? [] : inOrderOf(rounds[0] ?? 1, ready))
      await load(subject, options.warmUpSeconds);
    for (const round of rounds) {
      for (const subject of inOrderOf(round, ready)) {
        const { pid } = running.get(subject.peer)!;
        const before = cpuMicros(pid);
        const report = await load(subject, options.seconds);
        const values = valuesOf(report, cpuMicros(pid) - before, residentBytes(pid));
        samples.push({ subject: subject.label, round, values });
      }
    }
  } finally {
    for (const each of running.values()) await end(bench, each);
  }
  // Spans are sent after their exchanges, so they are counted when everything is over.
  for (const [peer, count] of exchanges) {
    const spans = await bench.collector.takeSpans(peer.label);
    if (spans === 0) continue;
    for (const { subject, values } of samples) if (subject === peer.label) values.spansPerRequest = spans / count;
  }
  return samples;
}

/** The numbers of all rounds. */
export function allRounds({ options }: Bench): number[] {
  return Array.from({ length: options.rounds }, (_, index) => index + 1);
}

/** Another one begins each round, and every other round goes backwards: nobody always follows the same one. */
export function inOrderOf<T>(round: number, subjects: readonly T[]): readonly T[] {
  if (subjects.length === 0) return subjects;
  const first = Math.floor((round - 1) / 2) % subjects.length;
  const rotated = [...subjects.slice(first), ...subjects.slice(0, first)];
  return round % 2 === 1 ? rotated : rotated.reverse();
}

function valuesOf(report: LoadReport, cpu: number, resident: number): Partial<Record<Metric, number>> {
  return {
    cpuMicros: cpu / report.exchanges,
    requestsPerSecond: report.exchanges / report.seconds,
    p50Ms: report.p50Ms,
    p99Ms: report.p99Ms,
    residentBytes: resident,
    ...(report.lateP99Ms !== undefined && { lateP99Ms: report.lateP99Ms }),
  };
}
