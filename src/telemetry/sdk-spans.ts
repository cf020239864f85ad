/**
 * Spans written by the OpenTelemetry SDK: for every exporter that takes its span objects.
 *
 * @module
 */
import {
  type Attributes,
  createTraceState,
  ROOT_CONTEXT,
  type SpanContext,
  type SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { ReadableSpan, SpanProcessor } from "@opentelemetry/sdk-trace";
import type { TraceIds } from "./sampling.ts";
import type { SpanBatch, SpanQueue, SpanSource } from "./span-batches.ts";
import type { AttributeValue, SpanCount, SpanEvent, SpanPlace, SpanWriter } from "./span-writer.ts";

const NOWHERE: SpanPlace = { traceId: "", spanId: "" };

/** Makes a span of the SDK of what it is told. */
export class SdkSpans implements SpanWriter {
  readonly #tracer: Tracer;
  readonly #ids: TraceIds;
  readonly #dropped: SpanCount;
  #kind: SpanKind = 0;
  #name = "";
  #place = NOWHERE;
  #startEpochMs = 0;
  #endEpochMs = 0;
  #parent: SpanContext | undefined;
  #attributes: Attributes = {};
  #links: { context: SpanContext }[] = [];
  #events: readonly SpanEvent[] = [];
  #error: { message?: string } | undefined;

  /**
   * @param tracer - records every span it is asked for: the sampling decision is made before
   * @param ids - where the tracer takes its ids from
   * @param dropped - counts spans that were begun and not ended
   */
  constructor(tracer: Tracer, ids: TraceIds, dropped: SpanCount = { value: 0 }) {
    this.#dropped = dropped;
    this.#tracer = tracer;
    this.#ids = ids;
  }

  begin(kind: SpanKind, name: string, place: SpanPlace, startEpochMs: number, endEpochMs: number): boolean {
    this.#dropped.value++;
    this.#kind = kind;
    this.#name = name;
    this.#place = place;
    this.#startEpochMs = startEpochMs;
    this.#endEpochMs = endEpochMs;
    this.#parent = undefined;
    this.#attributes = {};
    this.#links = [];
    this.#events = [];
    this.#error = undefined;
    return true;
  }

  parent(spanId: string, isRemote: boolean, traceState: string | undefined): void {
    const { traceId } = this.#place;
    this.#parent = {
      ...contextOf({ traceId, spanId }),
      ...(isRemote && { isRemote }),
      ...(traceState !== undefined && { traceState: createTraceState(traceState) }),
    };
  }

  attribute(name: string, value: AttributeValue): void {
    this.#attributes[name] = value;
  }

  link(to: SpanPlace): void {
    this.#links.push({ context: contextOf(to) });
  }

  events(events: readonly SpanEvent[]): void {
    this.#events = events;
  }

  error(message: string | undefined): void {
    this.#error = message === undefined ? {} : { message };
  }

  end(): void {
    this.#ids.useNext(this.#place);
    const span = this.#tracer.startSpan(
      this.#name,
      { kind: this.#kind, startTime: this.#startEpochMs, links: this.#links },
      this.#parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, this.#parent),
    );
    // Not given to `startSpan`, which would check each of them twice.
    span.setAttributes(this.#attributes);
    for (const { name, atEpochMs, attributes } of this.#events) span.addEvent(name, attributes, atEpochMs);
    if (this.#error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, ...this.#error });
    this.#dropped.value--;
    span.end(this.#endEpochMs);
  }

  sharedBegin(): void {}

  sharedEnd(): undefined {}

  again(): void {}
}

function contextOf({ traceId, spanId }: SpanPlace): SpanContext {
  return { traceId, spanId, traceFlags: TraceFlags.SAMPLED };
}

/** Span objects that are sent together. */
export interface ObjectBatch extends SpanBatch {
  readonly objects: ReadableSpan[];
}

/** Gathers the SDK's span objects for a collector. What is left at the end is sent by the {@link SpanQueue}. */
export class SpanObjects implements SpanProcessor, SpanSource<ObjectBatch> {
  queue: SpanQueue | undefined;
  #objects: ReadableSpan[] = [];

  get spans(): number {
    return this.#objects.length;
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (this.queue?.accept() === false) return;
    this.#objects.push(span);
    this.queue?.added();
  }

  take(): ObjectBatch {
    const objects = this.#objects;
    this.#objects = [];
    return { objects, spans: objects.length };
  }

  reuse(): void {}

  async forceFlush(): Promise<void> {}

  async shutdown(): Promise<void> {}
}
