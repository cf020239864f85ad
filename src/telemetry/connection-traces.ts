/**
 * Spans of connections: how an upstream connection was set up, and how every connection lived and ended.
 *
 * A connection is recorded when the sampler says so as it opens, or as soon as a recorded exchange uses it, so that
 * the link from a CLIENT span to its connection's setup span never points at nothing.
 *
 * @module
 */
import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { CloseReason, Connection, ConnectionHooks } from "../plugin/api.ts";
import { protocolVersion } from "./http-semantics.ts";
import { ATTR, connectionSetupSpan, connectionSpan, SPAN } from "./names.ts";
import type { Sampled } from "./sampling.ts";
import { newTraceId } from "./trace-context.ts";

/** What records spans, and what decides which. */
export interface Recording {
  /** Records every span it is asked for: the sampling decision is made before. */
  readonly tracer: Tracer;
  readonly sampled: Sampled;
}

/** The connections of one direction. */
export class ConnectionTraces {
  readonly #recording: Recording;
  /** Connections that opened before tracing was ready have no hooks here, but get a setup span all the same. */
  readonly #traces = new WeakMap<Connection, ConnectionTrace>();

  constructor(recording: Recording) {
    this.#recording = recording;
  }

  opened(connection: Connection): ConnectionHooks {
    const opened = this.#of(connection);
    // The id only draws the lot: nobody outside follows the trace of a connection.
    if (this.#recording.sampled(newTraceId(), undefined)) opened.record();
    return opened;
  }

  /** A recorded exchange uses the connection. */
  recorded(connection: Connection): void {
    this.#of(connection).record();
  }

  /** Span context of the connection's setup, recorded now if it was not yet. */
  setupOf(connection: Connection): SpanContext | undefined {
    return this.#of(connection).record();
  }

  #of(connection: Connection): ConnectionTrace {
    let found = this.#traces.get(connection);
    if (found === undefined) {
      found = new ConnectionTrace(this.#recording.tracer, connection);
      this.#traces.set(connection, found);
    }
    return found;
  }
}

class ConnectionTrace implements ConnectionHooks {
  readonly #tracer: Tracer;
  readonly #connection: Connection;
  #isRecorded = false;
  #setup: Span | undefined;

  constructor(tracer: Tracer, connection: Connection) {
    this.#tracer = tracer;
    this.#connection = connection;
  }

  /** Records the connection from here on; an upstream one gets its setup span. */
  record(): SpanContext | undefined {
    if (!this.#isRecorded) {
      this.#isRecorded = true;
      if (this.#connection.side === "upstream") this.#setup = recordSetup(this.#tracer, this.#connection);
    }
    return this.#setup?.spanContext();
  }

  close(reason: CloseReason): void {
    const connection = this.#connection;
    const saidAll = reason === "connect_failed" && connection.side === "upstream";
    // An upstream one that never opened has said everything in its setup span.
    if (!this.#isRecorded || saidAll) return;
    const address = serverAddress(connection);
    const context = this.#setup === undefined ? ROOT_CONTEXT : trace.setSpan(ROOT_CONTEXT, this.#setup);
    // A downstream one is open from its acceptance on, its handshake included.
    const setup = connection.side === "upstream" ? setupMs(connection) : 0;
    const openedAtEpochMs = connection.setup.startedAtEpochMs + setup;
    const span = this.#tracer.startSpan(
      connectionSpan(address.host, address.port),
      {
        startTime: openedAtEpochMs,
        attributes: {
          ...connectionAttributes(connection),
          [ATTR.networkProtocolVersion]: protocolVersion(connection.protocol),
          [ATTR.connectionRequests]: connection.exchanges,
          [ATTR.connectionBytesRead]: connection.bytesRead,
          [ATTR.connectionBytesWritten]: connection.bytesWritten,
          [ATTR.closeReason]: reason,
        },
      },
      context,
    );
    if (isFault(reason)) markFault(span, reason, connection.error);
    span.end(openedAtEpochMs + connection.ageMs);
  }
}

/** The setup is over by the time it is recorded: its spans are written from the timings. */
function recordSetup(tracer: Tracer, connection: Connection): Span {
  const { setup } = connection;
  const { host, port } = serverAddress(connection);
  const failed = connection.closeReason === "connect_failed";
  const span = tracer.startSpan(
    connectionSetupSpan(host, port),
    { startTime: setup.startedAtEpochMs, attributes: connectionAttributes(connection) },
    ROOT_CONTEXT,
  );
  const context = trace.setSpan(ROOT_CONTEXT, span);
  let atEpochMs = setup.startedAtEpochMs;
  const phase = (name: string, durationMs: number | undefined, attributes: Attributes) => {
    if (durationMs === undefined) return;
    recordPhase(tracer, context, name, atEpochMs, durationMs, attributes);
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
  if (failed) {
    markFault(span, "connect_failed", connection.error);
    // The phase that failed has no timing.
    atEpochMs = Math.max(atEpochMs, performance.timeOrigin + performance.now());
  }
  span.end(atEpochMs);
  return span;
}

function recordPhase(
  tracer: Tracer,
  context: Context,
  name: string,
  startTime: number,
  durationMs: number,
  attributes: Attributes,
): void {
  tracer.startSpan(name, { startTime, attributes }, context).end(startTime + durationMs);
}

function setupMs(connection: Connection): number {
  const { dnsMs, connectMs, tlsMs } = connection.setup;
  return (dnsMs ?? 0) + (connectMs ?? 0) + (tlsMs ?? 0);
}

/** The end that is the same for many connections: the origin upstream, our listener downstream. */
function serverAddress(connection: Connection): { host: string; port: number } {
  return connection.origin ?? { host: connection.localAddress, port: connection.localPort };
}

function connectionAttributes(connection: Connection): Attributes {
  const { host, port } = serverAddress(connection);
  return {
    [ATTR.serverAddress]: host,
    [ATTR.serverPort]: port,
    [ATTR.networkPeerAddress]: connection.remoteAddress,
    [ATTR.networkPeerPort]: connection.remotePort,
    [ATTR.connectionId]: connection.id,
    [ATTR.connectionSide]: connection.side,
    [ATTR.direction]: connection.direction,
  };
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

function markFault(span: Span, reason: CloseReason, error: Error | undefined): void {
  span.setAttribute(ATTR.errorType, reason);
  span.setStatus({ code: SpanStatusCode.ERROR, ...(error === undefined ? {} : { message: error.message }) });
}
