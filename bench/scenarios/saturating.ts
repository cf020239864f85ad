/**
 * Scenarios in which every connection is always busy: what a request costs.
 *
 * @module
 */
import type { OriginRequest } from "../origin/answers.ts";
import type { Peer, RunningPeer } from "../peers/peer.ts";
import { allRounds, measureInTurns, type Subject } from "./rounds.ts";
import { exchangeWith, verify } from "./running.ts";
import type { Bench, Metric, Sample, Scenario, ScenarioName } from "./scenario.ts";

/** Of each subject with `--quick`. */
const QUICK_EXCHANGES = 200;

const GET_SMALL: OriginRequest = { method: "GET", path: "/small", body: new Uint8Array() };

/** What the scenarios differ in. */
interface Saturation {
  readonly name: ScenarioName;
  readonly title: string;
  readonly peers: readonly Peer[];
  readonly connections: number;
  /** Default: GET of the small JSON. */
  readonly request?: OriginRequest;
  /** Whether each request has a connection of its own. */
  readonly closes?: boolean;
  readonly scheme?: "http" | "https";
  readonly metrics?: readonly Metric[];
  /**
   * Whether processes are started anew for each round. What the JIT makes of the same code differs between processes
   * by more than the small differences that some scenarios look for.
   */
  readonly freshEachRound?: boolean;
  /** A peer that is measured under a second number of connections too, to compare with. */
  readonly also?: { readonly peer: Peer; readonly label: string; readonly connections: number };
}

const METRICS: readonly Metric[] = ["cpuMicros", "requestsPerSecond", "p50Ms", "p99Ms", "residentBytes"];

/** Makes the scenario. */
export function saturating(saturation: Saturation): Scenario {
  const { name, title, metrics = METRICS, scheme = "http", freshEachRound = false } = saturation;
  return {
    name,
    title,
    metrics,
    async run(bench): Promise<readonly Sample[]> {
      const upstream = bench.origin[scheme];
      if (upstream === undefined) {
        bench.note(`${name} is left out: there is no openssl to make a certificate with (Debian package openssl)`);
        return [];
      }
      const rounds = allRounds(bench);
      const samples: Sample[] = [];
      for (const together of freshEachRound ? rounds.map((round) => [round]) : [rounds]) {
        samples.push(...(await measureInTurns(bench, subjects(bench, saturation), upstream, together)));
      }
      return samples;
    },
  };
}

function subjects(
  bench: Bench,
  { peers, connections, request = GET_SMALL, closes = false, also }: Saturation,
): Subject[] {
  const subject = (peer: Peer, label: string, many: number): Subject => {
    const exchange = ({ port }: RunningPeer) => exchangeWith(bench, port, request, closes);
    return {
      peer,
      label,
      verify: (running) => verify(bench, label, exchange(running)),
      load(running, seconds) {
        const until = bench.options.quick ? { exchanges: Math.max(QUICK_EXCHANGES, many) } : { seconds };
        return bench.load.saturate({ kind: "saturating", exchange: exchange(running), connections: many, until });
      },
    };
  };
  const all = peers.map((peer) => subject(peer, peer.label, connections));
  return also === undefined ? all : [...all, subject(also.peer, also.label, also.connections)];
}
