/**
 * Metrics of one direction, as a filter on the public plugin API.
 *
 * @module
 */
import type {
  CloseReason,
  Connection,
  ConnectionHooks,
  Direction,
  Exchange,
  ExchangeHooks,
  Failure,
  Filter,
  IdleLimitSource,
  Origin,
  Outcome,
  PluginFailure,
  Side,
} from "../plugin/api.ts";
import { normaliseMethod, protocolVersion } from "./http-semantics.ts";
import type { HistogramSeries, Instruments, NumberSeries, SeriesAttributes } from "./instruments.ts";
import { ATTR, OTHER } from "./names.ts";

export interface MetricsOptions {
  readonly direction: Direction;
  readonly knownMethods: ReadonlySet<string>;
  /** Origins with series of their own; the rest share `server.address="_OTHER"`. Default 256. */
  readonly maxOrigins?: number;
}

const DEFAULT_MAX_ORIGINS = 256;

/** Counts everything that {@link Instruments} lists, in one direction. */
export function metricsFilter(instruments: Instruments, options: MetricsOptions): Filter {
  const recorder = new Recorder(instruments, options);
  return {
    connection: (connection) => new ConnectionMetrics(recorder, connection),
    exchange: (exchange) => new ExchangeMetrics(recorder, exchange),
    pluginFailed: (failure) => recorder.pluginFailed(failure),
  };
}

/** Durations of exchanges that ended alike: the few kinds that a busy sidecar sees again and again are found without a key. */
class DurationSeries {
  readonly #recent: { method: string; a: unknown; b: unknown; error: string; series: HistogramSeries }[] = [];

  /** @returns `undefined` when it was not used lately */
  recent(method: string, a: unknown, b: unknown, error: string): HistogramSeries | undefined {
    for (const kind of this.#recent) {
      if (kind.method === method && kind.a === a && kind.b === b && kind.error === error) return kind.series;
    }
    return undefined;
  }

  /** Keeps a series for {@link recent}. */
  keep(method: string, a: unknown, b: unknown, error: string, series: HistogramSeries): HistogramSeries {
    if (this.#recent.length >= MAX_RECENT) this.#recent.shift();
    this.#recent.push({ method, a, b, error, series });
    return series;
  }
}

const MAX_RECENT = 8;

/** The upstream side of one origin: its attributes, a key that stands for them, and its series once they were used. */
class OriginSeries {
  readonly key: string;
  readonly attributes: SeriesAttributes;
  readonly active = new Map<string, NumberSeries>();
  readonly durations = new DurationSeries();
  openActive: NumberSeries | undefined;
  openIdle: NumberSeries | undefined;
  /** What {@link Recorder.idleTimeouts} found last, in milliseconds: it hardly ever changes. */
  readonly idleTimeoutsMs: Record<IdleLimitSource, number | undefined> = {
    configured: undefined,
    hint: undefined,
    learned: undefined,
  };

  constructor(key: string, attributes: SeriesAttributes) {
    this.key = key;
    this.attributes = attributes;
  }
}

/** Finds the series of a measurement. */
class Recorder {
  readonly instruments: Instruments;
  readonly direction: Direction;
  readonly #knownMethods: ReadonlySet<string>;
  readonly #maxOrigins: number;
  readonly #origins = new Map<string, OriginSeries>();
  #lastOrigin: Origin | undefined;
  #lastOriginSeries: OriginSeries | undefined;
  // Fields, not objects with a key for each: these are read for every exchange.
  readonly #httpActive = new Map<string, NumberSeries>();
  readonly #httpsActive = new Map<string, NumberSeries>();
  readonly #httpDurations = new DurationSeries();
  readonly #httpsDurations = new DurationSeries();
  #downstreamActive: NumberSeries | undefined;
  #downstreamIdle: NumberSeries | undefined;
  #downstreamIdleAtReuse: HistogramSeries | undefined;
  #upstreamIdleAtReuse: HistogramSeries | undefined;

  constructor(instruments: Instruments, options: MetricsOptions) {
    this.instruments = instruments;
    this.direction = options.direction;
    this.#knownMethods = options.knownMethods;
    this.#maxOrigins = options.maxOrigins ?? DEFAULT_MAX_ORIGINS;
  }

  method(exchange: Exchange): string {
    return normaliseMethod(exchange.request.method, this.#knownMethods);
  }

  origin(origin: Origin | undefined): OriginSeries {
    if (origin === this.#lastOrigin && this.#lastOriginSeries !== undefined) return this.#lastOriginSeries;
    const address = origin === undefined ? "" : `${origin.scheme}://${origin.host}:${origin.port}`;
    const series = this.#origins.get(address) ?? this.#newOrigin(origin, address);
    this.#lastOrigin = origin;
    this.#lastOriginSeries = series;
    return series;
  }

  #newOrigin(origin: Origin | undefined, address: string): OriginSeries {
    const named = origin !== undefined && this.#origins.size < this.#maxOrigins;
    const series = new OriginSeries(
      `${this.direction} ${named ? address : OTHER}`,
      named
        ? {
            [ATTR.serverAddress]: origin.host,
            [ATTR.serverPort]: origin.port,
            [ATTR.urlScheme]: origin.scheme,
            [ATTR.direction]: this.direction,
          }
        : { [ATTR.serverAddress]: OTHER, [ATTR.direction]: this.direction },
    );
    // Origins past the cap are not remembered either: with `unmatched: "pass"` callers choose them.
    if (named) this.#origins.set(address, series);
    return series;
  }

  serverActive(method: string, scheme: "http" | "https"): NumberSeries {
    const ofScheme = scheme === "http" ? this.#httpActive : this.#httpsActive;
    const known = ofScheme.get(method);
    if (known !== undefined) return known;
    const series = this.instruments.serverActiveRequests.at(`${this.direction} ${method} ${scheme}`, () => ({
      [ATTR.httpRequestMethod]: method,
      [ATTR.urlScheme]: scheme,
      [ATTR.direction]: this.direction,
    }));
    ofScheme.set(method, series);
    return series;
  }

  serverDuration(exchange: Exchange, method: string, outcome: Outcome): HistogramSeries {
    const { scheme, version } = exchange.request;
    const { status } = outcome;
    const error = outcome.error?.code ?? (status !== undefined && status >= 500 ? String(status) : "");
    const durations = scheme === "http" ? this.#httpDurations : this.#httpsDurations;
    return (
      durations.recent(method, version, status, error) ??
      durations.keep(
        method,
        version,
        status,
        error,
        this.#newServerDuration(`${method} ${scheme} ${version} ${status} ${error}`, {
          [ATTR.httpRequestMethod]: method,
          [ATTR.urlScheme]: scheme,
          [ATTR.networkProtocolVersion]: version,
          ...(status === undefined ? {} : { [ATTR.httpResponseStatusCode]: status }),
          ...(error === "" ? {} : { [ATTR.errorType]: error }),
          [ATTR.direction]: this.direction,
        }),
      )
    );
  }

  #newServerDuration(key: string, attributes: SeriesAttributes): HistogramSeries {
    return this.instruments.serverRequestDuration.at(`${this.direction} ${key}`, () => attributes);
  }

  clientActive(method: string, origin: OriginSeries): NumberSeries {
    const known = origin.active.get(method);
    if (known !== undefined) return known;
    const series = this.instruments.clientActiveRequests.at(`${origin.key} ${method}`, () => ({
      [ATTR.httpRequestMethod]: method,
      ...origin.attributes,
    }));
    origin.active.set(method, series);
    return series;
  }

  clientDuration(
    method: string,
    origin: OriginSeries,
    connection: Connection | undefined,
    status: number | undefined,
    error: string | undefined,
  ): HistogramSeries {
    const protocol = connection?.protocol;
    const { durations } = origin;
    return (
      durations.recent(method, protocol, status, error ?? "") ??
      durations.keep(
        method,
        protocol,
        status,
        error ?? "",
        this.#newClientDuration(
          origin,
          method,
          protocol === undefined ? undefined : protocolVersion(protocol),
          status,
          error,
        ),
      )
    );
  }

  #newClientDuration(
    origin: OriginSeries,
    method: string,
    version: string | undefined,
    status: number | undefined,
    error: string | undefined,
  ): HistogramSeries {
    return this.instruments.clientRequestDuration.at(`${origin.key} ${method} ${version} ${status} ${error}`, () => ({
      [ATTR.httpRequestMethod]: method,
      ...origin.attributes,
      ...(version === undefined ? {} : { [ATTR.networkProtocolVersion]: version }),
      ...(status === undefined ? {} : { [ATTR.httpResponseStatusCode]: status }),
      ...(error === undefined ? {} : { [ATTR.errorType]: error }),
    }));
  }

  open(connection: Connection, state: "active" | "idle"): NumberSeries {
    if (connection.side === "downstream") {
      if (state === "active") {
        this.#downstreamActive ??= this.#newDownstreamOpen(state);
        return this.#downstreamActive;
      }
      this.#downstreamIdle ??= this.#newDownstreamOpen(state);
      return this.#downstreamIdle;
    }
    const origin = this.origin(connection.origin);
    if (state === "active") {
      origin.openActive ??= this.#newUpstreamOpen(origin, state);
      return origin.openActive;
    }
    origin.openIdle ??= this.#newUpstreamOpen(origin, state);
    return origin.openIdle;
  }

  #newDownstreamOpen(state: "active" | "idle"): NumberSeries {
    return this.instruments.downstreamOpenConnections.at(`${this.direction} ${state}`, () => ({
      [ATTR.httpConnectionState]: state,
      [ATTR.direction]: this.direction,
    }));
  }

  #newUpstreamOpen(origin: OriginSeries, state: "active" | "idle"): NumberSeries {
    return this.instruments.clientOpenConnections.at(`${origin.key} ${state}`, () => ({
      [ATTR.httpConnectionState]: state,
      ...origin.attributes,
    }));
  }

  reused(side: Side, idleMs: number): void {
    if (side === "downstream") {
      this.#downstreamIdleAtReuse ??= this.#newIdleAtReuse(side);
      this.#downstreamIdleAtReuse.record(idleMs / 1000);
    } else {
      this.#upstreamIdleAtReuse ??= this.#newIdleAtReuse(side);
      this.#upstreamIdleAtReuse.record(idleMs / 1000);
    }
  }

  #newIdleAtReuse(side: Side): HistogramSeries {
    return this.instruments.connectionIdleAtReuse.at(`${this.direction} ${side}`, () => this.#ofSide(side));
  }

  closed(connection: Connection, reason: CloseReason): void {
    const { side } = connection;
    this.instruments.connectionsClosed.at(`${this.direction} ${side} ${reason}`, () => ({
      ...this.#ofSide(side),
      [ATTR.closeReason]: reason,
    })).value++;
    if (reason === "connect_failed") return;
    this.instruments.connectionRequests
      .at(`${this.direction} ${side}`, () => this.#ofSide(side))
      .record(connection.exchanges);
    if (side === "downstream") return;
    const origin = this.origin(connection.origin);
    this.instruments.clientConnectionDuration.at(origin.key, () => origin.attributes).record(connection.ageMs / 1000);
  }

  idleTimeouts(connection: Connection): void {
    const origin = this.origin(connection.origin);
    const { idleTimeoutsMs: last } = origin;
    const configured = connection.keepAlive.idleTimeoutMs;
    const hint = connection.hint?.timeoutMs;
    const learned = connection.learned?.idleTimeoutMs;
    if (configured !== last.configured) this.#idleTimeout(origin, "configured", configured);
    if (hint !== last.hint) this.#idleTimeout(origin, "hint", hint);
    if (learned !== last.learned) this.#idleTimeout(origin, "learned", learned);
  }

  #idleTimeout(origin: OriginSeries, source: IdleLimitSource, timeoutMs: number | undefined): void {
    origin.idleTimeoutsMs[source] = timeoutMs;
    const { upstreamIdleTimeout } = this.instruments;
    const key = `${origin.key} ${source}`;
    if (timeoutMs === undefined || timeoutMs === Number.POSITIVE_INFINITY) {
      upstreamIdleTimeout.remove(key);
      return;
    }
    upstreamIdleTimeout.at(key, () => ({ [ATTR.source]: source, ...origin.attributes })).value = timeoutMs / 1000;
  }

  stale(exchange: Exchange, result: string): void {
    const origin = this.origin(exchange.route?.origin);
    this.instruments.upstreamStale.at(`${origin.key} ${result}`, () => ({
      [ATTR.result]: result,
      ...origin.attributes,
    })).value++;
  }

  pluginFailed(failure: PluginFailure): void {
    const { plugin, hook } = failure;
    this.instruments.pluginErrors.at(`${this.direction} ${plugin} ${hook}`, () => ({
      [ATTR.pluginName]: plugin,
      [ATTR.pluginHook]: hook,
      [ATTR.direction]: this.direction,
    })).value++;
  }

  #ofSide(side: Side): SeriesAttributes {
    return { [ATTR.connectionSide]: side, [ATTR.direction]: this.direction };
  }
}

class ConnectionMetrics implements ConnectionHooks {
  readonly #recorder: Recorder;
  readonly #connection: Connection;
  /** The series that counts the connection now; `undefined` when it never opened. */
  #counted: NumberSeries | undefined;

  constructor(recorder: Recorder, connection: Connection) {
    this.#recorder = recorder;
    this.#connection = connection;
    if (connection.closeReason !== "connect_failed") this.#count("idle");
  }

  active(): void {
    this.#count("active");
  }

  idle(): void {
    this.#count("idle");
    if (this.#connection.side === "upstream") this.#recorder.idleTimeouts(this.#connection);
  }

  close(reason: CloseReason): void {
    if (this.#counted !== undefined) this.#counted.value--;
    this.#recorder.closed(this.#connection, reason);
  }

  #count(state: "active" | "idle"): void {
    if (this.#counted !== undefined) this.#counted.value--;
    this.#counted = this.#recorder.open(this.#connection, state);
    this.#counted.value++;
  }
}

class ExchangeMetrics implements ExchangeHooks {
  readonly #recorder: Recorder;
  readonly #exchange: Exchange;
  readonly #method: string;
  readonly #serverActive: NumberSeries;
  /** Attempts that got as far as a connection. */
  #connected = 0;
  #clientActive: NumberSeries | undefined;

  constructor(recorder: Recorder, exchange: Exchange) {
    this.#recorder = recorder;
    this.#exchange = exchange;
    this.#method = recorder.method(exchange);
    this.#serverActive = recorder.serverActive(this.#method, exchange.request.scheme);
    this.#serverActive.value++;
    if (exchange.downstreamIndex > 1 && exchange.downstream.activeExchanges <= 1) {
      recorder.reused("downstream", exchange.downstreamIdleMs);
    }
  }

  upstreamConnected(connection: Connection): void {
    this.#connected++;
    this.#clientActive = this.#recorder.clientActive(this.#method, this.#origin());
    this.#clientActive.value++;
    if (connection.exchanges > 1 && connection.activeExchanges <= 1) {
      this.#recorder.reused("upstream", this.#exchange.upstreamIdleMs);
    }
  }

  retry(error: Failure): void {
    this.#attemptEnded(this.#exchange.elapsedMs, undefined, error.code);
  }

  end(outcome: Outcome): void {
    const exchange = this.#exchange;
    this.#serverActive.value--;
    if (!isTunnelled(exchange, outcome)) {
      this.#recorder.serverDuration(exchange, this.#method, outcome).record(outcome.durationMs / 1000);
    }
    if (outcome.stale !== undefined) this.#recorder.stale(exchange, outcome.stale);
    // An attempt that found no connection was never shown to `upstreamConnected`.
    if (this.#clientActive === undefined && exchange.attempts <= this.#connected) return;
    const status = outcome.answeredBy === "upstream" ? outcome.status : undefined;
    const error = outcome.error?.code ?? (status !== undefined && status >= 400 ? String(status) : undefined);
    if (!isTunnelled(exchange, outcome)) this.#attemptEnded(outcome.durationMs, status, error);
    else if (this.#clientActive !== undefined) this.#clientActive.value--;
  }

  /** @param endedAtMs - since the exchange began */
  #attemptEnded(endedAtMs: number, status: number | undefined, error: string | undefined): void {
    const exchange = this.#exchange;
    const connection = this.#clientActive === undefined ? undefined : exchange.upstream;
    if (this.#clientActive !== undefined) this.#clientActive.value--;
    this.#clientActive = undefined;
    const startedAtMs = exchange.attemptStartedAtEpochMs - exchange.startedAtEpochMs;
    this.#recorder
      .clientDuration(this.#method, this.#origin(), connection, status, error)
      .record(Math.max(0, endedAtMs - startedAtMs) / 1000);
  }

  #origin(): OriginSeries {
    return this.#recorder.origin(this.#exchange.route?.origin);
  }
}

/** A tunnel lasts as long as its peers like: its time says nothing about requests. */
function isTunnelled(exchange: Exchange, outcome: Outcome): boolean {
  const { status } = outcome;
  switch (exchange.kind) {
    case "http":
      return false;
    case "tunnel":
      return status !== undefined && status < 300;
    case "upgrade":
      return status === 101;
  }
}
