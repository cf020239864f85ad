/**
 * Every span, event, attribute and metric name in one place.
 *
 * Names outside `holdfast.*` and `http.conn.*`, but for `result` and `source`, are OpenTelemetry semantic conventions
 * (1.44 or later) and stand here as literals, because loading the conventions package costs memory and start time; a
 * test compares them with it.
 *
 * @module
 */

/** Name and version of the instrumentation scope; the version is the sidecar's. */
export const SCOPE_NAME = "holdfast";

/** Span names. Those of exchanges are the request method alone: a path would make as many names as there are paths. */
export const SPAN = {
  dnsLookup: "DNS lookup",
  socketConnect: "socket connect",
  tlsHandshake: "TLS client handshake",
  waitForConnection: "HTTP wait_for_connection",
  /** Name of an exchange whose method is not known. */
  unknownMethod: "HTTP",
} as const;

/** Name of the span over DNS, TCP and TLS of one upstream connection. */
export function connectionSetupSpan(host: string, port: number): string {
  return `HTTP connection_setup ${host}:${port}`;
}

/** Name of the span over the whole life of one connection. */
export function connectionSpan(host: string, port: number): string {
  return `HTTP connection ${host}:${port}`;
}

/** Span event names. */
export const EVENT = {
  /** A hook of a plugin failed in this exchange. */
  pluginFailed: "holdfast.plugin_failed",
} as const;

/** Attribute names. */
export const ATTR = {
  clientAddress: "client.address",
  dnsQuestionName: "dns.question.name",
  errorType: "error.type",
  exceptionMessage: "exception.message",
  exceptionType: "exception.type",
  httpConnectionState: "http.connection.state",
  httpRequestBodySize: "http.request.body.size",
  httpRequestMethod: "http.request.method",
  httpRequestMethodOriginal: "http.request.method_original",
  httpRequestResendCount: "http.request.resend_count",
  httpResponseBodySize: "http.response.body.size",
  httpResponseStatusCode: "http.response.status_code",
  networkPeerAddress: "network.peer.address",
  networkPeerPort: "network.peer.port",
  networkProtocolVersion: "network.protocol.version",
  serverAddress: "server.address",
  serverPort: "server.port",
  serviceInstanceId: "service.instance.id",
  serviceName: "service.name",
  telemetryDistroName: "telemetry.distro.name",
  telemetryDistroVersion: "telemetry.distro.version",
  tlsProtocolVersion: "tls.protocol.version",
  tlsResumed: "tls.resumed",
  urlFull: "url.full",
  urlPath: "url.path",
  urlQuery: "url.query",
  urlScheme: "url.scheme",
  userAgentOriginal: "user_agent.original",

  /** Whether the connection carried another request before; the keys Go's instrumentation uses. */
  connReused: "http.conn.reused",
  connWasIdle: "http.conn.wasidle",

  answeredBy: "holdfast.answered_by",
  closeReason: "holdfast.connection.close_reason",
  connectionAgeMs: "holdfast.connection.age_ms",
  connectionBytesRead: "holdfast.connection.bytes_read",
  connectionBytesWritten: "holdfast.connection.bytes_written",
  connectionConnectMs: "holdfast.connection.connect_ms",
  connectionDnsMs: "holdfast.connection.dns_ms",
  connectionId: "holdfast.connection.id",
  connectionIdleLimitMs: "holdfast.connection.idle_limit_ms",
  connectionIdleLimitSource: "holdfast.connection.idle_limit_source",
  connectionIdleMs: "holdfast.connection.idle_ms",
  connectionRequestIndex: "holdfast.connection.request_index",
  connectionRequests: "holdfast.connection.requests",
  connectionSide: "holdfast.connection.side",
  connectionTlsMs: "holdfast.connection.tls_ms",
  direction: "holdfast.direction",
  exchangeId: "holdfast.exchange.id",
  pluginHook: "holdfast.plugin.hook",
  pluginName: "holdfast.plugin.name",
  pluginOnError: "holdfast.plugin.on_error",
  route: "holdfast.route",
  source: "source",
  stale: "holdfast.stale",
  result: "result",
} as const;

/** Value of `http.request.method` for a method that is not known, and of `server.address` past the cap on origins. */
export const OTHER = "_OTHER";

/** Metric names. */
export const METRIC = {
  serverRequestDuration: "http.server.request.duration",
  serverActiveRequests: "http.server.active_requests",
  clientRequestDuration: "http.client.request.duration",
  clientActiveRequests: "http.client.active_requests",
  clientOpenConnections: "http.client.open_connections",
  clientConnectionDuration: "http.client.connection.duration",
  connectionRequests: "holdfast.connection.requests",
  connectionIdleAtReuse: "holdfast.connection.idle_at_reuse",
  connectionsClosed: "holdfast.connection.closed",
  downstreamOpenConnections: "holdfast.downstream.open_connections",
  upstreamStale: "holdfast.upstream.stale",
  upstreamIdleTimeout: "holdfast.upstream.idle_timeout",
  pluginErrors: "holdfast.plugin.errors",
  droppedSpans: "holdfast.telemetry.dropped_spans",
  configReloads: "holdfast.config.reloads",
} as const;
