/**
 * Latencies and errors of a run.
 *
 * @module
 */
import { percentile } from "../statistics.ts";
import type { LoadReport } from "./job.ts";

/** After so many errors there is nothing left to measure. */
const MOST_ERRORS = 1000;

/** Collects what a load generator sees. */
export class Tally {
  readonly #latenciesMs: number[] = [];
  readonly #latenessMs: number[] = [];
  readonly #errors = new Map<string, number>();
  #errorCount = 0;

  get exchanges(): number {
    return this.#latenciesMs.length;
  }

  get isHopeless(): boolean {
    return this.#errorCount >= MOST_ERRORS;
  }

  done(latencyMs: number): void {
    this.#latenciesMs.push(latencyMs);
  }

  left(latenessMs: number): void {
    this.#latenessMs.push(latenessMs);
  }

  error(reason: string): void {
    this.#errorCount++;
    this.#errors.set(reason, (this.#errors.get(reason) ?? 0) + 1);
  }

  report(seconds: number): LoadReport {
    const latencies = Float64Array.from(this.#latenciesMs).sort();
    const lateness = Float64Array.from(this.#latenessMs).sort();
    return {
      exchanges: latencies.length,
      seconds,
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
      errors: Object.fromEntries(this.#errors),
      lateP99Ms: lateness.length === 0 ? undefined : percentile(lateness, 0.99),
    };
  }
}
