/**
 * Sending spans and metrics away without ever troubling traffic: what cannot be delivered is dropped and counted, and
 * the log says so at most once a minute.
 *
 * @module
 */
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import type { PushMetricExporter } from "@opentelemetry/sdk-metrics";
import { BatchSpanProcessor, type ReadableSpan, type SpanExporter, type SpanProcessor } from "@opentelemetry/sdk-trace";
import type { Logger } from "../plugin/api.ts";
import type { BatchSettings } from "./settings.ts";

const LOG_INTERVAL_MS = 60_000;

/** Logs failed deliveries, at most one line a minute. */
export class DeliveryLog {
  readonly #log: Pick<Logger, "warn">;
  readonly #signal: "spans" | "metrics";
  readonly #url: string;
  readonly #now: () => number;
  #lastAtMs = Number.NEGATIVE_INFINITY;
  #failuresSince = 0;

  /** @param now - milliseconds of a clock that never goes back */
  constructor(log: Pick<Logger, "warn">, signal: "spans" | "metrics", url: string, now = () => performance.now()) {
    this.#log = log;
    this.#signal = signal;
    this.#url = url;
    this.#now = now;
  }

  failed(error: unknown): void {
    this.#failuresSince++;
    if (this.#now() - this.#lastAtMs < LOG_INTERVAL_MS) return;
    this.#lastAtMs = this.#now();
    const reason = reasonOf(error);
    this.#log.warn(
      { failures: this.#failuresSince, reason },
      `telemetry: the collector at ${this.#url} does not take our ${this.#signal} (${reason}); traffic is not affected`,
    );
    this.#failuresSince = 0;
  }
}

/** The exporter puts the collector's answer into `message`; a refused connection has its reason in `code` or inside. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "no reason given";
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error.message === "" && "code" in error ? String(error.code) : error.message;
}

/**
 * Sends spans in batches. Keeps at most `maxQueueSize` of them, the ones being sent not counted.
 *
 * @param onDropped - told how many spans were lost
 */
export function batchedSpans(
  exporter: SpanExporter,
  settings: BatchSettings,
  onDropped: (spans: number) => void,
  onFailure: (error: unknown) => void,
): SpanProcessor {
  return new CountedBatches(exporter, settings, onDropped, onFailure);
}

/**
 * The SDK's batch processor knows how many spans it drops, but tells nobody. So its queue is counted here: in by
 * `onEnd`, out by the exporter's `export`, and what does not fit is not handed to it.
 */
class CountedBatches implements SpanProcessor {
  readonly #batches: BatchSpanProcessor;
  readonly #exporter: SpanExporter;
  readonly #maxQueueSize: number;
  readonly #onDropped: (spans: number) => void;
  #queued = 0;
  #isClosed = false;

  constructor(
    exporter: SpanExporter,
    settings: BatchSettings,
    onDropped: (spans: number) => void,
    onFailure: (error: unknown) => void,
  ) {
    this.#exporter = exporter;
    this.#maxQueueSize = settings.maxQueueSize;
    this.#onDropped = onDropped;
    this.#batches = new BatchSpanProcessor({
      exporter: {
        export: (spans, done) => {
          this.#queued -= spans.length;
          exportSafely(exporter, spans, (result) => {
            if (result.code !== ExportResultCode.SUCCESS) {
              onDropped(spans.length);
              onFailure(result.error);
            }
            done(result);
          });
        },
        shutdown: async () => {},
      },
      maxQueueSize: settings.maxQueueSize,
      maxExportBatchSize: settings.maxBatchSize,
      scheduledDelayMillis: settings.delayMs,
      exportTimeoutMillis: settings.exportTimeoutMs,
    });
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (this.#isClosed || this.#queued >= this.#maxQueueSize) {
      this.#onDropped(1);
      return;
    }
    this.#queued++;
    this.#batches.onEnd(span);
  }

  forceFlush(): Promise<void> {
    return this.#batches.forceFlush();
  }

  async shutdown(): Promise<void> {
    this.#isClosed = true;
    // The batch processor gives up at the first batch that fails; the exporter waits for all that it was given.
    await Promise.allSettled([this.#batches.shutdown()]);
    // Never rejects: NodeSDK would not wait for the metrics then.
    await Promise.allSettled([this.#exporter.shutdown()]);
  }
}

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

interface Exporter<T> {
  export(items: T, done: (result: ExportResult) => void): void;
}

function exportSafely<T>(exporter: Exporter<T>, items: T, done: (result: ExportResult) => void): void {
  try {
    exporter.export(items, done);
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    done({ code: ExportResultCode.FAILED, error });
  }
}
