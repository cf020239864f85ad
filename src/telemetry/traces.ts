/**
 * Spans of exchanges, as a filter on the public plugin API: one SERVER span per exchange, one CLIENT span per attempt.
 *
 * @module
 */
import { SpanKind } from "@opentelemetry/api";
import { messageOf } from "../errors.ts";
import type { Connection, Exchange, ExchangeHooks, Failure, Filter, Outcome, PluginFailure } from "../plugin/api.ts";
import { type ConnectionTrace, ConnectionTraces, type Recording } from "./connection-traces.ts";
import { fullUrl, normaliseMethod, protocolVersion, redactQuery, serverOf, splitTarget } from "./http-semantics.ts";
import { ATTR, EVENT, OTHER, SPAN } from "./names.ts";
import type { ClientFacts, ServerFacts } from "./repeated.ts";
import type { SpanEvent, SpanPlace, SpanWriter } from "./span-writer.ts";
import {
  FLAG_SAMPLED,
  formatTraceparent,
  newSpanId,
  newUnsampledTraceparent,
  type RemoteParent,
  readParent,
  spanIdIn,
  traceIdIn,
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
      if (parent === undefined) {
        const traceparent = newUnsampledTraceparent();
        const traceId = traceIdIn(traceparent);
        if (options.sampled(traceId, undefined)) return new ExchangeTrace(options, connections, exchange, traceId);
        beginUnsampled(exchange, traceparent, traceId);
      } else {
        const { traceId } = parent;
        const isSampled = (parent.flags & FLAG_SAMPLED) !== 0;
        if (options.sampled(traceId, isSampled)) {
          return new ExchangeTrace(options, connections, exchange, traceId, parent);
        }
        if (isSampled) endSampling(exchange, parent);
        // Else the caller's own field says all there is to say.
        else exchange.trace = { traceId, spanId: parent.spanId, sampled: false };
      }
      return undefined;
    },
  };
}

/** No span, no SDK: the upstream still learns the trace and that nobody records it. */
function beginUnsampled(exchange: Exchange, traceparent: string, traceId: string): void {
  const { headers } = exchange.request;
  // What stood beside a `traceparent` that was not valid belongs to no trace (W3C Trace Context §3.3).
  if (headers.has("tracestate")) headers.delete("tracestate");
  headers.set("traceparent", traceparent);
  exchange.trace = { traceId, spanId: spanIdIn(traceparent), sampled: false };
}

/** The caller records the trace and we do not. */
function endSampling(exchange: Exchange, { traceId, flags }: RemoteParent): void {
  const spanId = newSpanId();
  exchange.request.headers.set("traceparent", formatTraceparent(traceId, spanId, false, flags));
  exchange.trace = { traceId, spanId, sampled: false };
}

/** One attempt, as it began: filters may rewrite the request for the next. */
interface Attempt {
  readonly place: SpanPlace;
  readonly startedAtEpochMs: number;
  /** URL of the request as it goes to its origin. */
  readonly url: string | undefined;
  /** `undefined`: none was found. */
  readonly connection: Connection | undefined;
  readonly trace: ConnectionTrace | undefined;
  readonly facts: ClientFacts;
  readonly index: number;
  readonly ageMs: number;
  readonly idleMs: number;
}

/** Gathers what the spans of one exchange say, and writes each when it has ended. */
class ExchangeTrace implements ExchangeHooks {
  readonly #spans: SpanWriter;
  readonly #connections: ConnectionTraces;
  readonly #exchange: Exchange;
  readonly #downstream: ConnectionTrace;
  readonly #place: SpanPlace;
  readonly #parent: RemoteParent | undefined;
  readonly #traceState: string | undefined;
  /** As the request came: filters may rewrite it. */
  readonly #facts: ServerFacts;
  readonly #target: string;
  readonly #downstreamAgeMs: number;
  /** Attempts that have a span. */
  #attempts = 0;
  #attempt: Attempt | undefined;
  #failures: SpanEvent[] | undefined;

  constructor(
    options: TracingOptions,
    connections: ConnectionTraces,
    exchange: Exchange,
    traceId: string,
    parent?: RemoteParent,
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
    this.#facts = {
      method: normaliseMethod(request.method, options.knownMethods),
      originalMethod: request.method,
      scheme: request.scheme,
      authority: request.authority,
      version: request.version,
      userAgent: headers.get("user-agent"),
      clientAddress: exchange.clientAddress,
      answeredBy: "none",
      route: undefined,
    };
    this.#target = request.target;
    this.#downstreamAgeMs = downstream.ageMs;
    // What stood beside a `traceparent` that was not valid belongs to no trace (W3C Trace Context §3.3).
    if (parent === undefined && headers.has("tracestate")) headers.delete("tracestate");
    exchange.trace = { traceId, spanId, sampled: true };
    this.#downstream = connections.recorded(downstream);
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
    const { error } = failure;
    this.#failures ??= [];
    this.#failures.push({
      name: EVENT.pluginFailed,
      atEpochMs: this.#exchange.startedAtEpochMs + this.#exchange.elapsedMs,
      attributes: {
        [ATTR.pluginName]: failure.plugin,
        [ATTR.pluginHook]: failure.hook,
        [ATTR.pluginOnError]: failure.onError,
        // Whoever threw it may have put anything there.
        [ATTR.exceptionType]: error instanceof Error ? String(error.name) : typeof error,
        [ATTR.exceptionMessage]: messageOf(error),
      },
    });
  }

  end(outcome: Outcome): void {
    // An attempt that found no connection was never shown to `upstreamConnected`.
    if (this.#attempt === undefined && this.#exchange.attempts > this.#attempts) this.#startAttempt(undefined);
    const upstreamStatus = outcome.answeredBy === "upstream" ? outcome.status : undefined;
    this.#endAttempt(outcome.durationMs, upstreamStatus, outcome.error);
    this.#writeServer(outcome);
  }

  #spanName(): string {
    const { method } = this.#facts;
    return method === OTHER ? SPAN.unknownMethod : method;
  }

  #writeServer(outcome: Outcome): void {
    const exchange = this.#exchange;
    const { startedAtEpochMs } = exchange;
    const spans = this.#spans;
    const { status, error } = outcome;
    const endedAtEpochMs = startedAtEpochMs + outcome.durationMs;
    if (!spans.begin(SpanKind.SERVER, this.#spanName(), this.#place, startedAtEpochMs, endedAtEpochMs)) return;
    if (this.#parent !== undefined) spans.parent(this.#parent.spanId, true, this.#traceState);
    const facts = this.#facts;
    facts.answeredBy = outcome.answeredBy;
    facts.route = exchange.route?.name;
    const { server } = this.#downstream;
    if (!server.say(spans, facts)) {
      writeServerFacts(spans, facts, exchange.downstream);
      server.done(spans);
    }
    const { path, query } = splitTarget(this.#target);
    spans.attribute(ATTR.urlPath, path);
    if (query !== undefined) spans.attribute(ATTR.urlQuery, redactQuery(query));
    spans.attribute(ATTR.exchangeId, exchange.id);
    spans.attribute(ATTR.connectionRequestIndex, exchange.downstreamIndex);
    spans.attribute(ATTR.connectionAgeMs, this.#downstreamAgeMs);
    spans.attribute(ATTR.connectionIdleMs, exchange.downstreamIdleMs);
    spans.attribute(ATTR.httpRequestBodySize, outcome.requestBytes);
    spans.attribute(ATTR.httpResponseBodySize, outcome.responseBytes);
    spans.attribute(ATTR.httpResponseStatusCode, status);
    spans.attribute(ATTR.stale, outcome.stale);
    if (this.#failures !== undefined) spans.events(this.#failures);
    const isFault = error === undefined ? status !== undefined && status >= 500 : error.source !== "downstream";
    writeError(spans, error, status, isFault);
    spans.end();
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
      trace: connection === undefined ? undefined : this.#connections.recorded(connection),
      facts: {
        method: this.#facts.method,
        originalMethod: this.#facts.originalMethod,
        origin,
        protocol: connection?.protocol,
        resends: this.#attempts,
        reused,
        wasIdle: reused && connection.activeExchanges <= 1,
        idleLimitMs: connection?.idleLimitMs,
        idleLimitSource: connection?.idleLimitSource,
      },
      index: exchange.upstreamIndex,
      ageMs: connection === undefined ? 0 : connection.ageMs,
      idleMs: exchange.upstreamIdleMs,
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
    const { facts, connection, trace } = attempt;
    if (connection === undefined || trace === undefined) writeClientFacts(spans, facts, exchange);
    else {
      const { client } = trace;
      if (!client.say(spans, facts)) {
        writeClientFacts(spans, facts, exchange);
        writeUpstreamFacts(spans, facts, connection, trace.setup);
        client.done(spans);
      }
      spans.attribute(ATTR.connectionRequestIndex, attempt.index);
      spans.attribute(ATTR.connectionAgeMs, attempt.ageMs);
      spans.attribute(ATTR.connectionIdleMs, attempt.idleMs);
    }
    spans.attribute(ATTR.urlFull, attempt.url);
    spans.attribute(ATTR.httpResponseStatusCode, status);
    writeError(spans, error, status, error !== undefined || (status !== undefined && status >= 400));
    spans.end();
  }
}

function writeServerFacts(spans: SpanWriter, facts: ServerFacts, downstream: Connection): void {
  const server = serverOf(facts.authority, facts.scheme);
  spans.attribute(ATTR.httpRequestMethod, facts.method);
  if (facts.method === OTHER) spans.attribute(ATTR.httpRequestMethodOriginal, facts.originalMethod);
  spans.attribute(ATTR.urlScheme, facts.scheme);
  spans.attribute(ATTR.serverAddress, server.host);
  spans.attribute(ATTR.serverPort, server.port);
  spans.attribute(ATTR.clientAddress, facts.clientAddress);
  spans.attribute(ATTR.networkPeerAddress, downstream.remoteAddress);
  spans.attribute(ATTR.networkPeerPort, downstream.remotePort);
  spans.attribute(ATTR.networkProtocolVersion, facts.version);
  spans.attribute(ATTR.userAgentOriginal, facts.userAgent);
  spans.attribute(ATTR.direction, downstream.direction);
  spans.attribute(ATTR.connectionId, downstream.id);
  spans.attribute(ATTR.answeredBy, facts.answeredBy);
  spans.attribute(ATTR.route, facts.route);
}

function writeClientFacts(spans: SpanWriter, facts: ClientFacts, { direction }: Exchange): void {
  spans.attribute(ATTR.httpRequestMethod, facts.method);
  if (facts.method === OTHER) spans.attribute(ATTR.httpRequestMethodOriginal, facts.originalMethod);
  if (facts.resends > 0) spans.attribute(ATTR.httpRequestResendCount, facts.resends);
  spans.attribute(ATTR.serverAddress, facts.origin?.host);
  spans.attribute(ATTR.serverPort, facts.origin?.port);
  spans.attribute(ATTR.urlScheme, facts.origin?.scheme);
  spans.attribute(ATTR.direction, direction);
}

function writeUpstreamFacts(
  spans: SpanWriter,
  facts: ClientFacts,
  connection: Connection,
  setup: SpanPlace | undefined,
): void {
  if (setup !== undefined) spans.link(setup);
  spans.attribute(ATTR.networkPeerAddress, connection.remoteAddress);
  spans.attribute(ATTR.networkPeerPort, connection.remotePort);
  spans.attribute(ATTR.networkProtocolVersion, facts.protocol && protocolVersion(facts.protocol));
  spans.attribute(ATTR.connReused, facts.reused);
  spans.attribute(ATTR.connWasIdle, facts.wasIdle);
  spans.attribute(ATTR.connectionId, connection.id);
  const { idleLimitMs } = facts;
  if (Number.isFinite(idleLimitMs)) spans.attribute(ATTR.connectionIdleLimitMs, idleLimitMs);
  spans.attribute(ATTR.connectionIdleLimitSource, facts.idleLimitSource);
  if (facts.reused) return;
  const { dnsMs, connectMs, tlsMs } = connection.setup;
  spans.attribute(ATTR.connectionDnsMs, dnsMs);
  spans.attribute(ATTR.connectionConnectMs, connectMs);
  spans.attribute(ATTR.connectionTlsMs, tlsMs);
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
