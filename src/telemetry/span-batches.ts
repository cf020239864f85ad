/**
 * Sends spans in batches, by the rules and settings of the SDK's batch processor. That one tells nobody what it drops,
 * and at the end sends everything at once, of which the OTLP libraries refuse what is beyond 30 requests.
 *
 * @module
 */
import { context } from "@opentelemetry/api";
import { type ExportResult, ExportResultCode, suppressTracing } from "@opentelemetry/core";
import { exportSafely, type SpansLost } from "./delivery.ts";
import type { BatchSettings } from "./settings.ts";

/** Sent at a time during the shutdown. The OTLP libraries refuse more than 30. */
const SHUTDOWN_REQUESTS = 8;

/** What is sent at a time. */
export interface SpanBatch {
  /** How many are in it. */
  readonly spans: number;
}

/** Where spans gather until they are sent. It tells its {@link SpanQueue} of every one. */
export interface SpanSource<B extends SpanBatch> {
  /** Set once, before the first span. */
  queue: SpanQueue | undefined;
  /** Spans since the last {@link take}. */
  readonly spans: number;
  /** All of them, as they are sent. */
  take(): B;
  /** It was delivered: nobody needs it any more. */
  reuse(batch: B): void;
}

/** What takes the spans. */
export interface SpanQueue {
  /** Whether there is room for one more; if not, it counts as dropped. */
  accept(): boolean;
  /** The source has one more. */
  added(): void;
}

/** What became of a batch. */
export interface BatchResult extends ExportResult {
  /** Of a batch that was delivered: what the collector would not have. */
  readonly rejected?: { readonly spans: number; readonly cause: Error };
}

/** Sends batches. */
export interface BatchExporter<B extends SpanBatch> {
  export(batch: B, done: (result: BatchResult) => void): void;
  /** Waits for all that it was given. */
  shutdown(): Promise<void>;
}

/** Keeps at most `maxQueueSize` spans, the ones being sent not counted; sends one batch at a time. */
export class SpanBatches<B extends SpanBatch> implements SpanQueue {
  readonly #source: SpanSource<B>;
  readonly #exporter: BatchExporter<B>;
  readonly #settings: BatchSettings;
  readonly #onLost: SpansLost;
  readonly #queueFull: Error;
  /** Full batches that wait for the one before. */
  readonly #waiting: B[] = [];
  #queued = 0;
  /** Taken out of the queue, and not answered for yet. */
  #underWay = 0;
  #isSending = false;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #isAbandoned = false;

  constructor(source: SpanSource<B>, exporter: BatchExporter<B>, settings: BatchSettings, onLost: SpansLost) {
    this.#source = source;
    this.#exporter = exporter;
    this.#settings = settings;
    this.#onLost = onLost;
    this.#queueFull = new Error(`the queue of ${settings.maxQueueSize} spans is full`);
    source.queue = this;
  }

  accept(): boolean {
    if (this.#queued < this.#settings.maxQueueSize && !this.#isClosed) return true;
    this.#onLost(1, this.#isClosed ? new Error("ended after the shutdown") : this.#queueFull);
    return false;
  }

  added(): void {
    this.#queued++;
    if (this.#source.spans >= this.#settings.maxBatchSize) this.#waiting.push(this.#source.take());
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

  /**
   * Waits no longer.
   *
   * @returns how many spans are not delivered by now and so are lost, beyond those reported before
   */
  abandon(): number {
    if (this.#isAbandoned) return 0;
    this.#isClosed = true;
    this.#isAbandoned = true;
    return this.#queued + this.#underWay;
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
    const batch = this.#waiting.shift() ?? this.#source.take();
    this.#queued -= batch.spans;
    this.#underWay += batch.spans;
    // An application's own instrumentation of node:http must not trace this.
    context.with(suppressTracing(context.active()), () => {
      exportSafely(this.#exporter, batch, (result) => {
        this.#answered(batch, result);
        sent();
      });
    });
  }

  #answered(batch: B, { code, error, rejected }: BatchResult): void {
    this.#underWay -= batch.spans;
    const isDelivered = code === ExportResultCode.SUCCESS;
    // All of it was read by then. After a failure some of it may still be on its way out.
    if (isDelivered) this.#source.reuse(batch);
    if (this.#isAbandoned) return;
    if (!isDelivered) this.#onLost(batch.spans, error);
    else if (rejected !== undefined) this.#onLost(rejected.spans, rejected.cause);
  }
}
