/**
 * The OpenTelemetry libraries' OTLP over HTTP, with their retries, compression and certificates, for batches of spans.
 *
 * @module
 */
import { ExportResultCode } from "@opentelemetry/core";
import { convertLegacyHttpOptions, createOtlpHttpExportDelegate } from "@opentelemetry/otlp-exporter-base/node-http";
import {
  type IExportTraceServiceResponse,
  type ISerializer,
  JsonTraceSerializer,
  ProtobufTraceSerializer,
} from "@opentelemetry/otlp-transformer";
import type { SpanRequest } from "./otlp-spans.ts";
import type { ObjectBatch } from "./sdk-spans.ts";
import type { OtlpSettings } from "./settings.ts";
import type { BatchExporter, BatchResult, SpanBatch } from "./span-batches.ts";

/** Of what the collector says to a rejection, so much goes into the log. */
const MAX_REASON_LENGTH = 200;

type TraceSerializer<T> = ISerializer<T, IExportTraceServiceResponse>;

/** For requests that are bytes already. */
export function spanBytesExporter(otlp: OtlpSettings): BatchExporter<SpanRequest> {
  return spanExporter(otlp, "application/x-protobuf", {
    serializeRequest: ({ bytes }) => bytes,
    deserializeResponse: ProtobufTraceSerializer.deserializeResponse,
  });
}

/** For span objects of the SDK. */
export function spanObjectsExporter(otlp: OtlpSettings): BatchExporter<ObjectBatch> {
  switch (otlp.protocol) {
    case "http/protobuf":
      return spanExporter(otlp, "application/x-protobuf", ofObjects(ProtobufTraceSerializer));
    case "http/json":
      return spanExporter(otlp, "application/json", ofObjects(JsonTraceSerializer));
  }
}

/** What an exporter of the libraries is told. */
export function exporterConfig(otlp: OtlpSettings) {
  return { url: otlp.url, headers: { ...otlp.headers }, timeoutMillis: otlp.timeoutMs };
}

function ofObjects(serializer: TraceSerializer<ObjectBatch["objects"]>): TraceSerializer<ObjectBatch> {
  return {
    serializeRequest: ({ objects }) => serializer.serializeRequest(objects),
    deserializeResponse: serializer.deserializeResponse,
  };
}

function spanExporter<B extends SpanBatch>(
  otlp: OtlpSettings,
  contentType: string,
  serializer: TraceSerializer<B>,
): BatchExporter<B> {
  // The library keeps what an answer says to itself. It reads it and reports the result in one go.
  let response: IExportTraceServiceResponse | undefined;
  const delegate = createOtlpHttpExportDelegate<B, IExportTraceServiceResponse>(
    convertLegacyHttpOptions(exporterConfig(otlp), "TRACES", "v1/traces", { "Content-Type": contentType }),
    {
      serializeRequest: serializer.serializeRequest,
      deserializeResponse(bytes) {
        response = serializer.deserializeResponse(bytes);
        return response;
      },
    },
    "otlp_http_span_exporter",
    { name: "span", countItems: ({ spans }) => spans },
    undefined,
  );
  return {
    export(batch, done) {
      delegate.export(batch, (result) => {
        const rejected = result.code === ExportResultCode.SUCCESS ? rejectedOf(batch, response) : undefined;
        response = undefined;
        done(rejected === undefined ? result : { ...result, rejected });
      });
    },
    shutdown: () => delegate.shutdown(),
  };
}

/** @param response - what the collector sent: with JSON anything at all */
function rejectedOf({ spans }: SpanBatch, response: IExportTraceServiceResponse | undefined): BatchResult["rejected"] {
  const partial = response?.partialSuccess;
  const count: unknown = partial?.rejectedSpans;
  // 64-bit numbers are strings in OTLP's JSON.
  if (typeof count !== "number" && typeof count !== "string") return undefined;
  // A collector cannot reject more than it got.
  const rejected = Math.min(Math.trunc(Number(count)), spans);
  if (!(rejected > 0)) return undefined;
  const reason: unknown = partial?.errorMessage;
  const text = typeof reason === "string" ? reason.slice(0, MAX_REASON_LENGTH) : "";
  return { spans: rejected, cause: new Error(text === "" ? "some spans of a request were rejected" : text) };
}
