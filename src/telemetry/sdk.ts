/**
 * The OpenTelemetry SDK of one sidecar. Imported once the listeners are up: it costs a quarter of a second and 20 MB.
 *
 * @module
 */
import { OTLPMetricExporter as JsonMetricExporter } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPMetricExporter as ProtobufMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { defaultResource, type Resource, resourceFromAttributes } from "@opentelemetry/resources";
import { type MetricReader, PeriodicExportingMetricReader, type PushMetricExporter } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { AlwaysOnSampler, type SpanProcessor, type TracerProvider } from "@opentelemetry/sdk-trace";
import type { Filter, Logger } from "../plugin/api.ts";
import { type ConsoleOutput, ConsoleSpanProcessor } from "./console-exporter.ts";
import { DeliveryLog, reportedMetrics } from "./delivery.ts";
import type { Instruments } from "./instruments.ts";
import { instrumentsProducer } from "./metric-data.ts";
import { SCOPE_NAME } from "./names.ts";
import { exporterConfig, spanBytesExporter, spanObjectsExporter } from "./otlp-exporters.ts";
import { OtlpSpans } from "./otlp-spans.ts";
import { sampledBy, TraceIds } from "./sampling.ts";
import { SdkSpans, SpanObjects } from "./sdk-spans.ts";
import type { OtlpSettings, TelemetrySettings } from "./settings.ts";
import { type BatchExporter, type SpanBatch, SpanBatches, type SpanSource } from "./span-batches.ts";
import type { SpanCount, SpanWriter } from "./span-writer.ts";
import { tracingFilter } from "./traces.ts";
import { withoutRegistering } from "./unregistered.ts";

export interface SdkOptions {
  readonly settings: TelemetrySettings;
  readonly instruments: Instruments;
  readonly version: string;
  readonly log: Pick<Logger, "warn">;
  readonly output: ConsoleOutput;
}

/** The SDK at work. */
export interface Sdk {
  /** Records spans of one direction; `undefined` when nothing takes them. */
  readonly tracing: Filter | undefined;
  /**
   * Sends what is left for at most `timeoutMs`, then stops. Spans that are not delivered by then count as dropped; the
   * log says how many there were in all. Never rejects.
   */
  shutdown(timeoutMs: number): Promise<void>;
}

/** @throws whatever an exporter finds wrong with its settings */
export function startSdk(options: SdkOptions): Sdk {
  const { settings } = options;
  const { sampler, ratio } = settings.traces;
  const resource = defaultResource().merge(resourceFromAttributes(settings.resource));
  const spans = writesBytes(settings) ? spansAsBytes(options, resource) : spansOfSdk(options);
  const sdk = startNodeSdk({
    resource,
    ids: spans.ids,
    spans: spans.processors,
    metrics: metricReaders(options, resource),
  });
  const writer = spans.writer(sdk.tracerProvider);
  return {
    tracing:
      writer &&
      tracingFilter({ spans: writer, sampled: sampledBy(sampler, ratio), knownMethods: settings.knownMethods }),
    async shutdown(timeoutMs) {
      const timeout = Promise.withResolvers<void>();
      const timer = setTimeout(timeout.resolve, timeoutMs);
      await Promise.race([Promise.all([spans.shutdown(), sdk.shutdown()]), timeout.promise]);
      clearTimeout(timer);
      spans.abandon();
    },
  };
}

interface NodeSdkParts {
  readonly resource: Resource;
  readonly ids: TraceIds;
  readonly spans: SpanProcessor[];
  readonly metrics: MetricReader[];
}

interface StartedNodeSdk {
  /** `undefined` without span processors. */
  readonly tracerProvider: TracerProvider | undefined;
  shutdown(): Promise<void>;
}

/**
 * A NodeSDK that registers nothing: two sidecars in one process each have their own, and the application keeps the
 * globals. All it could take from the environment is given here, because what is left out means defaults: OTLP to
 * localhost, resource detectors.
 */
function startNodeSdk({ resource, ids, spans, metrics }: NodeSdkParts): StartedNodeSdk {
  const sdk = withoutRegistering(() => {
    const made = new NodeSDK({
      resource,
      autoDetectResources: false,
      // The decision is made by the filter, before there is a span.
      sampler: new AlwaysOnSampler(),
      idGenerator: ids,
      spanProcessors: spans,
      metricReaders: metrics,
      logRecordProcessors: [],
      textMapPropagator: null,
      instrumentations: [],
    });
    made.start();
    return made;
  });
  return {
    // NodeSDK hands its provider to the global API alone.
    tracerProvider: sdk["_tracerProvider"],
    async shutdown() {
      await Promise.allSettled([sdk.shutdown()]);
    },
  };
}

/** Where spans go. */
interface Spans extends Sender {
  readonly ids: TraceIds;
  readonly processors: SpanProcessor[];
  /** `undefined`: nothing takes them. @param provider - of the SDK; `undefined` without processors */
  writer(provider: TracerProvider | undefined): SpanWriter | undefined;
}

/** What sends spans to a collector. */
interface Sender {
  /** Sends what is left, and waits for the answers. Never rejects. */
  shutdown(): Promise<void>;
  /** Nothing is waited for any more: counts and reports what was not delivered. */
  abandon(): void;
}

/** Whether spans are written as bytes when they end. Whatever else is wanted of them takes the SDK's span objects. */
function writesBytes({ traces }: TelemetrySettings): boolean {
  const [exporter, ...others] = traces.exporters;
  const isOtlpAlone = exporter === "otlp" && others.length === 0;
  return isOtlpAlone && traces.otlp.protocol === "http/protobuf" && !traces.hasSpanLimits;
}

function spansAsBytes(options: SdkOptions, resource: Resource): Spans {
  const { otlp } = options.settings.traces;
  const writer = new OtlpSpans(resource, { name: SCOPE_NAME, version: options.version }, droppedSpans(options));
  return {
    ids: new TraceIds(),
    processors: [],
    writer: () => writer,
    ...sending(options, writer, spanBytesExporter(otlp)),
  };
}

function spansOfSdk(options: SdkOptions): Spans {
  const { exporters, otlp } = options.settings.traces;
  const ids = new TraceIds();
  const processors: SpanProcessor[] = [];
  const senders: Sender[] = [];
  for (const exporter of exporters) {
    switch (exporter) {
      case "console":
        processors.push(new ConsoleSpanProcessor(options.output));
        break;
      case "otlp": {
        const objects = new SpanObjects();
        processors.push(objects);
        senders.push(sending(options, objects, spanObjectsExporter(otlp)));
        break;
      }
    }
  }
  return {
    ids,
    processors,
    writer: (provider) =>
      provider && new SdkSpans(provider.getTracer(SCOPE_NAME, options.version), ids, droppedSpans(options)),
    async shutdown() {
      await Promise.all(senders.map((sender) => sender.shutdown()));
    },
    abandon() {
      for (const sender of senders) sender.abandon();
    },
  };
}

/** Sends the spans of this source to the collector. */
function sending<B extends SpanBatch>(options: SdkOptions, source: SpanSource<B>, exporter: BatchExporter<B>): Sender {
  const { batch, otlp } = options.settings.traces;
  const deliveries = new DeliveryLog(options.log, "spans", otlp.url);
  const dropped = droppedSpans(options);
  const batches = new SpanBatches(source, exporter, batch, (spans, cause) => {
    dropped.value += spans;
    deliveries.failed(cause, spans);
  });
  return {
    shutdown: () => batches.shutdown(),
    abandon() {
      const spans = batches.abandon();
      dropped.value += spans;
      deliveries.end(spans);
    },
  };
}

function droppedSpans({ instruments }: SdkOptions): SpanCount {
  return instruments.droppedSpans.at("", () => ({}));
}

function metricReaders({ settings, instruments, log, version }: SdkOptions, resource: Resource): MetricReader[] {
  const { otlpPush, intervalMs, otlp } = settings.metrics;
  if (!otlpPush) return [];
  const deliveries = new DeliveryLog(log, "metrics", otlp.url);
  return [
    new PeriodicExportingMetricReader({
      exporter: reportedMetrics(otlpMetrics(otlp), (error) => deliveries.failed(error, 1)),
      exportIntervalMillis: intervalMs,
      metricProducers: [instrumentsProducer(instruments, resource, version)],
    }),
  ];
}

function otlpMetrics(otlp: OtlpSettings): PushMetricExporter {
  switch (otlp.protocol) {
    case "http/protobuf":
      return new ProtobufMetricExporter(exporterConfig(otlp));
    case "http/json":
      return new JsonMetricExporter(exporterConfig(otlp));
  }
}
