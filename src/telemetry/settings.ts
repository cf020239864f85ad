/**
 * What telemetry does: the configuration with the standard `OTEL_*` variables laid over it.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import type { OtlpProtocol, SamplerName, TelemetryConfig, TraceExporter } from "../config/sidecar-config.ts";
import { KNOWN_METHODS } from "./http-semantics.ts";
import { ATTR } from "./names.ts";

const SAMPLERS = [
  "always_on",
  "always_off",
  "traceidratio",
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio",
] as const satisfies readonly SamplerName[];

/** Where one signal is sent. */
export interface OtlpSettings {
  readonly url: string;
  readonly protocol: OtlpProtocol;
  /** May hold credentials: never logged. */
  readonly headers: Readonly<Record<string, string>>;
  /** Time limit of one export with its retries. */
  readonly timeoutMs: number;
}

/** How spans are collected before they are sent. */
export interface BatchSettings {
  readonly delayMs: number;
  readonly exportTimeoutMs: number;
  /** Spans kept while the collector is slow; more are dropped and counted. */
  readonly maxQueueSize: number;
  readonly maxBatchSize: number;
}

export interface TelemetrySettings {
  readonly resource: Readonly<Record<string, string>>;
  readonly knownMethods: ReadonlySet<string>;
  readonly traces: {
    /** Empty: nothing is recorded. */
    readonly exporters: readonly Exclude<TraceExporter, "none">[];
    readonly sampler: SamplerName;
    readonly ratio: number;
    readonly batch: BatchSettings;
    /** Whether a variable limits what spans may hold. The SDK reads and applies them. */
    readonly hasSpanLimits: boolean;
    readonly otlp: OtlpSettings;
  };
  readonly metrics: {
    readonly prometheus: boolean;
    readonly otlpPush: boolean;
    readonly intervalMs: number;
    readonly otlp: OtlpSettings;
  };
}

/** Environment variables by name, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_SPAN_LINK_COUNT_LIMIT` and so on. */
const SPAN_LIMIT = /^OTEL_(?:SPAN_|EVENT_|LINK_)?(?:ATTRIBUTE|EVENT|LINK)_(?:\w+_)?LIMIT$/;

const DEFAULT_ENDPOINT = "http://localhost:4318";

/**
 * Lays the environment over the configuration. A variable that is not valid is left out and named in `warnings`, as
 * the OpenTelemetry specification asks.
 *
 * @param service - `service` of the configuration
 * @param version - version of Holdfast
 */
export function resolveSettings(
  config: TelemetryConfig,
  service: string,
  version: string,
  env: Environment,
): { settings: TelemetrySettings; warnings: readonly string[] } {
  const variables = new Variables(env);
  const off = variables.boolean("OTEL_SDK_DISABLED") ?? false;
  const exporters =
    variables.list("OTEL_TRACES_EXPORTER", ["otlp", "console", "none"] as const) ?? config.traces.exporters;
  const metricsExporters = variables.list("OTEL_METRICS_EXPORTER", ["otlp", "prometheus", "none"] as const);
  const sampler = variables.choice("OTEL_TRACES_SAMPLER", SAMPLERS) ?? config.traces.sampler;
  const maxQueueSize = variables.positive("OTEL_BSP_MAX_QUEUE_SIZE") ?? 2048;

  const settings: TelemetrySettings = {
    resource: {
      [ATTR.serviceName]: service,
      [ATTR.serviceInstanceId]: randomUUID(),
      ...variables.pairs("OTEL_RESOURCE_ATTRIBUTES"),
      ...optional(ATTR.serviceName, variables.text("OTEL_SERVICE_NAME")),
      [ATTR.telemetryDistroName]: "holdfast",
      [ATTR.telemetryDistroVersion]: version,
    },
    knownMethods: knownMethods(variables),
    traces: {
      exporters: off ? [] : exporters.filter((exporter) => exporter !== "none"),
      sampler,
      ratio: variables.ratio("OTEL_TRACES_SAMPLER_ARG") ?? config.traces.ratio,
      batch: {
        delayMs: variables.positive("OTEL_BSP_SCHEDULE_DELAY") ?? 5000,
        exportTimeoutMs: variables.positive("OTEL_BSP_EXPORT_TIMEOUT") ?? 30_000,
        maxQueueSize,
        maxBatchSize: Math.min(variables.positive("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") ?? 512, maxQueueSize),
      },
      hasSpanLimits: Object.keys(env).some((name) => SPAN_LIMIT.test(name) && variables.text(name) !== undefined),
      otlp: otlpSettings(config, variables, "TRACES", "v1/traces"),
    },
    metrics: {
      prometheus: !off && (metricsExporters?.includes("prometheus") ?? config.metrics.prometheus),
      otlpPush: !off && (metricsExporters?.includes("otlp") ?? config.metrics.otlp),
      intervalMs: variables.positive("OTEL_METRIC_EXPORT_INTERVAL") ?? config.metrics.otlpIntervalMs,
      otlp: otlpSettings(config, variables, "METRICS", "v1/metrics"),
    },
  };
  return { settings, warnings: variables.warnings };
}

function otlpSettings(
  config: TelemetryConfig,
  variables: Variables,
  signal: "TRACES" | "METRICS",
  path: string,
): OtlpSettings {
  const base = variables.url("OTEL_EXPORTER_OTLP_ENDPOINT") ?? config.otlp.endpoint ?? DEFAULT_ENDPOINT;
  const protocols = ["http/protobuf", "http/json"] as const;
  return {
    // The endpoint of one signal is used as it stands; the common one gets the signal's path (OTLP specification).
    url: variables.url(`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`) ?? `${base.replace(/\/+$/, "")}/${path}`,
    protocol:
      variables.choice(`OTEL_EXPORTER_OTLP_${signal}_PROTOCOL`, protocols) ??
      variables.choice("OTEL_EXPORTER_OTLP_PROTOCOL", protocols) ??
      config.otlp.protocol,
    headers: {
      ...variables.pairs("OTEL_EXPORTER_OTLP_HEADERS"),
      ...variables.pairs(`OTEL_EXPORTER_OTLP_${signal}_HEADERS`),
    },
    timeoutMs:
      variables.positive(`OTEL_EXPORTER_OTLP_${signal}_TIMEOUT`) ??
      variables.positive("OTEL_EXPORTER_OTLP_TIMEOUT") ??
      10_000,
  };
}

function knownMethods(variables: Variables): ReadonlySet<string> {
  const text = variables.text("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS");
  return text === undefined ? KNOWN_METHODS : new Set(text.split(",").map((method) => method.trim()));
}

function optional(name: string, value: string | undefined): Record<string, string> {
  return value === undefined ? {} : { [name]: value };
}

/** Reads variables by type; an empty one counts as not set (OpenTelemetry specification). */
class Variables {
  readonly warnings: string[] = [];
  readonly #env: Environment;
  /** A variable that is read for both signals is reported once. */
  readonly #warned = new Set<string>();

  constructor(env: Environment) {
    this.#env = env;
  }

  text(name: string): string | undefined {
    const value = this.#env[name]?.trim();
    return value === "" ? undefined : value;
  }

  boolean(name: string): boolean | undefined {
    const value = this.text(name)?.toLowerCase();
    if (value === undefined || value === "true" || value === "false")
      return value === undefined ? undefined : value === "true";
    return this.#refuse(name, 'must be "true" or "false"');
  }

  positive(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    return /^[1-9]\d{0,9}$/.test(value) ? Number(value) : this.#refuse(name, "must be a whole number above 0");
  }

  ratio(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const ratio = Number(value);
    return ratio >= 0 && ratio <= 1 ? ratio : this.#refuse(name, "must be a number from 0 to 1");
  }

  url(name: string): string | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const protocol = URL.parse(value)?.protocol;
    return protocol === "http:" || protocol === "https:" ? value : this.#refuse(name, "must be an http or https URL");
  }

  choice<const T extends string>(name: string, allowed: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    return allowed.find((option) => option === value) ?? this.#refuse(name, `must be one of ${allowed.join(", ")}`);
  }

  list<const T extends string>(name: string, allowed: readonly T[]): T[] | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const chosen: T[] = [];
    for (const part of value.split(",")) {
      const option = allowed.find((candidate) => candidate === part.trim());
      if (option === undefined) return this.#refuse(name, `must be a list of ${allowed.join(", ")}`);
      chosen.push(option);
    }
    return chosen;
  }

  /** `key=value,key=value`, percent-encoded (W3C Baggage without properties). */
  pairs(name: string): Record<string, string> {
    const pairs: Record<string, string> = {};
    for (const part of this.text(name)?.split(",") ?? []) {
      if (part.trim() === "") continue;
      const equals = part.indexOf("=");
      try {
        if (equals < 1) throw new URIError("no key");
        pairs[decodeURIComponent(part.slice(0, equals).trim())] = decodeURIComponent(part.slice(equals + 1).trim());
      } catch {
        this.#refuse(name, "must be key=value pairs, separated by commas and percent-encoded");
        return {};
      }
    }
    return pairs;
  }

  #refuse(name: string, rule: string): undefined {
    if (this.#warned.has(name)) return undefined;
    this.#warned.add(name);
    // The value is not shown: OTEL_EXPORTER_OTLP_HEADERS holds credentials.
    this.warnings.push(`environment variable ${name} ${rule}; it is ignored`);
    return undefined;
  }
}
