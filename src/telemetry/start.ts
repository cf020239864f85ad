/**
 * Telemetry of one sidecar. The filters exist at once and are light; the OpenTelemetry SDK is loaded later, by
 * {@link Telemetry.load}.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { TelemetryConfig } from "../config/sidecar-config.ts";
import type { Direction, Filter, Logger } from "../plugin/api.ts";
import type { ConsoleOutput } from "./console-exporter.ts";
import { Instruments } from "./instruments.ts";
import { metricsFilter } from "./metrics.ts";
import { ATTR } from "./names.ts";
import { formatPrometheus, type PrometheusText } from "./prometheus.ts";
import type { Sdk } from "./sdk.ts";
import { type Environment, resolveSettings } from "./settings.ts";
import { passiveTraceFilter } from "./trace-context.ts";

export interface TelemetryOptions {
  readonly config: TelemetryConfig;
  /** `service` of the configuration. */
  readonly service: string;
  /** Version of Holdfast. */
  readonly version: string;
  readonly log: Pick<Logger, "warn" | "error">;
  /** `process.env`: its `OTEL_*` variables outrank the configuration. */
  readonly env: Environment;
  /** `process.stdout`: where the `console` exporter prints. */
  readonly output: ConsoleOutput;
}

/** A filter with the name that failures are reported under. */
export interface NamedFilter {
  readonly name: string;
  readonly filter: Filter;
}

export interface Telemetry {
  /** Filters of one direction, to stand before those of the plugins. */
  filters(direction: Direction): readonly NamedFilter[];
  /**
   * Loads the SDK and begins to record spans. Call it when the listeners are up. Never rejects: a failure is logged,
   * and traffic goes on without spans. Metrics count from the start, with or without it.
   */
  load(): Promise<void>;
  /** What `/metrics` answers; `undefined` when Prometheus metrics are off. */
  prometheusText(): Promise<PrometheusText | undefined>;
  /** Counts a reload of the configuration. */
  reloaded(result: string): void;
  /** Spans that were not delivered so far. */
  readonly droppedSpans: number;
  /**
   * Sends what is left and stops, within `timeoutMs` (default 2 s). Spans that are not delivered by then count as
   * dropped, and the log says how many. Never rejects; safe to call twice.
   */
  shutdown(timeoutMs?: number): Promise<void>;
}

const SHUTDOWN_TIMEOUT_MS = 2000;

/**
 * Between loading one part of the SDK and the next, in milliseconds. One turn of the event loop is not enough: a request
 * on a fresh connection, to a fresh one, takes five of them, and would wait for as many parts.
 */
const BETWEEN_PARTS_MS = 10;

/** What `sdk.ts` is built on, in the order of who imports whom. */
const SDK_PARTS = [
  "@opentelemetry/api",
  "@opentelemetry/core",
  "@opentelemetry/resources",
  "@opentelemetry/sdk-trace",
  "@opentelemetry/sdk-metrics",
  "@opentelemetry/exporter-metrics-otlp-proto",
  "@opentelemetry/sdk-node",
];

/** Makes the filters. Nothing is loaded, no connection is opened. */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  const { log, version } = options;
  const { settings, warnings } = resolveSettings(options.config, options.service, version, options.env);
  for (const warning of warnings) log.warn({}, `telemetry: ${warning}`);

  const instruments = new Instruments();
  const hasMetrics = settings.metrics.prometheus || settings.metrics.otlpPush;
  const needsSdk = settings.traces.exporters.length > 0 || settings.metrics.otlpPush;
  let tracing: Filter = passiveTraceFilter;
  let loading: Promise<Sdk | undefined> | undefined;
  let stopping: Promise<void> | undefined;

  const lateTracing: Filter = {
    connection(connection) {
      if (tracing.connection !== undefined || !needsSdk) return tracing.connection?.(connection);
      // Exchanges may be recorded on it by the time it closes.
      return { close: (reason) => tracing.connection?.(connection)?.close?.(reason) };
    },
    exchange: (exchange) => tracing.exchange?.(exchange),
  };

  async function loadSdk(): Promise<Sdk | undefined> {
    try {
      // An import holds everything up until it is done: part by part, requests go on in between.
      for (const part of SDK_PARTS) {
        await sleep(BETWEEN_PARTS_MS);
        await import(part);
      }
      const { startSdk } = await import("./sdk.ts");
      const sdk = startSdk({ settings, instruments, version, log, output: options.output });
      tracing = sdk.tracing ?? passiveTraceFilter;
      return sdk;
    } catch (error) {
      log.error({ err: error }, "telemetry: the OpenTelemetry SDK could not be started; no spans are recorded");
      return undefined;
    }
  }

  async function stop(timeoutMs: number): Promise<void> {
    const sdk = await loading;
    // Exchanges that are still under way must not start spans that nobody sends.
    tracing = passiveTraceFilter;
    await sdk?.shutdown(timeoutMs);
  }

  return {
    filters(direction) {
      const filters: NamedFilter[] = [{ name: "traces", filter: lateTracing }];
      if (hasMetrics) {
        const { knownMethods } = settings;
        filters.push({ name: "metrics", filter: metricsFilter(instruments, { direction, knownMethods }) });
      }
      return filters;
    },
    async load() {
      if (needsSdk && stopping === undefined) loading ??= loadSdk();
      await loading;
    },
    async prometheusText() {
      return settings.metrics.prometheus ? formatPrometheus(instruments, settings.resource) : undefined;
    },
    reloaded(result) {
      instruments.configReloads.at(result, () => ({ [ATTR.result]: result })).value++;
    },
    get droppedSpans() {
      let dropped = 0;
      for (const series of instruments.droppedSpans.series) dropped += series.value;
      return dropped;
    },
    shutdown(timeoutMs = SHUTDOWN_TIMEOUT_MS) {
      stopping ??= stop(timeoutMs);
      return stopping;
    },
  };
}
