/**
 * OTLP traces in protobuf, decoded by protobufjs after the messages of opentelemetry-proto (common, resource and trace
 * v1, and the collector's request).
 *
 * @module
 */
import assert from "node:assert/strict";
import protobuf from "protobufjs";

const many = (type: string, id: number) => ({ rule: "repeated", type, id });
const one = (type: string, id: number) => ({ type, id });

const root = protobuf.Root.fromJSON({
  nested: {
    Request: { fields: { resourceSpans: many("ResourceSpans", 1) } },
    ResourceSpans: {
      fields: { resource: one("Resource", 1), scopeSpans: many("ScopeSpans", 2), schemaUrl: one("string", 3) },
    },
    Resource: { fields: { attributes: many("KeyValue", 1), droppedAttributesCount: one("uint32", 2) } },
    ScopeSpans: { fields: { scope: one("Scope", 1), spans: many("Span", 2), schemaUrl: one("string", 3) } },
    Scope: {
      fields: {
        name: one("string", 1),
        version: one("string", 2),
        attributes: many("KeyValue", 3),
        droppedAttributesCount: one("uint32", 4),
      },
    },
    KeyValue: { fields: { key: one("string", 1), value: one("AnyValue", 2) } },
    AnyValue: {
      oneofs: { value: { oneof: ["stringValue", "boolValue", "intValue", "doubleValue"] } },
      fields: {
        stringValue: one("string", 1),
        boolValue: one("bool", 2),
        intValue: one("int64", 3),
        doubleValue: one("double", 4),
      },
    },
    Span: {
      fields: {
        traceId: one("bytes", 1),
        spanId: one("bytes", 2),
        traceState: one("string", 3),
        parentSpanId: one("bytes", 4),
        name: one("string", 5),
        kind: one("int32", 6),
        startTimeUnixNano: one("fixed64", 7),
        endTimeUnixNano: one("fixed64", 8),
        attributes: many("KeyValue", 9),
        droppedAttributesCount: one("uint32", 10),
        events: many("Event", 11),
        droppedEventsCount: one("uint32", 12),
        links: many("Link", 13),
        droppedLinksCount: one("uint32", 14),
        status: one("Status", 15),
        flags: one("fixed32", 16),
      },
    },
    Event: {
      fields: {
        timeUnixNano: one("fixed64", 1),
        name: one("string", 2),
        attributes: many("KeyValue", 3),
        droppedAttributesCount: one("uint32", 4),
      },
    },
    Link: {
      fields: {
        traceId: one("bytes", 1),
        spanId: one("bytes", 2),
        traceState: one("string", 3),
        attributes: many("KeyValue", 4),
        droppedAttributesCount: one("uint32", 5),
        flags: one("fixed32", 6),
      },
    },
    Status: { fields: { message: one("string", 2), code: one("int32", 3) } },
  },
});
const Request = root.lookupType("Request");

interface DecodedValue {
  readonly stringValue?: string;
  readonly boolValue?: boolean;
  /** Whole numbers of 64 bits as text. */
  readonly intValue?: string;
  readonly doubleValue?: number;
}
interface DecodedAttribute {
  readonly key: string;
  readonly value: DecodedValue;
}
/** A span as protobufjs reads it: every field is there, with its default where it was not sent. */
export interface DecodedSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly attributes: DecodedAttribute[];
  readonly events: readonly { readonly attributes: DecodedAttribute[] }[];
  status: { readonly code: number; readonly message: string } | null;
}
/** Spans of one scope. */
export interface DecodedScopeSpans {
  readonly scope: { readonly name: string; readonly version: string };
  readonly spans: readonly DecodedSpan[];
}
/** Spans of one resource. */
export interface DecodedResourceSpans {
  readonly resource: { readonly attributes: DecodedAttribute[] };
  readonly scopeSpans: readonly DecodedScopeSpans[];
}
/** An `ExportTraceServiceRequest`. */
export interface DecodedRequest {
  readonly resourceSpans: readonly DecodedResourceSpans[];
}

/** Decodes a request; attributes stand in the order of their names. */
export function decodeTraces(bytes: Uint8Array): DecodedRequest {
  const message = Request.decode(bytes);
  const decoded = Request.toObject(message, {
    longs: String,
    bytes: String,
    defaults: true,
    arrays: true,
  }) as DecodedRequest;
  for (const { resource, scopeSpans } of decoded.resourceSpans) {
    sort(resource.attributes);
    for (const { spans } of scopeSpans) {
      for (const span of spans) {
        sort(span.attributes);
        for (const event of span.events) sort(event.attributes);
        // "Semantically when Status isn't set, it means span's status code is unset" (trace.proto).
        span.status ??= { code: 0, message: "" };
      }
    }
  }
  return decoded;
}

/** Nothing that the messages do not know, and no length or number written longer than it must be. */
export function assertCanonical(bytes: Uint8Array): void {
  assert.equal(Request.encode(Request.decode(bytes)).finish().length, bytes.length);
}

function sort(attributes: DecodedAttribute[]): void {
  attributes.sort((a, b) => (a.key < b.key ? -1 : 1));
}
