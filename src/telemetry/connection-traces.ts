/**
 * Spans of connections: how an upstream connection was set up, and how every connection lived and ended.
 *
 * A connection is recorded when the sampler says so as it opens, or as soon as a recorded exchange uses it, so that
 * the link from a CLIENT span to its connection's setup span never points at nothing.
 *
 * @module
 */
import { SpanKind } from "@opentelemetry/api";
import type { CloseReason, Connection, ConnectionHooks } from "../plugin/api.ts";
import { protocolVersion } from "./http-semantics.ts";
import { ATTR, connectionSetupSpan, connectionSpan, SPAN } from "./names.ts";
import { type ClientFacts, type Repeated, repeatedClient, repeatedServer, type ServerFacts } from "./repeated.ts";
import type { Sampled } from "./sampling.ts";
import type { AttributeValue, SpanPlace, SpanWriter } from "./span-writer.ts";
import { newSpanId, newTraceId } from "./trace-context.ts";

/** What records spans, and what decides which. */
export interface Recording {
  readonly spans: SpanWriter;
  readonly sampled: Sampled;
}

/** The connections of one direction. */
export class ConnectionTraces {
  readonly #recording: Recording;
  /**
   * Of those that are recorded. A value must not lead back to its connection: V8's collections of young memory keep
   * whatever a value leads to, and with it every connection there ever was until the next collection of all memory.
   */
  readonly #traces = new WeakMap<Connection, ConnectionTrace>();

  constructor(recording: Recording) {
    this.#recording = recording;
  }

  opened(connection: Connection): ConnectionHooks {
    // The id only draws the lot: nobody outside follows the trace of a connection.
    if (this.#recording.sampled(newTraceId(), undefined)) this.recorded(connection);
    return new ConnectionEnd(this, connection);
  }

  /** A recorded exchange uses the connection, which is recorded now if it was not yet. */
  recorded(connection: Connection): ConnectionTrace {
    let found = this.#traces.get(connection);
    if (found === undefined) {
      found = new ConnectionTrace(this.#recording.spans, connection);
      this.#traces.set(connection, found);
    }
    return found;
  }

  /** The connection is closed. One that opened before tracing was ready never comes here: it has no hooks. */
  closed(connection: Connection, reason: CloseReason): void {
    this.#traces.get(connection)?.end(connection, reason);
  }
}

/** Tells when a connection is closed. */
class ConnectionEnd implements ConnectionHooks {
  readonly #traces: ConnectionTraces;
  readonly #connection: Connection;

  constructor(traces: ConnectionTraces, connection: Connection) {
    this.#traces = traces;
    this.#connection = connection;
  }

  close(reason: CloseReason): void {
    this.#traces.closed(this.#connection, reason);
  }
}

/** A connection that is recorded: an upstream one has got its setup span. */
export class ConnectionTrace {
  readonly #spans: SpanWriter;
  readonly #setup: SpanPlace | undefined;
  #server: Repeated<ServerFacts> | undefined;
  #client: Repeated<ClientFacts> | undefined;

  constructor(spans: SpanWriter, connection: Connection) {
    this.#spans = spans;
    if (connection.side !== "upstream") return;
    this.#setup = newRoot();
    writeSetup(spans, this.#setup, connection);
  }

  /** What SERVER spans on it have in common. */
  get server(): Repeated<ServerFacts> {
    this.#server ??= repeatedServer();
    return this.#server;
  }

  /** What CLIENT spans on it have in common. */
  get client(): Repeated<ClientFacts> {
    this.#client ??= repeatedClient();
    return this.#client;
  }

  /** Span of the connection's setup; `undefined` downstream. */
  get setup(): SpanPlace | undefined {
    return this.#setup;
  }

  /** Writes the span of its whole life. */
  end(connection: Connection, reason: CloseReason): void {
    // An upstream one that never opened has said everything in its setup span.
    if (reason === "connect_failed" && connection.side === "upstream") return;
    const { host, port } = serverAddress(connection);
    const setup = this.#setup;
    // A downstream one is open from its acceptance on, its handshake included.
    const openedAtEpochMs = connection.setup.startedAtEpochMs + (setup === undefined ? 0 : setupMs(connection));
    const place = setup === undefined ? newRoot() : childOf(setup);
    const name = connectionSpan(host, port);
    const spans = this.#spans;
    if (!spans.begin(SpanKind.INTERNAL, name, place, openedAtEpochMs, openedAtEpochMs + connection.ageMs)) return;
    if (setup !== undefined) spans.parent(setup.spanId, false, undefined);
    writeConnection(spans, connection);
    spans.attribute(ATTR.networkProtocolVersion, protocolVersion(connection.protocol));
    spans.attribute(ATTR.connectionRequests, connection.exchanges);
    spans.attribute(ATTR.connectionBytesRead, connection.bytesRead);
    spans.attribute(ATTR.connectionBytesWritten, connection.bytesWritten);
    spans.attribute(ATTR.closeReason, reason);
    if (isFault(reason)) writeFault(spans, reason, connection.error);
    spans.end();
  }
}

function newRoot(): SpanPlace {
  return { traceId: newTraceId(), spanId: newSpanId() };
}

function childOf({ traceId }: SpanPlace): SpanPlace {
  return { traceId, spanId: newSpanId() };
}

/** The setup is over by the time it is recorded: its spans are written from the timings. */
function writeSetup(spans: SpanWriter, place: SpanPlace, connection: Connection): void {
  const { setup } = connection;
  const { host, port } = serverAddress(connection);
  const { startedAtEpochMs } = setup;
  const failed = connection.closeReason === "connect_failed";
  let endedAtEpochMs = startedAtEpochMs + setupMs(connection);
  // The phase that failed has no timing.
  if (failed) endedAtEpochMs = Math.max(endedAtEpochMs, performance.timeOrigin + performance.now());
  if (spans.begin(SpanKind.INTERNAL, connectionSetupSpan(host, port), place, startedAtEpochMs, endedAtEpochMs)) {
    writeConnection(spans, connection);
    if (failed) writeFault(spans, "connect_failed", connection.error);
    spans.end();
  }
  let atEpochMs = startedAtEpochMs;
  const phase = (name: string, durationMs: number | undefined, attributes: Record<string, AttributeValue>) => {
    if (durationMs === undefined) return;
    if (spans.begin(SpanKind.INTERNAL, name, childOf(place), atEpochMs, atEpochMs + durationMs)) {
      spans.parent(place.spanId, false, undefined);
      for (const [attribute, value] of Object.entries(attributes)) spans.attribute(attribute, value);
      spans.end();
    }
    atEpochMs += durationMs;
  };
  phase(SPAN.dnsLookup, setup.dnsMs, { [ATTR.dnsQuestionName]: host });
  phase(SPAN.socketConnect, setup.connectMs, {
    [ATTR.networkPeerAddress]: connection.remoteAddress,
    [ATTR.networkPeerPort]: connection.remotePort,
  });
  phase(SPAN.tlsHandshake, setup.tlsMs, {
    [ATTR.serverAddress]: host,
    // OpenTelemetry writes "1.3" where Node writes "TLSv1.3".
    [ATTR.tlsProtocolVersion]: setup.tlsVersion?.replace(/^TLSv/, ""),
    [ATTR.tlsResumed]: setup.tlsResumed,
  });
}

function setupMs(connection: Connection): number {
  const { dnsMs, connectMs, tlsMs } = connection.setup;
  return (dnsMs ?? 0) + (connectMs ?? 0) + (tlsMs ?? 0);
}

/** The end that is the same for many connections: the origin upstream, our listener downstream. */
function serverAddress(connection: Connection): { host: string; port: number } {
  return connection.origin ?? { host: connection.localAddress, port: connection.localPort };
}

function writeConnection(spans: SpanWriter, connection: Connection): void {
  const { host, port } = serverAddress(connection);
  spans.attribute(ATTR.serverAddress, host);
  spans.attribute(ATTR.serverPort, port);
  spans.attribute(ATTR.networkPeerAddress, connection.remoteAddress);
  spans.attribute(ATTR.networkPeerPort, connection.remotePort);
  spans.attribute(ATTR.connectionId, connection.id);
  spans.attribute(ATTR.connectionSide, connection.side);
  spans.attribute(ATTR.direction, connection.direction);
}

function isFault(reason: CloseReason): boolean {
  switch (reason) {
    case "peer_reset":
    case "protocol_error":
    case "connect_failed":
    case "request_timeout":
    case "tcp_keepalive":
      return true;
    case "idle_timeout":
    case "max_requests":
    case "max_age":
    case "peer_closed":
    case "logout":
    case "drain":
    case "limit":
    case "aborted":
    case "reload":
      return false;
  }
}

function writeFault(spans: SpanWriter, reason: CloseReason, error: Error | undefined): void {
  spans.attribute(ATTR.errorType, reason);
  spans.error(error?.message);
}
