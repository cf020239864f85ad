/**
 * The public plugin API of Holdfast.
 *
 * A plugin is a package (or a file) whose default export is a {@link Plugin}. It lives in three nested
 * scopes, each opened by a function that returns the hooks of that scope, so state is an ordinary local
 * variable in the closure it belongs to:
 *
 *     plugin (once per direction) → connection (as it opens) → exchange (one request with its response)
 *
 * Plugins state intent ({@link Connection.drain}, {@link Connection.keepAlive}, {@link Pool}); Holdfast
 * alone writes `Connection`, `Keep-Alive`, `Content-Length`, `Transfer-Encoding` and `Via`.
 *
 * Hooks run in the order of the `plugins` list for `pool`, `connection`, `active`, `backendChanged`, `exchange`,
 * `request`, `upstreamConnected` and `pluginFailed`, and in reverse order for `response`, `retry`, `end`, `idle` and
 * `close`. docs/phases.md draws it.
 *
 * All hooks but {@link ExchangeHooks.request} and {@link Filter.close} are synchronous: one that returns a promise has
 * failed. What a failed hook means is the user's to say, with `onError` of the plugin's entry.
 *
 * Nothing in this file assumes that a connection carries one exchange at a time.
 *
 * @module
 */
import type convict from "convict";

/** Version of this contract. A plugin names the version it was written for; another one stops the start. */
export type ApiVersion = 1;

/** `inbound`: traffic to our service. `outbound`: traffic from our service. */
export type Direction = "inbound" | "outbound";

/** `downstream`: who called us. `upstream`: whom we call. */
export type Side = "downstream" | "upstream";

/**
 * `active`: carries at least one exchange (or a tunnel). `idle`: open, carries none.
 * `draining`: finishes what it carries, then closes. `closed`: gone.
 */
export type ConnectionState = "active" | "idle" | "draining" | "closed";

/** What is spoken on a connection. `tunnel`: opaque bytes, after CONNECT or an upgrade. */
export type Protocol = "http/1.0" | "http/1.1" | "h2" | "tunnel";

/**
 * Why a connection closed; one closed list, used by logs, spans and metrics alike.
 *
 * - `idle_timeout`: it was idle for as long as we keep it.
 * - `max_requests`: it carried as many exchanges as it may (keep-alive off counts as a limit of one).
 * - `max_age`: it was open for as long as it may, or the name of its origin no longer leads to its address.
 * - `peer_closed`: the peer closed it or announced `Connection: close`.
 * - `peer_reset`: the peer reset it (RST, EPIPE).
 * - `logout`: a logout was seen on it.
 * - `drain`: this process is going away, or the pool it belonged to is.
 * - `limit`: a limit on the number of connections refused or evicted it.
 * - `protocol_error`: what arrived on it was not valid, so nothing after it can be trusted.
 * - `connect_failed`: it never opened (DNS, TCP or TLS).
 * - `request_timeout`: a request head, a request body or a response did not arrive in time.
 * - `aborted`: one side went away in the middle of an exchange.
 * - `tcp_keepalive`: TCP keepalive probes found the peer gone.
 * - `reload`: a new configuration took this filter's place; the connection itself goes on. Only `close` hooks of plugins
 *   see it, never logs, spans and metrics.
 */
export type CloseReason =
  | "idle_timeout"
  | "max_requests"
  | "max_age"
  | "peer_closed"
  | "peer_reset"
  | "logout"
  | "drain"
  | "limit"
  | "protocol_error"
  | "connect_failed"
  | "request_timeout"
  | "aborted"
  | "tcp_keepalive"
  | "reload";

/** Every {@link CloseReason}, in the order of its documentation. */
export const CLOSE_REASONS = [
  "idle_timeout",
  "max_requests",
  "max_age",
  "peer_closed",
  "peer_reset",
  "logout",
  "drain",
  "limit",
  "protocol_error",
  "connect_failed",
  "request_timeout",
  "aborted",
  "tcp_keepalive",
  "reload",
] as const satisfies readonly CloseReason[];

/** Where an upstream is: scheme, host and port. Its string form is `http://host:port`. */
export interface Origin {
  readonly scheme: "http" | "https";
  /** Host name or address; an IPv6 address has no brackets here. */
  readonly host: string;
  readonly port: number;
}

/** What a peer advertised in `Keep-Alive: timeout=, max=` (RFC 2068 §19.7.1, draft-thomson-hybi-http-timeout). */
export interface KeepAliveHint {
  /** `timeout=`, in milliseconds. `undefined` when the peer did not say. */
  readonly timeoutMs: number | undefined;
  /** `max=`: how many more requests the peer will take. `undefined` when the peer did not say. */
  readonly maxRequests: number | undefined;
}

/** HTTP keep-alive of one connection. Plugins assign these fields; Holdfast keeps to them. */
export interface KeepAlive {
  /** Whether the connection is kept after an exchange. `false` closes it after the current one. Default `true`. */
  enabled: boolean;
  /**
   * How long the connection may stay idle before *we* close it, in milliseconds. `Infinity`: until the peer does.
   * Default: 65 s downstream, 55 s upstream.
   */
  idleTimeoutMs: number;
  /**
   * A shorter limit agreed with this peer through its `Keep-Alive` field, in milliseconds. The connection is kept
   * for the smaller of this and {@link idleTimeoutMs}. Default `Infinity`.
   */
  agreedTimeoutMs: number;
  /**
   * Upstream only: whether the connection is also left before the idle limit that Holdfast learned of its peer
   * ({@link Connection.learned}). Default `true`.
   */
  heedLearned: boolean;
  /** How many exchanges the connection may carry in all. Default `Infinity`. */
  maxRequests: number;
  /**
   * How long the connection may be open, in milliseconds; it finishes its exchange first. Default `Infinity`. Downstream
   * it closes with the first response after that, which tells the caller; upstream also when it is idle.
   */
  maxAgeMs: number;
  /**
   * Whether to tell the peer what we keep: `Keep-Alive: timeout=, max=`. Holdfast emits it only on HTTP/1.x
   * connections it does keep, rounds `timeout` down to whole seconds, and leaves out what is not limited.
   * Default `false`.
   */
  advertise: boolean;
}

/** TCP keepalive (`SO_KEEPALIVE`, `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`) of one connection. */
export interface TcpKeepAlive {
  readonly enable: boolean;
  /** Idle time before the first probe, in milliseconds; the kernel counts whole seconds. */
  readonly timeMs: number;
  /** Time between probes, in milliseconds; the kernel counts whole seconds. */
  readonly intervalMs: number;
  /** Unanswered probes after which the kernel gives the peer up. */
  readonly probes: number;
}

/** Time limits on what a downstream peer may take, in milliseconds; `Infinity` turns one off. */
export interface RequestTimeouts {
  /** From the first byte of a request head (or from accepting the connection) to its last. Else 408. */
  headMs: number;
  /** From the first byte of a request head to the last byte of its body. Else 408, or a cut connection once a response has begun. */
  requestMs: number;
}

/** How long opening a connection took, in milliseconds; `undefined` where a phase did not happen or did not finish. */
export interface ConnectionSetup {
  /** When opening began: milliseconds since the Unix epoch, with fractions. */
  readonly startedAtEpochMs: number;
  readonly dnsMs: number | undefined;
  readonly connectMs: number | undefined;
  readonly tlsMs: number | undefined;
  /** Negotiated TLS version, `"TLSv1.3"`. */
  readonly tlsVersion: string | undefined;
  /** Whether the TLS session was resumed. */
  readonly tlsResumed: boolean | undefined;
}

/**
 * Settings of a named backend from the configuration or the admin API. They outrank a plugin's own configuration,
 * and the object is live: what it says may change while a connection is open
 * ({@link ConnectionHooks.backendChanged}).
 */
export interface Backend {
  readonly name: string;
  /** How long an idle connection to this backend is kept, in milliseconds. `undefined`: the plugins' own value. */
  readonly idleTimeoutMs: number | undefined;
  /** TCP keepalive towards this backend. `undefined` in a field: the plugins' own value. */
  readonly tcpKeepAlive: Partial<TcpKeepAlive>;
}

/** Where the limit on the idle time of a connection comes from: our own setting, the peer's `Keep-Alive`, or its closes. */
export type IdleLimitSource = "configured" | "hint" | "learned";

/** What Holdfast learned of the peer of an upstream connection from its closes; `undefined` where nothing is sure. */
export interface LearnedLimits {
  /** The peer keeps an idle connection at least this long, in milliseconds. */
  readonly idleTimeoutMs: number | undefined;
  /** From 0 to 1: how sure {@link idleTimeoutMs} is; 0 when there is none. */
  readonly confidence: number;
  /** When we leave an idle connection because of it: less a margin that pays for doubt and the way, in milliseconds. */
  readonly leaveAfterMs: number | undefined;
  /** How many requests the peer takes on one connection. */
  readonly maxRequests: number | undefined;
  /** How old the peer lets a connection become, in milliseconds. */
  readonly maxAgeMs: number | undefined;
}

/** One TCP or TLS connection, on one side. */
export interface Connection {
  /** Unique within the process, counted from 1. */
  readonly id: number;
  readonly direction: Direction;
  readonly side: Side;
  readonly state: ConnectionState;
  readonly protocol: Protocol;
  /** Whether the connection is TLS. */
  readonly secure: boolean;
  readonly localAddress: string;
  readonly localPort: number;
  /** Address of the peer at the other end of the socket; an IPv4 address is never written as `::ffff:…`. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Upstream only: the origin whose pool the connection belongs to. */
  readonly origin: Origin | undefined;
  /** Upstream only: the named backend behind the origin, if it is one. */
  readonly backend: Backend | undefined;
  /**
   * Downstream, the connection is shown as it is accepted, before a TLS handshake: `tlsMs`, `tlsVersion` and
   * `tlsResumed` are known from its first exchange on.
   */
  readonly setup: ConnectionSetup;
  /** Time since it opened, in milliseconds. */
  readonly ageMs: number;
  /**
   * How long it has been idle, in milliseconds; 0 while it is active. In `upstreamConnected`, and until the exchange
   * ends, {@link Exchange.upstreamIdleMs} keeps what it was at the moment of reuse.
   */
  readonly idleMs: number;
  /** Exchanges it has carried, the current one included: greater than 1 means reused. */
  readonly exchanges: number;
  /** Exchanges it carries now. */
  readonly activeExchanges: number;
  /** Bytes on the wire (before TLS encryption where it applies). */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** What the peer last advertised in `Keep-Alive`, if it did. */
  readonly hint: KeepAliveHint | undefined;
  /** Upstream only: what was learned of its peer, as it is known now. */
  readonly learned: LearnedLimits | undefined;
  /** How long it may stay idle, in milliseconds: the smallest of all limits that hold now. */
  readonly idleLimitMs: number;
  /** Which of them that is. */
  readonly idleLimitSource: IdleLimitSource;
  /** HTTP keep-alive of this connection; assign its fields in any hook. */
  readonly keepAlive: KeepAlive;
  /** TCP keepalive; assigning it sets the socket options at once. `undefined`: the kernel's defaults (off). */
  tcpKeepAlive: TcpKeepAlive | undefined;
  /** Downstream only: limits on slow requests. */
  readonly requestTimeouts: RequestTimeouts;
  /** Set once the connection is `draining` or `closed`. */
  readonly closeReason: CloseReason | undefined;
  /**
   * Upstream only: the downstream connection that it serves alone, because a peer authenticates the connection itself
   * (NTLM, Negotiate); `undefined` when any may use it.
   */
  readonly boundTo: Connection | undefined;
  /** What went wrong, when {@link closeReason} is a fault. */
  readonly error: Error | undefined;
  /**
   * Finish what the connection carries, tell the peer (`Connection: close`), then close. Closes at once when idle.
   * The first reason stays.
   */
  drain(reason: CloseReason): void;
}

/**
 * When an idle upstream connection may carry another exchange; HAProxy's `http-reuse`.
 *
 * - `never`: only for the downstream connection that opened it.
 * - `safe`: as `always`, but the first request of a downstream connection gets a fresh connection, so that its
 *   failure can never come from our reuse.
 * - `aggressive`: the first request may also use a connection that has been reused before, which proves that the
 *   upstream keeps connections.
 * - `always`: any idle connection.
 */
export type ReusePolicy = "never" | "safe" | "aggressive" | "always";

/** The upstream connections of one origin. Assign the limits in {@link Filter.pool} or later; they apply at once. */
export interface Pool {
  readonly origin: Origin;
  readonly backend: Backend | undefined;
  /** Default `"always"`. */
  reuse: ReusePolicy;
  /** Connections to this origin at one time, active and idle. Default `Infinity`. */
  maxConnections: number;
  /** Idle connections kept. Default `Infinity`. */
  maxIdle: number;
  /**
   * Keeps only as many idle connections as the exchanges of this pool were seen to need, within these bounds and
   * {@link maxIdle}. `most` holds until enough was seen. `undefined` (the default): keeps them all.
   */
  autoIdle: { readonly least: number; readonly most: number } | undefined;
  /** Exchanges that may wait for a connection; the next one gets 503. Default 1024. */
  maxQueue: number;
  /** How long an exchange may wait for a connection, in milliseconds; then 503. Default 5 s. */
  queueTimeoutMs: number;
  /**
   * How many connections at a time may be left alone, idle, beyond the learned idle limit, to see when the origin closes
   * them and whether it keeps them longer than it did. They carry no request any more. Default 0.
   */
  canaries: number;
  /** Now open. */
  readonly connections: number;
  /** Now idle. */
  readonly idle: number;
  /** Exchanges now waiting. */
  readonly queued: number;
}

/** One field line: name as received, value without surrounding white space. */
export type HeaderField = readonly [name: string, value: string];

/**
 * Field lines of a head in their order, duplicates and case of names kept; look-up ignores case.
 *
 * Hop-by-hop fields (RFC 9110 §7.6.1) are not in it. `set`, `append` and `delete` throw a `TypeError` for an invalid
 * name or value and for the fields that Holdfast alone writes: `Connection`, `Keep-Alive`, `Proxy-Connection`,
 * `Content-Length`, `Transfer-Encoding`, `TE`, `Trailer`, `Upgrade`, `Via`; and for `Host`, which is sent from
 * {@link RequestHead.authority}. A value is bytes, written as latin1: characters beyond U+00FF are invalid, encode them.
 */
export interface HeaderList extends Iterable<HeaderField> {
  /** Number of field lines. */
  readonly size: number;
  /** Value of the first line with this name, `undefined` if there is none. */
  get(name: string): string | undefined;
  /** Values of all lines with this name. */
  getAll(name: string): string[];
  has(name: string): boolean;
  /** Replaces all lines of this name by one, at the place of the first. */
  set(name: string, value: string): void;
  /** Adds a line at the end. */
  append(name: string, value: string): void;
  /** Removes all lines of this name; tells whether there were any. */
  delete(name: string): boolean;
}

/** Start line and fields of a request, as they are about to be sent upstream. */
export interface RequestHead {
  readonly method: string;
  /**
   * The origin-form (`/path?query`) or `*`; `host:port` for CONNECT. Assignable, except for CONNECT: anything but an
   * encoded path without a fragment, or `*` for OPTIONS, throws a `TypeError`.
   */
  target: string;
  readonly scheme: "http" | "https";
  /**
   * Host and port that the request named, as received; empty for HTTP/1.0 without `Host`. `Host` is sent from it. The
   * request is routed already, so assigning it changes what the upstream is told, not where the request goes.
   *
   * @throws TypeError on assignment, when it is not a host with an optional port
   */
  authority: string;
  /** Version the downstream peer spoke. */
  readonly version: "1.0" | "1.1" | "2";
  readonly headers: HeaderList;
}

/** Start line and fields of a final response, as they are about to be sent downstream. */
export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  /** Version the upstream spoke. */
  readonly version: "1.0" | "1.1";
  readonly headers: HeaderList;
}

/**
 * A response that a plugin gives instead of the upstream. Holdfast adds `Content-Length`, `Date` and the fields of the
 * hop; one that cannot be sent is a failure of the plugin.
 */
export interface Reply {
  /** 200 to 599. */
  readonly status: number;
  /** In this order. The fields that Holdfast alone writes are refused here as they are in a {@link HeaderList}. */
  readonly headers?: readonly HeaderField[];
  readonly body?: string | Uint8Array;
}

/** How a stale upstream connection was met: see DESIGN, *Retry*. */
export type StaleResult = "raced" | "retried" | "refused";

/** Where a failure came from. */
export type FailureSource = "downstream" | "upstream" | "plugin" | "config" | "internal";

/** A failure of an exchange, as plugins see it. */
export interface Failure extends Error {
  /** Stable, documented: `HF_UPSTREAM_REFUSED`. */
  readonly code: string;
  readonly source: FailureSource;
  /** Status sent downstream for it, when no response had begun. */
  readonly status: number;
}

/** How an exchange ended. */
export interface Outcome {
  /** Status sent downstream; `undefined` when none could be. */
  readonly status: number | undefined;
  /** Who answered. `none`: nobody, the exchange was cut before a response head. */
  readonly answeredBy: "upstream" | "plugin" | "holdfast" | "none";
  /** Set when the exchange failed, even if a response had begun. */
  readonly error: Failure | undefined;
  /** From the request head to the last byte of the response, in milliseconds. */
  readonly durationMs: number;
  /** Body bytes, without framing. */
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** Set when a reused upstream connection turned out to be closed. */
  readonly stale: StaleResult | undefined;
}

/** Trace context of an exchange (W3C Trace Context). */
export interface TraceContext {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** 16 lower-case hexadecimal digits: the SERVER span. */
  readonly spanId: string;
  readonly sampled: boolean;
}

/** Where a request goes. */
export interface Route {
  /** Name for logs and traces: the backend's name, or the origin. */
  readonly name: string;
  readonly origin: Origin;
  readonly backend: Backend | undefined;
}

/** One request with its response(s). */
export interface Exchange {
  /** Unique within the process, counted from 1. */
  readonly id: number;
  readonly direction: Direction;
  /** `http`: request and response. `tunnel`: CONNECT. `upgrade`: became a byte tunnel (or was asked to). */
  readonly kind: "http" | "tunnel" | "upgrade";
  readonly downstream: Connection;
  /**
   * Address that the request came from: the downstream peer's own or, where `forwarding.trusted` has that one, the last
   * in `X-Forwarded-For` that it has not. Nobody outside the trusted proxies can make it up.
   */
  readonly clientAddress: string;
  /** Place of this exchange on its downstream connection, from 1. */
  readonly downstreamIndex: number;
  /** How long the downstream connection had been idle when the request came, in milliseconds. */
  readonly downstreamIdleMs: number;
  readonly request: RequestHead;
  /** Known from `request` on. */
  readonly route: Route | undefined;
  /** Connection of the current attempt; known from `upstreamConnected` on. */
  readonly upstream: Connection | undefined;
  /** Place of this exchange on its upstream connection, from 1; 0 before `upstreamConnected`. */
  readonly upstreamIndex: number;
  /** How long the upstream connection had been idle when it was taken for this exchange, in milliseconds; 0 if fresh. */
  readonly upstreamIdleMs: number;
  /** How long the current attempt waited for a free connection, in milliseconds; 0 when it did not. */
  readonly queuedMs: number;
  /** Attempts begun so far, 1 while the first runs; 0 before. */
  readonly attempts: number;
  /** When the request head was complete: milliseconds since the Unix epoch, with fractions. */
  readonly startedAtEpochMs: number;
  /** When the current attempt began (before it waited or connected): milliseconds since the Unix epoch, with fractions. */
  readonly attemptStartedAtEpochMs: number;
  /** Time since the request head was complete, in milliseconds. */
  readonly elapsedMs: number;
  /** Status sent (or being sent) downstream; `undefined` before. */
  readonly status: number | undefined;
  /** Set by the tracing filter for those that run after it; `undefined` when the exchange is not traced. */
  trace: TraceContext | undefined;
}

/** What a plugin's hook did wrong. */
export interface PluginFailure {
  readonly plugin: string;
  /** `"request"`, `"connection"`, … */
  readonly hook: string;
  readonly error: unknown;
  /** What follows: the exchange goes on without the plugin (`continue`) or gets 500 (`fail`). */
  readonly onError: "continue" | "fail";
  readonly connection: Connection | undefined;
  readonly exchange: Exchange | undefined;
}

/**
 * Hooks of one connection. Every one is optional; one that is not defined costs nothing. The object is read when it is
 * returned: hooks assigned to it later are not called.
 */
export interface ConnectionHooks {
  /** An exchange (or tunnel) begins on the connection. */
  active?(exchange: Exchange): void;
  /** The connection carries nothing any more and is kept. Assign {@link Connection.keepAlive} here to change how long. */
  idle?(): void;
  /** Settings of the connection's backend changed: state `keepAlive` and `tcpKeepAlive` again. */
  backendChanged?(): void;
  /**
   * The connection is closed, or this filter sees no more of it because a new configuration took its place (`reload`).
   * Always runs, exactly once; not before the exchanges that this filter saw begin on the connection are over.
   */
  close?(reason: CloseReason): void;
}

/**
 * Hooks of one exchange. Every one is optional; one that is not defined costs nothing. Each is given its exchange too,
 * so that a filter without state of its own can return one constant object and allocate nothing. The object is read when it
 * is returned, and not again when the same one is returned the next time: hooks assigned to it later are not called.
 */
export interface ExchangeHooks {
  /**
   * The request head is complete and routed. Edit `exchange.request`, or return a {@link Reply} to answer instead of
   * the upstream. The only hook that may be asynchronous; it has a time limit.
   */
  request?(head: RequestHead, exchange: Exchange): Reply | void | Promise<Reply | void>;
  /** A connection was taken for this attempt; nothing is sent yet. `connection.exchanges > 1` means reused. */
  upstreamConnected?(connection: Connection, exchange: Exchange): void;
  /** The attempt failed on a stale connection and another follows on a fresh one. */
  retry?(error: Failure, exchange: Exchange): void;
  /** The final response head came from the upstream, or from a plugin or Holdfast in its place. Edit it here. */
  response?(head: ResponseHead, exchange: Exchange): void;
  /** A hook of some plugin failed in this exchange. */
  pluginFailed?(failure: PluginFailure): void;
  /** The exchange is over. Always runs, exactly once. */
  end?(outcome: Outcome, exchange: Exchange): void;
}

/** A plugin's live instance in one direction. A filter without state returns the same hooks object every time. */
export interface Filter {
  /** An origin is called for the first time: state the limits of its pool. */
  pool?(pool: Pool): void;
  /**
   * A connection opened, on either side; or it is open already when this filter comes with a new configuration, and may
   * then carry exchanges that this filter never sees. An upstream connection that failed to open is shown too, with
   * `closeReason === "connect_failed"`; its `close` hook follows at once. A downstream one is shown before its TLS
   * handshake; if that fails, its `close` hook gets the same reason.
   */
  connection?(connection: Connection): ConnectionHooks | void;
  /** A request head is complete. Not routed yet. */
  exchange?(exchange: Exchange): ExchangeHooks | void;
  /** A hook of some plugin failed, in this direction. */
  pluginFailed?(failure: PluginFailure): void;
  /**
   * The direction closes, or a new configuration took this filter's place. Every connection and exchange that it saw is
   * over by then, for this filter. Runs exactly once. May be asynchronous, for up to 5 s.
   */
  close?(): void | Promise<void>;
}

/** A logger in pino's calling convention. Lines carry the plugin's name and direction. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What `setup` gets. */
export interface PluginContext<C> {
  /** The entry's `config`, validated, with defaults filled in. */
  readonly config: C;
  readonly direction: Direction;
  /** Name of the service beside us: `service` in the configuration. */
  readonly service: string;
  readonly log: Logger;
  /** Open connections of this direction, both sides. */
  readonly connections: Iterable<Connection>;
  /** How many connections of this direction are open on one side. */
  countConnections(side: Side): number;
}

/**
 * A plugin. Write it with {@link definePlugin}, which infers the type of its configuration from its schema.
 *
 * @typeParam C - the configuration, as `config` describes it
 */
export interface Plugin<C> {
  /** Unique in a configuration. */
  readonly name: string;
  readonly apiVersion: ApiVersion;
  /** One line for lists and `/plugins`. */
  readonly description: string;
  /** convict schema of the entry's `config`. Every field has a `doc`. Durations and sizes: {@link duration}, {@link size}. */
  readonly config: convict.Schema<C>;
  /** Names of plugins that, where listed, must stand before this one. Asserted at start; never re-sorted. */
  readonly after?: readonly string[];
  /**
   * Makes the live instance for one direction. Called once per direction at start, and again with a new configuration in
   * which anything of the direction's plugins is different: then beside the instance before, which finishes what it began.
   *
   * @throws whatever makes the start (or the new configuration) impossible; the message is shown with the plugin's name
   */
  setup(context: PluginContext<C>): Filter | Promise<Filter>;
}

/** Returns the plugin unchanged; gives TypeScript the type of its configuration. */
export function definePlugin<C>(plugin: Plugin<C>): Plugin<C> {
  return plugin;
}

export { duration, listOf, optionalDuration, size } from "./schema.ts";
