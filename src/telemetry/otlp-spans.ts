/**
 * Spans written as OTLP protobuf at once, when they end: nothing is kept of them but their bytes, and an export is those
 * bytes with a header.
 *
 * The SDK keeps each span as objects until the batch is sent and then goes through all of them twice. For two spans with
 * 40 attributes per exchange that costs more than the exchange itself (bench/README.md).
 *
 * @module
 */
import { createTraceState, type SpanKind, SpanStatusCode, TraceFlags } from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import { ProtobufBuffer, varintSize } from "./protobuf-buffer.ts";
import type { SpanBatch, SpanQueue, SpanSource } from "./span-batches.ts";
import type { AttributeValue, SpanCount, SpanEvent, SpanPlace, SpanWriter } from "./span-writer.ts";

/** Tags: number of the field times 8, plus its wire type (opentelemetry/proto/trace/v1/trace.proto). */
const SPAN = {
  traceId: 0x0a,
  spanId: 0x12,
  traceState: 0x1a,
  parentSpanId: 0x22,
  name: 0x2a,
  kind: 0x30,
  startTime: 0x39,
  endTime: 0x41,
  attributes: 0x4a,
  events: 0x5a,
  droppedEvents: 0x60,
  links: 0x6a,
  status: 0x7a,
} as const;
/** Field 16 has a tag of two bytes. */
const SPAN_FLAGS = [0x85, 0x01] as const;
const EVENT = { time: 0x09, name: 0x12, attributes: 0x1a } as const;
const LINK = { traceId: 0x0a, spanId: 0x12, flags: 0x35 } as const;
const STATUS = { message: 0x12, code: 0x18 } as const;
const RESOURCE = { attributes: 0x0a } as const;
const SCOPE = { name: 0x0a, version: 0x12 } as const;
const KEY_VALUE = { key: 0x0a, value: 0x12 } as const;
const ANY = { string: 0x0a, bool: 0x10, int: 0x18, double: 0x21 } as const;
const REQUEST = { resourceSpans: 0x0a } as const;
const RESOURCE_SPANS = { resource: 0x0a, scopeSpans: 0x12 } as const;
const SCOPE_SPANS = { scope: 0x0a, spans: 0x12 } as const;

/** Whether the span above is remote is known, and: it is. */
const FLAG_REMOTE_KNOWN = 0x100;
const FLAG_REMOTE = 0x200;

/** As many as the SDK keeps; newer ones push out older ones. */
const MAX_EVENTS = 128;

/** Tag of a span, and the room for its length. */
const OPEN_LONG_BYTES = 3;

/** Where the key begins in a `KeyValue` that stands as a field: behind the tag and the length. */
const KEY_AT = 2;

const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;

/** Room for the lengths of the two messages around all spans. */
const LENGTHS_BYTES = 12;
const FIRST_BYTES = 16 * 1024;
const MAX_SPARE = 2;
const MAX_SPARE_BYTES = 4 * 1024 * 1024;

/** Bytes of an `ExportTraceServiceRequest`. */
export interface SpanRequest extends SpanBatch {
  readonly bytes: Uint8Array;
  /** Where `bytes` lie. */
  readonly memory: Buffer;
}

/** Writes spans one behind the other. */
export class OtlpSpans implements SpanWriter, SpanSource<SpanRequest> {
  /** Field `resource` of `ResourceSpans`, and field `scope` of `ScopeSpans`. */
  readonly #resource: Uint8Array;
  readonly #scope: Uint8Array;
  readonly #keys = new Map<string, Uint8Array>();
  readonly #buffer = new ProtobufBuffer(FIRST_BYTES);
  /**
   * Memory of requests that were sent. Taking fresh memory for each costs more than writing it, most of all because V8
   * counts it and collects all of its heap each time that 32 MB have come together.
   */
  readonly #spare: Buffer[] = [];
  /** Where the first span begins: what stands before it is written last. */
  readonly #firstAt: number;
  queue: SpanQueue | undefined;
  /** Spans written since the last {@link take}. */
  spans = 0;
  readonly #dropped: SpanCount;
  #spanAt = 0;
  /** Between {@link begin} and {@link end}. */
  #isOpen = false;
  #flags = 0;
  // The ids that were written last, and where: the spans of an exchange follow each other and have them in common.
  #traceId = "";
  #traceIdAt = 0;
  #parentId = "";
  #parentIdAt = 0;
  #sharedAt = 0;

  /** @param dropped - counts spans that were begun and not ended */
  constructor(
    resource: Resource,
    scope: { readonly name: string; readonly version: string },
    dropped: SpanCount = { value: 0 },
  ) {
    this.#dropped = dropped;
    this.#resource = this.#resourceField(resource);
    this.#scope = this.#scopeField(scope);
    this.#firstAt = this.#resource.length + this.#scope.length + LENGTHS_BYTES;
    this.#buffer.reserve(this.#firstAt);
    this.#buffer.at = this.#firstAt;
  }

  begin(kind: SpanKind, name: string, place: SpanPlace, startEpochMs: number, endEpochMs: number): boolean {
    if (this.queue?.accept() === false) return false;
    const buffer = this.#buffer;
    if (this.#isOpen) this.#dropOpen();
    this.#isOpen = true;
    this.#dropped.value++;
    buffer.byte(SCOPE_SPANS.spans);
    this.#spanAt = buffer.openLong();
    this.#flags = TraceFlags.SAMPLED | FLAG_REMOTE_KNOWN;
    buffer.byte(SPAN.traceId);
    if (place.traceId === this.#traceId) buffer.repeat(this.#traceIdAt, TRACE_ID_BYTES);
    else {
      this.#traceIdAt = buffer.hex(place.traceId);
      this.#traceId = place.traceId;
    }
    buffer.byte(SPAN.spanId);
    if (place.spanId === this.#parentId) buffer.repeat(this.#parentIdAt, SPAN_ID_BYTES);
    else buffer.hex(place.spanId);
    buffer.byte(SPAN.name);
    buffer.text(name);
    buffer.byte(SPAN.kind);
    // 0 says that the kind is not known.
    buffer.varint(kind + 1);
    buffer.byte(SPAN.startTime);
    writeTime(buffer, startEpochMs);
    buffer.byte(SPAN.endTime);
    writeTime(buffer, Math.max(startEpochMs, endEpochMs));
    return true;
  }

  parent(spanId: string, isRemote: boolean, traceState: string | undefined): void {
    const buffer = this.#buffer;
    buffer.byte(SPAN.parentSpanId);
    this.#parentIdAt = buffer.hex(spanId);
    this.#parentId = spanId;
    if (isRemote) this.#flags |= FLAG_REMOTE;
    if (traceState === undefined) return;
    const checked = createTraceState(traceState).serialize();
    if (checked === "") return;
    buffer.byte(SPAN.traceState);
    buffer.text(checked);
  }

  attribute(name: string, value: AttributeValue): void {
    if (value === undefined) return;
    this.#keyValue(SPAN.attributes, name, value);
  }

  link(to: SpanPlace): void {
    const buffer = this.#buffer;
    buffer.byte(SPAN.links);
    const start = buffer.open();
    buffer.byte(LINK.traceId);
    buffer.hex(to.traceId);
    buffer.byte(LINK.spanId);
    buffer.hex(to.spanId);
    buffer.byte(LINK.flags);
    buffer.fixed32(TraceFlags.SAMPLED | FLAG_REMOTE_KNOWN);
    buffer.close(start);
  }

  events(events: readonly SpanEvent[]): void {
    const buffer = this.#buffer;
    for (const { name, atEpochMs, attributes } of events.slice(-MAX_EVENTS)) {
      buffer.byte(SPAN.events);
      const start = buffer.openLong();
      buffer.byte(EVENT.time);
      writeTime(buffer, atEpochMs);
      buffer.byte(EVENT.name);
      buffer.text(name);
      for (const [key, value] of Object.entries(attributes)) {
        this.#keyValue(EVENT.attributes, key, value);
      }
      buffer.closeLong(start);
    }
    if (events.length <= MAX_EVENTS) return;
    buffer.byte(SPAN.droppedEvents);
    buffer.varint(events.length - MAX_EVENTS);
  }

  error(message: string | undefined): void {
    const buffer = this.#buffer;
    buffer.byte(SPAN.status);
    const start = buffer.open();
    if (message !== undefined && message !== "") {
      buffer.byte(STATUS.message);
      buffer.text(message);
    }
    buffer.byte(STATUS.code);
    buffer.varint(SpanStatusCode.ERROR);
    buffer.close(start);
  }

  end(): void {
    const buffer = this.#buffer;
    for (const byte of SPAN_FLAGS) buffer.byte(byte);
    buffer.fixed32(this.#flags);
    if (buffer.closeLong(this.#spanAt)) this.#forgetIds();
    this.#isOpen = false;
    this.#dropped.value--;
    this.spans++;
    this.queue?.added();
  }

  sharedBegin(): void {
    this.#sharedAt = this.#buffer.at;
  }

  sharedEnd(): Uint8Array {
    const { bytes, at } = this.#buffer;
    return Uint8Array.prototype.slice.call(bytes, this.#sharedAt, at);
  }

  again(said: Uint8Array): void {
    this.#buffer.raw(said);
  }

  /** The spans written since the last time, as they are sent. */
  take(): SpanRequest {
    const buffer = this.#buffer;
    if (this.#isOpen) this.#dropOpen();
    const { bytes, at: end } = buffer;
    const scopeSpans = this.#scope.length + end - this.#firstAt;
    const resourceSpans = this.#resource.length + 1 + varintSize(scopeSpans) + scopeSpans;
    const start =
      this.#firstAt -
      (2 + varintSize(resourceSpans) + varintSize(scopeSpans)) -
      this.#resource.length -
      this.#scope.length;
    buffer.at = start;
    buffer.byte(REQUEST.resourceSpans);
    buffer.varint(resourceSpans);
    buffer.raw(this.#resource);
    buffer.byte(RESOURCE_SPANS.scopeSpans);
    buffer.varint(scopeSpans);
    buffer.raw(this.#scope);
    const { spans } = this;
    this.spans = 0;
    this.#forgetIds();
    // As much as this time: batches are alike.
    buffer.renew(this.#spare.pop() ?? Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, end)));
    buffer.reserve(this.#firstAt);
    buffer.at = this.#firstAt;
    return { bytes: bytes.subarray(start, end), memory: bytes, spans };
  }

  /** Writes into the memory of a request again, which nobody may need any more. */
  reuse({ memory }: SpanRequest): void {
    if (this.#spare.length < MAX_SPARE && memory.length <= MAX_SPARE_BYTES) this.#spare.push(memory);
  }

  /** Something threw in the middle of a span: half of one would make all that goes with it unreadable. */
  #dropOpen(): void {
    this.#isOpen = false;
    this.#buffer.at = this.#spanAt - OPEN_LONG_BYTES;
    this.#forgetIds();
  }

  /** They are not where they were. */
  #forgetIds(): void {
    this.#traceId = "";
    this.#parentId = "";
  }

  /** Writes a `KeyValue` as the field with this tag. */
  #keyValue(tag: number, name: string, value: string | number | boolean): void {
    const key = this.#keys.get(name) ?? this.#newKey(name);
    const buffer = this.#buffer;
    const start = buffer.at;
    buffer.raw(key);
    buffer.bytes[start] = tag;
    const valueAt = buffer.at;
    if (typeof value === "string") {
      buffer.byte(ANY.string);
      buffer.text(value);
    } else if (typeof value === "boolean") {
      buffer.byte(ANY.bool);
      buffer.byte(value ? 1 : 0);
    } else if (Number.isInteger(value) && value >= MIN_INT && value < MAX_INT) {
      buffer.byte(ANY.int);
      buffer.varint(value);
    } else {
      buffer.byte(ANY.double);
      buffer.double(value);
    }
    buffer.close(valueAt);
    buffer.close(start + KEY_AT);
  }

  /** A `KeyValue` up to its value, with room for the tag before it and for both lengths. */
  #newKey(name: string): Uint8Array {
    const key = new ProtobufBuffer(name.length + 64);
    key.at = KEY_AT;
    key.byte(KEY_VALUE.key);
    key.text(name);
    key.byte(KEY_VALUE.value);
    key.open();
    const bytes = Uint8Array.prototype.slice.call(key.bytes, 0, key.at);
    this.#keys.set(name, bytes);
    return bytes;
  }

  #resourceField({ attributes }: Resource): Uint8Array {
    return this.#apart((buffer) => {
      buffer.byte(RESOURCE_SPANS.resource);
      const start = buffer.openLong();
      for (const [name, value] of Object.entries(attributes)) {
        // What is set by variables and the SDK is text.
        this.#keyValue(RESOURCE.attributes, name, String(value));
      }
      buffer.closeLong(start);
    });
  }

  #scopeField({ name, version }: { readonly name: string; readonly version: string }): Uint8Array {
    return this.#apart((buffer) => {
      buffer.byte(SCOPE_SPANS.scope);
      const start = buffer.open();
      buffer.byte(SCOPE.name);
      buffer.text(name);
      buffer.byte(SCOPE.version);
      buffer.text(version);
      buffer.close(start);
    });
  }

  /** Writes before there are spans, and takes away what was written. */
  #apart(write: (buffer: ProtobufBuffer) => void): Uint8Array {
    const buffer = this.#buffer;
    buffer.at = 0;
    write(buffer);
    return Uint8Array.prototype.slice.call(buffer.bytes, 0, buffer.at);
  }
}

const MIN_INT = -(2 ** 63);
const MAX_INT = 2 ** 63;

/** Nanoseconds since the Unix epoch, rounded within the second as the SDK does. */
function writeTime(buffer: ProtobufBuffer, epochMs: number): void {
  const seconds = Math.floor(epochMs / 1000);
  const nanos = Math.round((epochMs - seconds * 1000) * 1e6);
  // The product has more than 53 bits: the seconds are taken as two parts of 16 bits. Whole numbers beyond 2³² have the
  // right lower bits after `&` and `>>>`, which cost less than `%`.
  const upper = Math.floor(seconds / 0x1_0000) * 1e9;
  const lower = (seconds & 0xffff) * 1e9 + nanos + (upper & 0xffff) * 0x1_0000;
  buffer.fixed64(lower >>> 0, Math.floor(upper / 0x1_0000) + Math.floor(lower / 0x1_0000_0000));
}
