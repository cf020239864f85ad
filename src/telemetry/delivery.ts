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

  /** Nothing is sent any more: says how much was lost in all, if anything was. */
  end(): void {
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

/**
 * Sends spans in batches. Keeps at most `maxQueueSize` of them, the ones being sent not counted.
 *
 * The SDK's batch processor knows how many spans it drops, but tells nobody. So its queue is counted here: in by
 * `onEnd`, out by the exporter's `export`, and what does not fit is not handed to it.
 */
export class CountedBatches implements SpanProcessor {
  readonly #batches: BatchSpanProcessor;
  readonly #exporter: SpanExporter;
  readonly #maxQueueSize: number;
  readonly #onLost: SpansLost;
  readonly #queueFull: Error;
  #queued = 0;
  /** Taken out of the queue, and not answered for yet. */
  #underWay = 0;
  #isClosed = false;
  #isAbandoned = false;

  constructor(exporter: SpanExporter, settings: BatchSettings, onLost: SpansLost) {
    this.#exporter = exporter;
    this.#maxQueueSize = settings.maxQueueSize;
    this.#onLost = onLost;
    this.#queueFull = new Error(`the queue of ${settings.maxQueueSize} spans is full`);
    this.#batches = new BatchSpanProcessor({
      exporter: {
        export: (spans, done) => {
          this.#queued -= spans.length;
          this.#underWay += spans.length;
          exportSafely(exporter, spans, (result) => {
            this.#answered(spans.length, result);
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
    if (this.#isClosed) {
      this.#onLost(1, new Error("ended after the shutdown"));
      return;
    }
    if (this.#queued >= this.#maxQueueSize) {
      this.#onLost(1, this.#queueFull);
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

  /** Waits no longer: what is not delivered by now is lost. */
  abandon(): void {
    if (this.#isAbandoned) return;
    this.#isClosed = true;
    this.#isAbandoned = true;
    const spans = this.#queued + this.#underWay;
    if (spans > 0) this.#onLost(spans, new Error("not delivered in time"));
  }

  #answered(spans: number, result: ExportResult): void {
    this.#underWay -= spans;
    if (result.code !== ExportResultCode.SUCCESS && !this.#isAbandoned) this.#onLost(spans, result.error);
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

/** Exports; an exporter that throws has failed. */
export function exportSafely<T>(exporter: Exporter<T>, items: T, done: (result: ExportResult) => void): void {
  try {
    exporter.export(items, done);
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    done({ code: ExportResultCode.FAILED, error });
  }
}
