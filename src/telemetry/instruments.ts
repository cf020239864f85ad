/**
 * Metrics as plain numbers in memory.
 *
 * The metrics SDK hashes the attributes at every measurement (about 0.8 µs each, several per exchange) and would have
 * to be loaded before the first connection. Here a measurement is a look-up and an addition, nothing is lost before
 * the SDK is loaded, and the SDK only sends what is here.
 *
 * @module
 */
import { METRIC } from "./names.ts";

/** Attributes of one series. */
export type SeriesAttributes = Readonly<Record<string, string | number | boolean>>;

/** One number: a counter, a sum that goes up and down, or a gauge. */
export class NumberSeries {
  readonly attributes: SeriesAttributes;
  value = 0;

  constructor(attributes: SeriesAttributes) {
    this.attributes = attributes;
  }
}

/** One distribution with fixed buckets. */
export class HistogramSeries {
  readonly attributes: SeriesAttributes;
  readonly boundaries: readonly number[];
  /** One more than boundaries; `counts[n]` holds values above `boundaries[n - 1]` up to and with `boundaries[n]`. */
  readonly counts: number[];
  count = 0;
  sum = 0;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;

  constructor(attributes: SeriesAttributes, boundaries: readonly number[]) {
    this.attributes = attributes;
    this.boundaries = boundaries;
    this.counts = new Array<number>(boundaries.length + 1).fill(0);
  }

  record(value: number): void {
    const { boundaries } = this;
    let bucket = 0;
    while (bucket < boundaries.length && value > boundaries[bucket]!) bucket++;
    this.counts[bucket]!++;
    this.count++;
    this.sum += value;
    if (value < this.min) this.min = value;
    if (value > this.max) this.max = value;
  }
}

/** What a metric is. */
export interface MetricDescription {
  readonly name: string;
  readonly help: string;
  /** UCUM: `s`, `By`, or an annotation such as `{request}`. */
  readonly unit: string;
}

/** Series kept per metric; measurements past them share one with `otel.metric.overflow`, as in the SDK. */
const MAX_SERIES = 2000;
const OVERFLOW: SeriesAttributes = { "otel.metric.overflow": true };

type NumberKind = "counter" | "sum" | "gauge";

/** All series of one metric. */
export class Metric<S extends NumberSeries | HistogramSeries, K extends NumberKind | "histogram"> {
  readonly description: MetricDescription;
  readonly kind: K;
  readonly #series = new Map<string, S>();
  readonly #create: (attributes: SeriesAttributes) => S;

  constructor(description: MetricDescription, kind: K, create: (attributes: SeriesAttributes) => S) {
    this.description = description;
    this.kind = kind;
    this.#create = create;
  }

  /**
   * The series with this key, made when it is not there yet.
   *
   * @param key - stands for the attributes; the same attributes must come with the same key
   */
  at(key: string, attributes: () => SeriesAttributes): S {
    const found = this.#series.get(key);
    if (found !== undefined) return found;
    const full = this.#series.size >= MAX_SERIES - 1;
    const place = full ? "overflow" : key;
    const existing = full ? this.#series.get(place) : undefined;
    if (existing !== undefined) return existing;
    const series = this.#create(full ? OVERFLOW : attributes());
    this.#series.set(place, series);
    return series;
  }

  /** Forgets a series: a gauge whose value is gone. */
  remove(key: string): void {
    this.#series.delete(key);
  }

  get series(): Iterable<S> {
    return this.#series.values();
  }

  get size(): number {
    return this.#series.size;
  }
}

export type NumberMetric = Metric<NumberSeries, NumberKind>;
export type HistogramMetric = Metric<HistogramSeries, "histogram">;

/** Bucket boundaries that the semantic conventions give for request durations, in seconds. */
const DURATION_S = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
/** And for connections, which live from milliseconds to days. */
const CONNECTION_DURATION_S = [
  0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3600, 14_400, 86_400,
];
const REQUESTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000];
/** Fine around the idle timeouts that peers have: 5 s (Node), 60 s (load balancers), 75 s (nginx), 350 s (cloud paths). */
const IDLE_S = [0.001, 0.01, 0.1, 0.5, 1, 2, 3, 4, 4.5, 5, 6, 10, 15, 20, 30, 45, 55, 60, 65, 75, 120, 240, 350, 600];

function counter(name: string, unit: string, help: string): NumberMetric {
  return new Metric({ name, unit, help }, "counter", (attributes) => new NumberSeries(attributes));
}

function sum(name: string, unit: string, help: string): NumberMetric {
  return new Metric({ name, unit, help }, "sum", (attributes) => new NumberSeries(attributes));
}

function gauge(name: string, unit: string, help: string): NumberMetric {
  return new Metric({ name, unit, help }, "gauge", (attributes) => new NumberSeries(attributes));
}

function histogram(name: string, unit: string, boundaries: readonly number[], help: string): HistogramMetric {
  return new Metric({ name, unit, help }, "histogram", (attributes) => new HistogramSeries(attributes, boundaries));
}

/** The metrics of one sidecar, both directions. */
export class Instruments {
  /** Since when they count: milliseconds since the Unix epoch. */
  readonly startedAtEpochMs: number = Date.now();

  readonly serverRequestDuration = histogram(
    METRIC.serverRequestDuration,
    "s",
    DURATION_S,
    "Time from a request head to the end of its response, downstream.",
  );
  readonly serverActiveRequests = sum(METRIC.serverActiveRequests, "{request}", "Exchanges under way, downstream.");
  readonly clientRequestDuration = histogram(
    METRIC.clientRequestDuration,
    "s",
    DURATION_S,
    "Time of one attempt upstream, with the wait for a connection.",
  );
  readonly clientActiveRequests = sum(METRIC.clientActiveRequests, "{request}", "Attempts under way, upstream.");
  readonly clientOpenConnections = sum(
    METRIC.clientOpenConnections,
    "{connection}",
    "Open upstream connections by state.",
  );
  readonly clientConnectionDuration = histogram(
    METRIC.clientConnectionDuration,
    "s",
    CONNECTION_DURATION_S,
    "How long upstream connections were open.",
  );
  readonly downstreamOpenConnections = sum(
    METRIC.downstreamOpenConnections,
    "{connection}",
    "Open downstream connections by state.",
  );
  readonly connectionRequests = histogram(
    METRIC.connectionRequests,
    "{request}",
    REQUESTS,
    "Exchanges that a connection had carried when it closed.",
  );
  readonly connectionIdleAtReuse = histogram(
    METRIC.connectionIdleAtReuse,
    "s",
    IDLE_S,
    "How long a connection had been idle when it was used again.",
  );
  readonly connectionsClosed = counter(METRIC.connectionsClosed, "{connection}", "Closed connections by reason.");
  readonly upstreamStale = counter(
    METRIC.upstreamStale,
    "{exchange}",
    "Exchanges that met a reused upstream connection which its peer had closed.",
  );
  readonly upstreamIdleTimeout = gauge(
    METRIC.upstreamIdleTimeout,
    "s",
    "How long idle connections to an origin are kept, by where the limit comes from.",
  );
  readonly pluginErrors = counter(METRIC.pluginErrors, "{error}", "Failed plugin hooks.");
  readonly droppedSpans = counter(
    METRIC.droppedSpans,
    "{span}",
    "Spans that were not delivered: the queue was full or the collector did not take them.",
  );
  readonly configReloads = counter(METRIC.configReloads, "{reload}", "Reloads of the configuration by their result.");

  /** Every metric. */
  get all(): readonly (NumberMetric | HistogramMetric)[] {
    return [
      this.serverRequestDuration,
      this.serverActiveRequests,
      this.clientRequestDuration,
      this.clientActiveRequests,
      this.clientOpenConnections,
      this.clientConnectionDuration,
      this.downstreamOpenConnections,
      this.connectionRequests,
      this.connectionIdleAtReuse,
      this.connectionsClosed,
      this.upstreamStale,
      this.upstreamIdleTimeout,
      this.pluginErrors,
      this.droppedSpans,
      this.configReloads,
    ];
  }
}
