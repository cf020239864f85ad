/**
 * Medians over the rounds, and comparisons within them.
 *
 * @module
 */
import type { Metric, ScenarioResult } from "./scenarios/scenario.ts";
import { median } from "./statistics.ts";

/** One line of a scenario's table. */
export interface Row {
  readonly subject: string;
  /** Median of each metric over the rounds. */
  readonly values: Partial<Record<Metric, number>>;
  /** The scenario's first metric, as a multiple of nginx's and HAProxy's. */
  readonly toNginx: number | undefined;
  readonly toHaproxy: number | undefined;
}

/** The table of a scenario. */
export function summarize(result: ScenarioResult): Row[] {
  const subjects = [...new Set(result.samples.map(({ subject }) => subject))];
  const first = result.metrics[0]!;
  return subjects.map((subject) => {
    const values: Partial<Record<Metric, number>> = {};
    for (const metric of result.metrics) {
      const value = medianOf(result, subject, metric);
      if (value !== undefined) values[metric] = value;
    }
    return {
      subject,
      values,
      toNginx: ratio(result, first, subject, "nginx"),
      toHaproxy: ratio(result, first, subject, "haproxy"),
    };
  });
}

/** Median of a metric over the rounds; `undefined`: it was not measured. */
export function medianOf(result: ScenarioResult, subject: string, metric: Metric): number | undefined {
  return median(pairs(result, metric, subject, subject).map(([value]) => value));
}

/** Median over the rounds of one subject's value divided by another's in the same round. */
export function ratio(result: ScenarioResult, metric: Metric, subject: string, other: string): number | undefined {
  return median(pairs(result, metric, subject, other).map(([one, two]) => one / two));
}

/** Median over the rounds of one subject's value less another's in the same round. */
export function difference(result: ScenarioResult, metric: Metric, subject: string, other: string): number | undefined {
  return median(pairs(result, metric, subject, other).map(([one, two]) => one - two));
}

function pairs({ samples }: ScenarioResult, metric: Metric, subject: string, other: string): [number, number][] {
  const ofOther = new Map(samples.filter((each) => each.subject === other).map((each) => [each.round, each]));
  return samples
    .filter((each) => each.subject === subject)
    .flatMap(({ round, values }) => {
      const one = values[metric];
      const two = ofOther.get(round)?.values[metric];
      return one === undefined || two === undefined ? [] : [[one, two]];
    });
}
