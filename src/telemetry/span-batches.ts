/**
 * Sends spans that are bytes already, in batches: by the rules, settings and counts of the SDK's batch processor (and
 * of {@link CountedBatches} around it), which takes span objects alone.
 *
 * @module
 */
import { context } from "@opentelemetry/api";
import { type ExportResult, ExportResultCode, suppressTracing } from "@opentelemetry/core";
import { exportSafely, type SpansLost } from "./delivery.ts";
import type { OtlpSpans, SpanBatches, SpanRequest } from "./otlp-spans.ts";
import type { BatchSettings } from "./settings.ts";

/** Sent at a time during the shutdown. The OTLP libraries refuse more than 30. */
const SHUTDOWN_REQUESTS = 8;

/** Sends requests: an exporter of the OTLP libraries. */
export interface RequestExporter {
  export(request: SpanRequest, done: (result: ExportResult) => void): void;
  /** Waits for all that it was given. */
  shutdown(): Promise<void>;
}

/** Keeps at most `maxQueueSize` spans, the ones being sent not counted; sends one batch at a time. */
export class EncodedBatches implements SpanBatches {
  readonly #written: OtlpSpans;
  readonly #exporter: RequestExporter;
  readonly #settings: BatchSettings;
  readonly #onLost: SpansLost;
  readonly #queueFull: Error;
  /** Full batches that wait for the one before. */
  readonly #waiting: SpanRequest[] = [];
  #queued = 0;
  /** Taken out of the queue, and not answered for yet. */
  #underWay = 0;
  #isSending = false;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #isAbandoned = false;

  constructor(written: OtlpSpans, exporter: RequestExporter, settings: BatchSettings, onLost: SpansLost) {
    this.#written = written;
    this.#exporter = exporter;
    this.#settings = settings;
    this.#onLost = onLost;
    this.#queueFull = new Error(`the queue of ${settings.maxQueueSize} spans is full`);
    written.batches = this;
  }

  accept(): boolean {
    if (this.#queued < this.#settings.maxQueueSize && !this.#isClosed) return true;
    this.#onLost(1, this.#isClosed ? new Error("ended after the shutdown") : this.#queueFull);
    return false;
  }

  added(): void {
    this.#queued++;
    if (this.#written.spans >= this.#settings.maxBatchSize) this.#waiting.push(this.#written.take());
    this.#next();
  }

  /** Sends all there is, and waits for the answers. Never rejects. */
  async shutdown(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(Array.from({ length: SHUTDOWN_REQUESTS }, () => this.#sendRest()));
    await Promise.allSettled([this.#exporter.shutdown()]);
  }

  async #sendRest(): Promise<void> {
    while (this.#queued > 0 && !this.#isAbandoned) await new Promise<void>((resolve) => this.#send(resolve));
  }

  /** Waits no longer: what is not delivered by now is lost. */
  abandon(): void {
    if (this.#isAbandoned) return;
    this.#isClosed = true;
    this.#isAbandoned = true;
    const spans = this.#queued + this.#underWay;
    if (spans > 0) this.#onLost(spans, new Error("not delivered in time"));
  }

  /** Sends what fills a batch at once, less than that after a time. */
  #next(): void {
    if (this.#isSending || this.#queued === 0) return;
    if (this.#waiting.length > 0) this.#sendOne();
    else this.#timer ??= setTimeout(() => this.#sendOne(), this.#settings.delayMs).unref();
  }

  #sendOne(): void {
    this.#isSending = true;
    let isOver = false;
    const sent = () => {
      if (isOver) return;
      isOver = true;
      clearTimeout(limit);
      this.#isSending = false;
      if (!this.#isClosed) this.#next();
    };
    // A collector that does not answer must not hold up all that follows.
    const limit = setTimeout(sent, this.#settings.exportTimeoutMs).unref();
    this.#send(sent);
  }

  #send(sent: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const request = this.#waiting.shift() ?? this.#written.take();
    this.#queued -= request.spans;
    this.#underWay += request.spans;
    // An application's own instrumentation of node:http must not trace this.
    context.with(suppressTracing(context.active()), () => {
      exportSafely(this.#exporter, request, (result) => {
        this.#answered(request, result);
        sent();
      });
    });
  }

  #answered(request: SpanRequest, result: ExportResult): void {
    this.#underWay -= request.spans;
    // All of it was read by then. After a failure some of it may still be on its way out.
    if (result.code === ExportResultCode.SUCCESS) this.#written.reuse(request);
    else if (!this.#isAbandoned) this.#onLost(request.spans, result.error);
  }
}
