/**
 * What a scenario is and what comes out of it.
 *
 * @module
 */
import type { Collector } from "../collector.ts";
import type { Cores } from "../cores.ts";
import type { Load } from "../load.ts";
import type { Options } from "../options.ts";
import type { Origin } from "../origin/origin.ts";
import type { Peer } from "../peers/peer.ts";

/** Every scenario that `--only` can name, in the order in which they run. */
export const SCENARIO_NAMES = [
  "small-64",
  "small-1024",
  "post-1k",
  "large",
  "new-connections",
  "plugins",
  "https",
  "fixed-rate",
  "idle",
  "start",
  "memory",
] as const;

/** A name that `--only` knows. */
export type ScenarioName = (typeof SCENARIO_NAMES)[number];

/** Whether `--only` knows a name. */
export function isScenarioName(name: string): name is ScenarioName {
  return (SCENARIO_NAMES as readonly string[]).includes(name);
}

/** What can be measured. */
export type Metric =
  /** CPU time of the proxy per request. */
  | "cpuMicros"
  | "requestsPerSecond"
  | "p50Ms"
  | "p99Ms"
  /** Resident memory of the proxy. */
  | "residentBytes"
  /** Growth of resident memory per idle connection. */
  | "bytesPerConnection"
  /** Spans that reached the collector per request, over all rounds. */
  | "spansPerRequest"
  /** From starting the process to its first answer. */
  | "startMs"
  /** How much later than planned the load generator's requests left, 99th percentile. */
  | "lateP99Ms";

/** One measurement of one subject. */
export interface Sample {
  /** Label of the peer, or of the variation of it that was measured. */
  readonly subject: string;
  /** From 1. Samples of one round were taken one after the other. */
  readonly round: number;
  readonly values: Partial<Record<Metric, number>>;
}

/** What came out of a scenario. */
export interface ScenarioResult {
  readonly name: ScenarioName;
  readonly title: string;
  /** What its table shows, the most important first. */
  readonly metrics: readonly Metric[];
  readonly samples: readonly Sample[];
}

/** What scenarios run on. */
export interface Bench {
  readonly options: Options;
  /** For everything that is written on the way. */
  readonly folder: string;
  readonly cores: Cores;
  readonly origin: Origin;
  readonly collector: Collector;
  readonly load: Load;
  /** Whether a peer is installed and asked for. */
  has(peer: Peer): boolean;
  /** Says something that a reader of the result must know. */
  note(text: string): void;
  /** Notes something that must not happen; the run then ends with exit code 1. */
  problem(text: string): void;
  /** Aborted when the run is to end. */
  readonly signal: AbortSignal;
}

/** A scenario. */
export interface Scenario {
  readonly name: ScenarioName;
  readonly title: string;
  readonly metrics: readonly Metric[];
  run(bench: Bench): Promise<readonly Sample[]>;
}
