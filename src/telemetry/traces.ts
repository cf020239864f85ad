/**
 * Spans of exchanges, as a filter on the public plugin API: one SERVER span per exchange, one CLIENT span per attempt.
 *
 * @module
 */
import {
  type Attributes,
  type Context,
  createTraceState,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { Connection, Exchange, ExchangeHooks, Failure, Filter, Outcome, PluginFailure } from "../plugin/api.ts";
import { ConnectionTraces, type Recording } from "./connection-traces.ts";
import { fullUrl, normaliseMethod, protocolVersion, redactQuery, serverOf, splitTarget } from "./http-semantics.ts";
import { ATTR, EVENT, OTHER, SPAN } from "./names.ts";
import type { TraceIds } from "./sampling.ts";
import {
  FLAG_SAMPLED,
  formatTraceparent,
  newSpanId,
  newTraceId,
  type RemoteParent,
  readParent,
} from "./trace-context.ts";

export interface TracingOptions extends Recording {
  /** Where the tracer takes its ids from. */
  readonly ids: TraceIds;
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
      if (parent === undefined) options.ids.useNext(traceId);
      return new ExchangeTrace(options, connections, exchange, parent);
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

class ExchangeTrace implements ExchangeHooks {
  readonly #tracer: Tracer;
  readonly #connections: ConnectionTraces;
  readonly #exchange: Exchange;
  readonly #parentFlags: number;
  readonly #method: string;
  readonly #spanName: string;
  readonly #server: Span;
  readonly #context: Context;
  /** Attempts that have a span. */
  #attempts = 0;
  #client: Span | undefined;

  constructor(
    options: TracingOptions,
    connections: ConnectionTraces,
    exchange: Exchange,
    parent: RemoteParent | undefined,
  ) {
    this.#tracer = options.tracer;
    this.#connections = connections;
    this.#exchange = exchange;
    this.#parentFlags = parent?.flags ?? 0;
    this.#method = normaliseMethod(exchange.request.method, options.knownMethods);
    this.#spanName = this.#method === OTHER ? SPAN.unknownMethod : this.#method;
    if (parent === undefined) exchange.request.headers.delete("tracestate");
    this.#server = this.#tracer.startSpan(
      this.#spanName,
      { kind: SpanKind.SERVER, startTime: exchange.startedAtEpochMs },
      parent === undefined ? ROOT_CONTEXT : remoteContext(exchange, parent),
    );
    // Not given to `startSpan`, which would check each of them twice.
    this.#server.setAttributes(serverAttributes(exchange, this.#method));
    this.#context = trace.setSpan(ROOT_CONTEXT, this.#server);
    const { traceId, spanId } = this.#server.spanContext();
    exchange.trace = { traceId, spanId, sampled: true };
    connections.recorded(exchange.downstream);
  }

  upstreamConnected(connection: Connection): void {
    const exchange = this.#exchange;
    const reused = connection.exchanges > 1;
    const { setup } = connection;
    const client = this.#startAttempt(connection);
    client.setAttributes({
      [ATTR.networkPeerAddress]: connection.remoteAddress,
      [ATTR.networkPeerPort]: connection.remotePort,
      [ATTR.networkProtocolVersion]: protocolVersion(connection.protocol),
      [ATTR.connReused]: reused,
      [ATTR.connWasIdle]: reused && connection.activeExchanges <= 1,
      [ATTR.connectionId]: connection.id,
      [ATTR.connectionRequestIndex]: exchange.upstreamIndex,
      [ATTR.connectionAgeMs]: connection.ageMs,
      [ATTR.connectionIdleMs]: exchange.upstreamIdleMs,
      [ATTR.connectionIdleLimitMs]: Number.isFinite(connection.idleLimitMs) ? connection.idleLimitMs : undefined,
      [ATTR.connectionIdleLimitSource]: connection.idleLimitSource,
      [ATTR.connectionDnsMs]: reused ? undefined : setup.dnsMs,
      [ATTR.connectionConnectMs]: reused ? undefined : setup.connectMs,
      [ATTR.connectionTlsMs]: reused ? undefined : setup.tlsMs,
    });
    const { traceId, spanId } = client.spanContext();
    exchange.request.headers.set("traceparent", formatTraceparent(traceId, spanId, true, this.#parentFlags));
  }

  retry(error: Failure): void {
    this.#endAttempt(this.#exchange.elapsedMs, undefined, error);
  }

  pluginFailed(failure: PluginFailure): void {
    const { error } = failure;
    this.#server.addEvent(
      EVENT.pluginFailed,
      {
        [ATTR.pluginName]: failure.plugin,
        [ATTR.pluginHook]: failure.hook,
        [ATTR.pluginOnError]: failure.onError,
        [ATTR.exceptionType]: error instanceof Error ? error.name : typeof error,
        [ATTR.exceptionMessage]: error instanceof Error ? error.message : String(error),
      },
      this.#exchange.startedAtEpochMs + this.#exchange.elapsedMs,
    );
  }

  end(outcome: Outcome): void {
    const exchange = this.#exchange;
    // An attempt that found no connection was never shown to `upstreamConnected`.
    if (this.#client === undefined && exchange.attempts > this.#attempts) this.#startAttempt(undefined);
    const upstreamStatus = outcome.answeredBy === "upstream" ? outcome.status : undefined;
    this.#endAttempt(outcome.durationMs, upstreamStatus, outcome.error);

    const server = this.#server;
    const { status, error } = outcome;
    server.setAttributes({
      [ATTR.answeredBy]: outcome.answeredBy,
      [ATTR.httpRequestBodySize]: outcome.requestBytes,
      [ATTR.httpResponseBodySize]: outcome.responseBytes,
      [ATTR.httpResponseStatusCode]: status,
      [ATTR.route]: exchange.route?.name,
      [ATTR.stale]: outcome.stale,
    });
    const isFault = error === undefined ? status !== undefined && status >= 500 : error.source !== "downstream";
    markError(server, error, status, isFault);
    server.end(exchange.startedAtEpochMs + outcome.durationMs);
  }

  #startAttempt(connection: Connection | undefined): Span {
    const exchange = this.#exchange;
    const { request } = exchange;
    const origin = exchange.route?.origin;
    const startTime = exchange.attemptStartedAtEpochMs;
    const setup = connection === undefined ? undefined : this.#connections.setupOf(connection);
    const client = this.#tracer.startSpan(
      this.#spanName,
      {
        kind: SpanKind.CLIENT,
        startTime,
        ...(setup === undefined ? undefined : { links: [{ context: setup }] }),
      },
      this.#context,
    );
    client.setAttributes({
      [ATTR.httpRequestMethod]: this.#method,
      [ATTR.httpRequestMethodOriginal]: this.#method === OTHER ? request.method : undefined,
      [ATTR.httpRequestResendCount]: this.#attempts > 0 ? this.#attempts : undefined,
      [ATTR.serverAddress]: origin?.host,
      [ATTR.serverPort]: origin?.port,
      [ATTR.urlScheme]: origin?.scheme,
      [ATTR.urlFull]: origin === undefined ? undefined : fullUrl(origin, request.target),
      [ATTR.direction]: exchange.direction,
    });
    if (exchange.queuedMs > 0) {
      this.#tracer
        .startSpan(SPAN.waitForConnection, { startTime }, trace.setSpan(ROOT_CONTEXT, client))
        .end(startTime + exchange.queuedMs);
    }
    this.#client = client;
    this.#attempts++;
    return client;
  }

  /** @param endedAtMs - since the exchange began */
  #endAttempt(endedAtMs: number, status: number | undefined, error: Failure | undefined): void {
    const client = this.#client;
    if (client === undefined) return;
    this.#client = undefined;
    if (status !== undefined) client.setAttribute(ATTR.httpResponseStatusCode, status);
    markError(client, error, status, error !== undefined || (status !== undefined && status >= 400));
    client.end(this.#exchange.startedAtEpochMs + endedAtMs);
  }
}

function markError(span: Span, error: Failure | undefined, status: number | undefined, isFault: boolean): void {
  if (error !== undefined) span.setAttribute(ATTR.errorType, error.code);
  else if (isFault) span.setAttribute(ATTR.errorType, String(status));
  if (isFault)
    span.setStatus({ code: SpanStatusCode.ERROR, ...(error === undefined ? {} : { message: error.message }) });
}

function remoteContext(exchange: Exchange, parent: RemoteParent): Context {
  const state = exchange.request.headers.getAll("tracestate");
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: parent.traceId,
    spanId: parent.spanId,
    traceFlags: parent.flags,
    isRemote: true,
    ...(state.length === 0 ? undefined : { traceState: createTraceState(state.join(",")) }),
  });
}

function serverAttributes(exchange: Exchange, method: string): Attributes {
  const { request, downstream } = exchange;
  const server = serverOf(request);
  const { path, query } = splitTarget(request.target);
  return {
    [ATTR.httpRequestMethod]: method,
    [ATTR.httpRequestMethodOriginal]: method === OTHER ? request.method : undefined,
    [ATTR.urlScheme]: request.scheme,
    [ATTR.urlPath]: path,
    [ATTR.urlQuery]: query === undefined ? undefined : redactQuery(query),
    [ATTR.serverAddress]: server.host,
    [ATTR.serverPort]: server.port,
    [ATTR.clientAddress]: exchange.clientAddress,
    [ATTR.networkPeerAddress]: downstream.remoteAddress,
    [ATTR.networkPeerPort]: downstream.remotePort,
    [ATTR.networkProtocolVersion]: request.version,
    [ATTR.userAgentOriginal]: request.headers.get("user-agent"),
    [ATTR.direction]: exchange.direction,
    [ATTR.exchangeId]: exchange.id,
    [ATTR.connectionId]: downstream.id,
    [ATTR.connectionRequestIndex]: exchange.downstreamIndex,
    [ATTR.connectionAgeMs]: downstream.ageMs,
    [ATTR.connectionIdleMs]: exchange.downstreamIdleMs,
  };
}
