/**
 * Spans of exchanges, as a filter on the public plugin API: one SERVER span per exchange, one CLIENT span per attempt.
 *
 * @module
 */
import { SpanKind } from "@opentelemetry/api";
import type {
  Connection,
  Exchange,
  ExchangeHooks,
  Failure,
  Filter,
  Outcome,
  PluginFailure,
  Protocol,
} from "../plugin/api.ts";
import { ConnectionTraces, type Recording } from "./connection-traces.ts";
import { fullUrl, normaliseMethod, protocolVersion, redactQuery, serverOf, splitTarget } from "./http-semantics.ts";
import { ATTR, EVENT, OTHER, SPAN } from "./names.ts";
import type { SpanPlace, SpanWriter } from "./span-writer.ts";
import {
  FLAG_SAMPLED,
  formatTraceparent,
  newSpanId,
  newTraceId,
  type RemoteParent,
  readParent,
} from "./trace-context.ts";

export interface TracingOptions extends Recording {
  readonly knownMethods: ReadonlySet<string>;
}

/** Records spans, and passes the trace on to the upstream in `traceparent`. */
export function tracingFilter(options: TracingOptions): Filter {
  const connections = new ConnectionTraces(options);
  return {
    connection: (connection) => connections.opened(connection),
    exchange(exchange) {
      const parent = readParent(exchange.request.headers);
      const parentSampled = parent === undefined ? undefined : (parent.flags & FLAG_SAMPLED) !== 0;
      const traceId = parent?.traceId ?? newTraceId();
      if (!options.sampled(traceId, parentSampled)) {
        passOnUnsampled(exchange, parent, traceId);
        return undefined;
      }
      return new ExchangeTrace(options, connections, exchange, traceId, parent);
    },
  };
}

/** No span, no SDK: the upstream still learns the trace and that nobody records it. */
function passOnUnsampled(exchange: Exchange, parent: RemoteParent | undefined, traceId: string): void {
  if (parent !== undefined && (parent.flags & FLAG_SAMPLED) === 0) {
    // The caller's own field says all there is to say.
    exchange.trace = { traceId, spanId: parent.spanId, sampled: false };
    return;
  }
  const spanId = newSpanId();
  const { headers } = exchange.request;
  // What stood beside a `traceparent` that was not valid belongs to no trace (W3C Trace Context §3.3).
  if (parent === undefined && headers.has("tracestate")) headers.delete("tracestate");
  headers.set("traceparent", formatTraceparent(traceId, spanId, false, parent?.flags));
  exchange.trace = { traceId, spanId, sampled: false };
}

/** What an attempt is known by from its beginning on. */
interface Attempt {
  readonly place: SpanPlace;
  readonly startedAtEpochMs: number;
  /** URL of the request as it goes to its origin; filters may rewrite the request for the next attempt. */
  readonly url: string | undefined;
  /** `undefined`: none was found. */
  readonly connection: Connection | undefined;
  readonly protocol: Protocol | undefined;
  readonly setup: SpanPlace | undefined;
  readonly reused: boolean;
  readonly wasIdle: boolean;
  readonly index: number;
  readonly ageMs: number;
  readonly idleMs: number;
  readonly idleLimitMs: number | undefined;
  readonly idleLimitSource: string | undefined;
}

/** Gathers what the spans of one exchange say, and writes each when it has ended. */
class ExchangeTrace implements ExchangeHooks {
  readonly #spans: SpanWriter;
  readonly #connections: ConnectionTraces;
  readonly #exchange: Exchange;
  readonly #place: SpanPlace;
  readonly #parent: RemoteParent | undefined;
  readonly #traceState: string | undefined;
  readonly #method: string;
  // As the request came: filters may rewrite it.
  readonly #originalMethod: string;
  readonly #target: string;
  readonly #scheme: "http" | "https";
  readonly #authority: string;
  readonly #version: string;
  readonly #userAgent: string | undefined;
  readonly #clientAddress: string;
  readonly #downstreamAgeMs: number;
  /** Attempts that have a span. */
  #attempts = 0;
  #attempt: Attempt | undefined;
  #failures: { readonly failure: PluginFailure; readonly atEpochMs: number }[] | undefined;

  constructor(
    options: TracingOptions,
    connections: ConnectionTraces,
    exchange: Exchange,
    traceId: string,
    parent: RemoteParent | undefined,
  ) {
    const { request, downstream } = exchange;
    const { headers } = request;
    const spanId = newSpanId();
    this.#spans = options.spans;
    this.#connections = connections;
    this.#exchange = exchange;
    this.#place = { traceId, spanId };
    this.#parent = parent;
    this.#traceState = parent === undefined ? undefined : traceStateOf(exchange);
    this.#method = normaliseMethod(request.method, options.knownMethods);
    this.#originalMethod = request.method;
    this.#target = request.target;
    this.#scheme = request.scheme;
    this.#authority = request.authority;
    this.#version = request.version;
    this.#userAgent = headers.get("user-agent");
    this.#clientAddress = exchange.clientAddress;
    this.#downstreamAgeMs = downstream.ageMs;
    // What stood beside a `traceparent` that was not valid belongs to no trace (W3C Trace Context §3.3).
    if (parent === undefined && headers.has("tracestate")) headers.delete("tracestate");
    exchange.trace = { traceId, spanId, sampled: true };
    connections.recorded(downstream);
  }

  upstreamConnected(connection: Connection): void {
    const exchange = this.#exchange;
    const { place } = this.#startAttempt(connection);
    exchange.request.headers.set(
      "traceparent",
      formatTraceparent(place.traceId, place.spanId, true, this.#parent?.flags),
    );
  }

  retry(error: Failure): void {
    this.#endAttempt(this.#exchange.elapsedMs, undefined, error);
  }

  pluginFailed(failure: PluginFailure): void {
    this.#failures ??= [];
    this.#failures.push({ failure, atEpochMs: this.#exchange.startedAtEpochMs + this.#exchange.elapsedMs });
  }

  end(outcome: Outcome): void {
    // An attempt that found no connection was never shown to `upstreamConnected`.
    if (this.#attempt === undefined && this.#exchange.attempts > this.#attempts) this.#startAttempt(undefined);
    const upstreamStatus = outcome.answeredBy === "upstream" ? outcome.status : undefined;
    this.#endAttempt(outcome.durationMs, upstreamStatus, outcome.error);
    this.#writeServer(outcome);
  }

  #spanName(): string {
    return this.#method === OTHER ? SPAN.unknownMethod : this.#method;
  }

  #writeServer(outcome: Outcome): void {
    const exchange = this.#exchange;
    const { downstream, startedAtEpochMs } = exchange;
    const spans = this.#spans;
    const { status, error } = outcome;
    const endedAtEpochMs = startedAtEpochMs + outcome.durationMs;
    if (!spans.begin(SpanKind.SERVER, this.#spanName(), this.#place, startedAtEpochMs, endedAtEpochMs)) return;
    if (this.#parent !== undefined) spans.parent(this.#parent.spanId, true, this.#traceState);
    spans.attribute(ATTR.httpRequestMethod, this.#method);
    if (this.#method === OTHER) spans.attribute(ATTR.httpRequestMethodOriginal, this.#originalMethod);
    const server = serverOf(this.#authority, this.#scheme);
    const { path, query } = splitTarget(this.#target);
    spans.attribute(ATTR.urlScheme, this.#scheme);
    spans.attribute(ATTR.urlPath, path);
    if (query !== undefined) spans.attribute(ATTR.urlQuery, redactQuery(query));
    spans.attribute(ATTR.serverAddress, server.host);
    spans.attribute(ATTR.serverPort, server.port);
    spans.attribute(ATTR.clientAddress, this.#clientAddress);
    spans.attribute(ATTR.networkPeerAddress, downstream.remoteAddress);
    spans.attribute(ATTR.networkPeerPort, downstream.remotePort);
    spans.attribute(ATTR.networkProtocolVersion, this.#version);
    spans.attribute(ATTR.userAgentOriginal, this.#userAgent);
    spans.attribute(ATTR.direction, exchange.direction);
    spans.attribute(ATTR.exchangeId, exchange.id);
    spans.attribute(ATTR.connectionId, downstream.id);
    spans.attribute(ATTR.connectionRequestIndex, exchange.downstreamIndex);
    spans.attribute(ATTR.connectionAgeMs, this.#downstreamAgeMs);
    spans.attribute(ATTR.connectionIdleMs, exchange.downstreamIdleMs);
    spans.attribute(ATTR.answeredBy, outcome.answeredBy);
    spans.attribute(ATTR.httpRequestBodySize, outcome.requestBytes);
    spans.attribute(ATTR.httpResponseBodySize, outcome.responseBytes);
    spans.attribute(ATTR.httpResponseStatusCode, status);
    spans.attribute(ATTR.route, exchange.route?.name);
    spans.attribute(ATTR.stale, outcome.stale);
    if (this.#failures !== undefined) this.#writeFailures(this.#failures);
    const isFault = error === undefined ? status !== undefined && status >= 500 : error.source !== "downstream";
    writeError(spans, error, status, isFault);
    spans.end();
  }

  #writeFailures(failures: readonly { readonly failure: PluginFailure; readonly atEpochMs: number }[]): void {
    for (const { failure, atEpochMs } of failures) {
      const { error } = failure;
      this.#spans.event(EVENT.pluginFailed, atEpochMs, {
        [ATTR.pluginName]: failure.plugin,
        [ATTR.pluginHook]: failure.hook,
        [ATTR.pluginOnError]: failure.onError,
        [ATTR.exceptionType]: error instanceof Error ? error.name : typeof error,
        [ATTR.exceptionMessage]: error instanceof Error ? error.message : String(error),
      });
    }
  }

  #startAttempt(connection: Connection | undefined): Attempt {
    const exchange = this.#exchange;
    const origin = exchange.route?.origin;
    const reused = connection !== undefined && connection.exchanges > 1;
    const attempt: Attempt = {
      place: { traceId: this.#place.traceId, spanId: newSpanId() },
      startedAtEpochMs: exchange.attemptStartedAtEpochMs,
      url: origin === undefined ? undefined : fullUrl(origin, exchange.request.target),
      connection,
      protocol: connection?.protocol,
      setup: connection === undefined ? undefined : this.#connections.setupOf(connection),
      reused,
      wasIdle: reused && connection.activeExchanges <= 1,
      index: exchange.upstreamIndex,
      ageMs: connection === undefined ? 0 : connection.ageMs,
      idleMs: exchange.upstreamIdleMs,
      idleLimitMs: connection?.idleLimitMs,
      idleLimitSource: connection?.idleLimitSource,
    };
    this.#attempt = attempt;
    this.#attempts++;
    if (exchange.queuedMs > 0) this.#writeWait(attempt);
    return attempt;
  }

  #writeWait({ place, startedAtEpochMs }: Attempt): void {
    const spans = this.#spans;
    const wait = { traceId: place.traceId, spanId: newSpanId() };
    const endedAtEpochMs = startedAtEpochMs + this.#exchange.queuedMs;
    if (!spans.begin(SpanKind.INTERNAL, SPAN.waitForConnection, wait, startedAtEpochMs, endedAtEpochMs)) return;
    spans.parent(place.spanId, false, this.#traceState);
    spans.end();
  }

  /** @param endedAtMs - since the exchange began */
  #endAttempt(endedAtMs: number, status: number | undefined, error: Failure | undefined): void {
    const attempt = this.#attempt;
    if (attempt === undefined) return;
    this.#attempt = undefined;
    const exchange = this.#exchange;
    const spans = this.#spans;
    const endedAtEpochMs = exchange.startedAtEpochMs + endedAtMs;
    if (!spans.begin(SpanKind.CLIENT, this.#spanName(), attempt.place, attempt.startedAtEpochMs, endedAtEpochMs))
      return;
    spans.parent(this.#place.spanId, false, this.#traceState);
    const origin = exchange.route?.origin;
    spans.attribute(ATTR.httpRequestMethod, this.#method);
    if (this.#method === OTHER) spans.attribute(ATTR.httpRequestMethodOriginal, this.#originalMethod);
    if (this.#attempts > 1) spans.attribute(ATTR.httpRequestResendCount, this.#attempts - 1);
    spans.attribute(ATTR.serverAddress, origin?.host);
    spans.attribute(ATTR.serverPort, origin?.port);
    spans.attribute(ATTR.urlScheme, origin?.scheme);
    spans.attribute(ATTR.urlFull, attempt.url);
    spans.attribute(ATTR.direction, exchange.direction);
    if (attempt.connection !== undefined) this.#writeUpstream(attempt, attempt.connection);
    spans.attribute(ATTR.httpResponseStatusCode, status);
    writeError(spans, error, status, error !== undefined || (status !== undefined && status >= 400));
    spans.end();
  }

  #writeUpstream(attempt: Attempt, connection: Connection): void {
    const spans = this.#spans;
    if (attempt.setup !== undefined) spans.link(attempt.setup);
    spans.attribute(ATTR.networkPeerAddress, connection.remoteAddress);
    spans.attribute(ATTR.networkPeerPort, connection.remotePort);
    spans.attribute(ATTR.networkProtocolVersion, attempt.protocol && protocolVersion(attempt.protocol));
    spans.attribute(ATTR.connReused, attempt.reused);
    spans.attribute(ATTR.connWasIdle, attempt.wasIdle);
    spans.attribute(ATTR.connectionId, connection.id);
    spans.attribute(ATTR.connectionRequestIndex, attempt.index);
    spans.attribute(ATTR.connectionAgeMs, attempt.ageMs);
    spans.attribute(ATTR.connectionIdleMs, attempt.idleMs);
    const { idleLimitMs } = attempt;
    if (Number.isFinite(idleLimitMs)) spans.attribute(ATTR.connectionIdleLimitMs, idleLimitMs);
    spans.attribute(ATTR.connectionIdleLimitSource, attempt.idleLimitSource);
    if (attempt.reused) return;
    const { dnsMs, connectMs, tlsMs } = connection.setup;
    spans.attribute(ATTR.connectionDnsMs, dnsMs);
    spans.attribute(ATTR.connectionConnectMs, connectMs);
    spans.attribute(ATTR.connectionTlsMs, tlsMs);
  }
}

function writeError(spans: SpanWriter, error: Failure | undefined, status: number | undefined, isFault: boolean): void {
  if (error !== undefined) spans.attribute(ATTR.errorType, error.code);
  else if (isFault) spans.attribute(ATTR.errorType, String(status));
  if (isFault) spans.error(error?.message);
}

function traceStateOf(exchange: Exchange): string | undefined {
  const values = exchange.request.headers.getAll("tracestate");
  return values.length === 0 ? undefined : values.join(",");
}
