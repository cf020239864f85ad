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
      const value = median(figures(result, metric, subject));
      if (value !== undefined) values[metric] = value;
    }
    return {
      subject,
      values,
      toNginx: median(ratios(result, first, subject, "nginx")),
      toHaproxy: median(ratios(result, first, subject, "haproxy")),
    };
  });
}

/** A metric in each round in which it was measured. */
export function figures(result: ScenarioResult, metric: Metric, subject: string): number[] {
  return pairs(result, metric, subject, subject).map(([value]) => value);
}

/** In each round one subject's value divided by another's. */
export function ratios(result: ScenarioResult, metric: Metric, subject: string, other: string): number[] {
  return pairs(result, metric, subject, other).map(([one, two]) => one / two);
}

/** In each round one subject's value less another's. */
export function differences(result: ScenarioResult, metric: Metric, subject: string, other: string): number[] {
  return pairs(result, metric, subject, other).map(([one, two]) => one - two);
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
