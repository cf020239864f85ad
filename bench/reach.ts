/**
 * What Holdfast is to reach, and whether it does.
 *
 * @module
 */
import { HOLDFAST_AT_64 } from "./scenarios/all.ts";
import type { Metric, ScenarioName, ScenarioResult } from "./scenarios/scenario.ts";
import { median } from "./statistics.ts";
import { differences, figures, ratios } from "./summary.ts";

/** How a figure is written. */
export type ReachUnit = "×" | "µs" | "ms" | "KiB" | "MB" | "spans";

/** A figure to reach. */
export interface Reach {
  readonly scenario: ScenarioName;
  readonly text: string;
  readonly unit: ReachUnit;
  /** The figure must be at most this; with `atLeast`, at least this. */
  readonly limit: number;
  readonly atLeast?: boolean;
  /** In each round; none when what it takes was not measured. */
  figures(result: ScenarioResult): readonly number[];
}

/** A figure and whether it was reached. */
export interface Reached {
  readonly scenario: ScenarioName;
  readonly text: string;
  readonly unit: ReachUnit;
  readonly limit: number;
  readonly atLeast: boolean;
  /** Median of the rounds, and the lowest and highest of them. */
  readonly figure: number;
  readonly lowest: number;
  readonly highest: number;
  /** Whether the median is within the limit. */
  readonly holds: boolean;
}

const times =
  (metric: Metric, subject: string, other: string): Reach["figures"] =>
  (result) =>
    ratios(result, metric, subject, other);
const more =
  (metric: Metric, subject: string, other: string): Reach["figures"] =>
  (result) =>
    differences(result, metric, subject, other);
const value =
  (metric: Metric, subject: string, divisor = 1): Reach["figures"] =>
  (result) =>
    figures(result, metric, subject).map((each) => each / divisor);

/** Every figure to reach. */
export const REACH: readonly Reach[] = [
  cpu("small-64", "holdfast", "nginx", 1.35),
  cpu("small-64", "holdfast", "haproxy", 1.35),
  cpu("small-64", "holdfast", "http-proxy-3", 0.33),
  cpu("small-64", "holdfast", "caddy", 0.2),
  {
    ...cpu("small-64", "holdfast-traced", "nginx", 2.3),
    text: "CPU per request with every request traced and exported, to nginx",
  },
  {
    scenario: "small-64",
    text: "spans that arrive per traced request (two, and those of connections)",
    unit: "spans",
    limit: 1.99,
    atLeast: true,
    figures: value("spansPerRequest", "holdfast-traced"),
  },
  {
    ...cpu("small-1024", "holdfast", HOLDFAST_AT_64, 1.15),
    text: "CPU per request at 1,024 connections, to that at 64",
  },
  {
    scenario: "plugins",
    text: "CPU per request that 20 no-op plugins add",
    unit: "µs",
    limit: 1.5,
    figures: more("cpuMicros", "holdfast-20-no-op", "holdfast"),
  },
  {
    scenario: "plugins",
    text: "CPU per request that 20 plugins without hooks add (none; the limit is what one run can tell apart)",
    unit: "µs",
    limit: 0.3,
    figures: more("cpuMicros", "holdfast-20-without-hooks", "holdfast"),
  },
  { ...cpu("large", "holdfast", "nginx", 1.5), text: "CPU per byte of 1 MiB responses, to nginx" },
  {
    scenario: "fixed-rate",
    text: "99th percentile of latency above HAProxy's",
    unit: "ms",
    limit: 0.5,
    figures: more("p99Ms", "holdfast", "haproxy"),
  },
  {
    scenario: "idle",
    text: "memory per idle connection",
    unit: "KiB",
    limit: 12,
    figures: value("bytesPerConnection", "holdfast", 1024),
  },
  { scenario: "start", text: "start to first answer", unit: "ms", limit: 250, figures: value("startMs", "holdfast") },
  {
    scenario: "memory",
    text: "memory of an empty process, telemetry loaded",
    unit: "MB",
    limit: 95,
    figures: value("residentBytes", "holdfast", 1e6),
  },
  {
    scenario: "memory",
    text: "memory of an empty process, telemetry off",
    unit: "MB",
    limit: 70,
    figures: value("residentBytes", "holdfast-telemetry-off", 1e6),
  },
];

function cpu(scenario: ScenarioName, subject: string, other: string, limit: number): Reach {
  return {
    scenario,
    text: `CPU per request, to ${other}`,
    unit: "×",
    limit,
    figures: times("cpuMicros", subject, other),
  };
}

/** Compares what was measured with what is to be reached; figures that were not measured are left out. */
export function compare(results: readonly ScenarioResult[]): Reached[] {
  return REACH.flatMap(({ scenario, text, unit, limit, atLeast = false, figures: read }) => {
    const result = results.find(({ name }) => name === scenario);
    const found = result === undefined ? [] : read(result);
    const figure = median(found);
    if (figure === undefined) return [];
    const holds = atLeast ? figure >= limit : figure <= limit;
    const [lowest, highest] = [Math.min(...found), Math.max(...found)];
    return [{ scenario, text, unit, limit, atLeast, figure, lowest, highest, holds }];
  });
}
