/**
 * Sending spans and metrics away without ever troubling traffic: what cannot be delivered is dropped and counted, and
 * the log says so at most once a minute.
 *
 * @module
 */
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import type { PushMetricExporter } from "@opentelemetry/sdk-metrics";
import type { Logger } from "../plugin/api.ts";

const LOG_INTERVAL_MS = 60_000;

/** Logs failed deliveries, at most one line a minute, and at the end how much was lost in all. */
export class DeliveryLog {
  readonly #log: Pick<Logger, "warn">;
  readonly #signal: "spans" | "metrics";
  readonly #url: string;
  readonly #now: () => number;
  #lastAtMs = Number.NEGATIVE_INFINITY;
  #lostSince = 0;
  #lost = 0;
  #reason = "";

  /** @param now - milliseconds of a clock that never goes back */
  constructor(log: Pick<Logger, "warn">, signal: "spans" | "metrics", url: string, now = () => performance.now()) {
    this.#log = log;
    this.#signal = signal;
    this.#url = url;
    this.#now = now;
  }

  /** @param lost - spans, or exports of metrics, that were not delivered */
  failed(error: unknown, lost: number): void {
    this.#lost += lost;
    this.#lostSince += lost;
    this.#reason = reasonOf(error);
    if (this.#now() - this.#lastAtMs < LOG_INTERVAL_MS) return;
    this.#lastAtMs = this.#now();
    this.#warn(`does not take our ${this.#signal} (${this.#reason}); traffic is not affected`);
  }

  /**
   * Nothing is sent any more: says how much was lost in all, if anything was.
   *
   * @param undelivered - how much was given up just now, because it took too long
   */
  end(undelivered = 0): void {
    if (undelivered > 0) {
      this.#lost += undelivered;
      this.#lostSince += undelivered;
      this.#reason = "not delivered in time";
    }
    if (this.#lost === 0) return;
    this.#warn(`did not take ${this.#lost} of our ${this.#signal} in all; the last reason: ${this.#reason}`);
  }

  #warn(what: string): void {
    this.#log.warn({ lost: this.#lostSince, reason: this.#reason }, `telemetry: the collector at ${this.#url} ${what}`);
    this.#lostSince = 0;
  }
}

/** The exporter puts the collector's answer into `message`; a refused connection has its reason in `code` or inside. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "no reason given";
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error.message === "" && "code" in error ? String(error.code) : error.message;
}

/** Told of spans that were lost: how many, and why. */
export type SpansLost = (spans: number, cause: unknown) => void;

/** A metric exporter that reports its failures. */
export function reportedMetrics(exporter: PushMetricExporter, onFailure: (error: unknown) => void): PushMetricExporter {
  return {
    export(metrics, done) {
      exportSafely(exporter, metrics, (result) => {
        if (result.code !== ExportResultCode.SUCCESS) onFailure(result.error);
        done(result);
      });
    },
    forceFlush: () => exporter.forceFlush(),
    shutdown: () => exporter.shutdown(),
  };
}

interface Exporter<T, R> {
  export(items: T, done: (result: R | ExportResult) => void): void;
}

/** Exports; an exporter that throws has failed. */
export function exportSafely<T, R>(exporter: Exporter<T, R>, items: T, done: (result: R | ExportResult) => void): void {
  try {
    exporter.export(items, done);
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    done({ code: ExportResultCode.FAILED, error });
  }
}
