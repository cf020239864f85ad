/**
 * One TCP or TLS connection with its life: open → active ⇄ idle → draining → closed.
 *
 * @module
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { HoldfastError } from "../errors.ts";
import type { LearnedPeer } from "../learning/peer.ts";
import type {
  Backend,
  CloseReason,
  Connection,
  ConnectionSetup,
  ConnectionState,
  Direction,
  Exchange,
  IdleLimitSource,
  KeepAlive,
  KeepAliveHint,
  LearnedLimits,
  Origin,
  Protocol,
  RequestTimeouts,
  Side,
  TcpKeepAlive,
} from "../plugin/api.ts";
import type { Chain } from "../plugin/chain.ts";
import { type ConnectionRun, NO_CONNECTION_HOOKS } from "../plugin/connection-run.ts";
import type { SharedReads } from "./accepted-socket.ts";
import { plainAddress } from "./address.ts";
import { lastClock, readClock } from "./clock.ts";
import type { SocketReader } from "./connect.ts";

let lastId = 0;

/** How long a closing connection may take to finish before its socket is destroyed. */
export const CLOSE_LINGER_MS = 2000;

/** What a connection is made of. */
export interface ConnectionOptions {
  readonly direction: Direction;
  readonly side: Side;
  readonly socket: Socket;
  /** Whether it is TLS, or becomes so: see {@link ProxyConnection.secured}. Default: what the socket is. */
  readonly secure?: boolean;
  readonly protocol: Protocol;
  readonly setup: ConnectionSetup;
  readonly origin?: Origin;
  readonly backend?: Backend | undefined;
  /** Upstream: who reads the socket; `undefined`: it is read as a stream. */
  readonly reader?: SocketReader | undefined;
  /** Downstream: where to take what is read; `undefined`: it is read as a stream. */
  readonly reads?: SharedReads | undefined;
  /** Default idle limit, in milliseconds. */
  readonly idleTimeoutMs: number;
}

/** A connection as core sees it; plugins see the `Connection` part. */
export class ProxyConnection implements Connection {
  readonly id: number = ++lastId;
  readonly direction: Direction;
  readonly side: Side;
  /** Where bytes are read and written; another one once a TLS handshake on it is over. */
  socket: Socket;
  readonly secure: boolean;
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly origin: Origin | undefined;
  readonly backend: Backend | undefined;
  setup: ConnectionSetup;
  readonly reader: SocketReader | undefined;
  readonly reads: SharedReads | undefined;
  readonly keepAlive: KeepAlive;
  readonly requestTimeouts: RequestTimeouts = { ...REQUEST_TIMEOUTS };
  protocol: Protocol;
  hint: KeepAliveHint | undefined;
  error: Error | undefined;
  exchanges = 0;
  activeExchanges = 0;
  /** `performance.now()` when it opened. */
  readonly openedAtMs: number = performance.now();
  /** `performance.now()` since when it is idle. */
  idleSinceMs: number = this.openedAtMs;
  /** Upstream: how much earlier that may have been, as the event loop may have been late; where it matters. */
  idleLateMs = 0;
  /** `socket.bytesRead` when it became idle: more means that a request head has begun to arrive. */
  bytesReadWhenIdle = 0;
  /** Whether {@link bytesReadWhenIdle} is wanted: not upstream, and not where the forwarder itself sees a head begin. */
  noteBytesRead: boolean;
  /** Downstream: `performance.now()` when an incomplete request head was first noticed; `undefined` while there is none. */
  headSinceMs: number | undefined;
  /** Downstream: its TLS handshake is not over yet. */
  handshaking = false;
  /** Upstream: the only downstream connection that it serves, because a peer authenticated it; see {@link bindTo}. */
  boundTo: ProxyConnection | undefined;
  /** Downstream: upstream connections that serve it alone; `undefined` until there is one. */
  bound: Set<ProxyConnection> | undefined;
  /** Neighbours among the open connections of its direction. */
  previousOpen: ProxyConnection | undefined;
  nextOpen: ProxyConnection | undefined;
  /** Upstream: whether its pool counts the current exchange to find out how many connections to keep. */
  isCounted = false;
  /** Called whenever the connection carries nothing any more and is kept. */
  onIdle: ((connection: ProxyConnection) => void) | undefined;
  /** Called once, when the connection begins to drain (or is cut): it carries no further exchange. */
  onDraining: ((connection: ProxyConnection) => void) | undefined;
  /** Called before {@link onDraining}, when the peer closes it while it carries nothing and nobody expected that. */
  onPeerClosed: ((connection: ProxyConnection) => void) | undefined;
  /** Called once, when the connection is closed. */
  onClosed: ((connection: ProxyConnection) => void) | undefined;
  /** Upstream: what is known of its peer. */
  peer: LearnedPeer | undefined;
  /** How an idle connection is closed; a forwarder may know a politer way. */
  closeTransport: (this: ProxyConnection) => void = closeOwnSocket;

  #state: ConnectionState = "idle";
  #closeReason: CloseReason | undefined;
  #tcpKeepAlive: TcpKeepAlive | undefined;
  #chain: Chain | undefined;
  #run: ConnectionRun = NO_CONNECTION_HOOKS;
  /** Runs of chains before, for as long as exchanges that began with them go on. Mostly there are none. */
  #olderRuns: readonly ConnectionRun[] = NO_RUNS;
  readonly #defaultIdleTimeoutMs: number;
  /** For how long it is kept whatever new filters say: the peer was told so, or could think so. */
  #promisedIdleMs = 0;
  #isChangingChain = false;

  constructor(options: ConnectionOptions) {
    const { socket } = options;
    this.direction = options.direction;
    this.side = options.side;
    this.noteBytesRead = options.side === "downstream";
    this.socket = socket;
    this.protocol = options.protocol;
    this.setup = options.setup;
    this.reader = options.reader;
    this.reads = options.reads;
    this.origin = options.origin;
    this.backend = options.backend;
    this.secure = options.secure ?? (socket as Partial<TLSSocket>).encrypted === true;
    this.localAddress = plainAddress(socket.localAddress);
    this.localPort = socket.localPort ?? 0;
    this.remoteAddress = plainAddress(socket.remoteAddress);
    this.remotePort = socket.remotePort ?? 0;
    this.#defaultIdleTimeoutMs = options.idleTimeoutMs;
    this.keepAlive = keepAliveDefaults(options.idleTimeoutMs);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get closeReason(): CloseReason | undefined {
    return this.#closeReason;
  }

  get ageMs(): number {
    return performance.now() - this.openedAtMs;
  }

  get idleMs(): number {
    return this.activeExchanges > 0 || this.#state === "closed" ? 0 : performance.now() - this.idleSinceMs;
  }

  /** Whether the clock is read for whatever happens on it. Where bytes come through node:http, nothing of ours does. */
  get readsClock(): boolean {
    return this.reader !== undefined || this.reads?.reader !== undefined;
  }

  get bytesRead(): number {
    return this.socket.bytesRead;
  }

  get bytesWritten(): number {
    return this.socket.bytesWritten;
  }

  get tcpKeepAlive(): TcpKeepAlive | undefined {
    return this.#tcpKeepAlive;
  }

  set tcpKeepAlive(value: TcpKeepAlive | undefined) {
    this.#tcpKeepAlive = value;
    if (value === undefined || !value.enable) this.socket.setKeepAlive(false);
    else this.socket.setKeepAlive(true, value.timeMs, value.intervalMs, value.probes);
  }

  get idleLimitMs(): number {
    const { keepAlive, peer } = this;
    const statedMs = Math.min(keepAlive.idleTimeoutMs, keepAlive.agreedTimeoutMs);
    if (peer === undefined || !keepAlive.heedLearned) return Math.max(this.#promisedIdleMs, statedMs);
    return Math.max(this.#promisedIdleMs, Math.min(statedMs, peer.usableIdleMs - this.idleLateMs));
  }

  get idleLimitSource(): IdleLimitSource {
    const { idleTimeoutMs, agreedTimeoutMs } = this.keepAlive;
    if (this.idleLimitMs < Math.min(idleTimeoutMs, agreedTimeoutMs)) return "learned";
    return agreedTimeoutMs < idleTimeoutMs ? "hint" : "configured";
  }

  get learned(): LearnedLimits | undefined {
    return this.peer?.known;
  }

  /** The chain whose filters it is shown to. */
  get chain(): Chain | undefined {
    return this.#chain;
  }

  /** A plugin with `onError: "fail"` failed on this connection: exchanges on it fail with this. */
  get pluginFailure(): HoldfastError | undefined {
    return this.#run.failure;
  }

  /** Shows the connection to the filters and starts to watch its socket. */
  open(chain: Chain): void {
    // Only now: a peer that is already gone must still find its error handled, and `close` must follow `connection`.
    this.#watch(this.socket);
    if (this.reader !== undefined) this.reader.attach(this);
    else if (this.side === "upstream") this.socket.on("data", () => this.#received());
    this.#chain = chain;
    this.#run = chain.connection(this);
    if (this.socket.destroyed) this.#closed();
  }

  /**
   * Takes the connection from the filters of one chain and shows it to those of another; filters that are in both see
   * nothing of it. Hooks of filters that are only in the one before are closed: at once when the connection carries
   * nothing, else with a later {@link leaveOlderChains}.
   *
   * What the filters before have set is undone first, but for what was agreed with the peer. Downstream, the peer relies
   * on what the last response said: until the next exchange begins the connection is kept for as long as it was, and one
   * that must close now says so with its next response.
   */
  join(chain: Chain): void {
    if (this.#chain === chain || this.#state === "closed") return;
    const before = this.#run;
    const keptMs = this.idleLimitMs;
    this.#chain = chain;
    if (this.activeExchanges === 0) before.close("reload", chain);
    else this.#olderRuns = [...this.#olderRuns, before];
    const { agreedTimeoutMs } = this.keepAlive;
    Object.assign(this.keepAlive, keepAliveDefaults(this.#defaultIdleTimeoutMs), { agreedTimeoutMs });
    Object.assign(this.requestTimeouts, REQUEST_TIMEOUTS);
    const probes = this.#tcpKeepAlive;
    this.#isChangingChain = true;
    this.#tcpKeepAlive = undefined;
    this.#run = chain.connection(this, before);
    this.#isChangingChain = false;
    if (probes !== undefined && this.#tcpKeepAlive === undefined) this.tcpKeepAlive = undefined;
    if (this.side === "upstream") return;
    this.#promisedIdleMs = 0;
    const newMs = this.idleLimitMs;
    // Where there was no limit, the new one counts from now.
    this.#promisedIdleMs = keptMs === Number.POSITIVE_INFINITY ? this.idleMs + newMs : keptMs;
  }

  /** Closes the hooks of chains before, but for those in which exchanges still run. */
  leaveOlderChains(inUse: ReadonlySet<Chain>): void {
    const stays = (run: ConnectionRun): boolean => run.chain !== undefined && inUse.has(run.chain);
    const left = this.#olderRuns.filter((run) => !stays(run));
    if (left.length === 0) return;
    this.#olderRuns = this.#olderRuns.filter(stays);
    for (const run of left.toReversed()) run.close("reload", this.#chain);
  }

  /** A TLS handshake begins on its socket: how that ends is for {@link secured} or {@link handshakeFailed} to tell. */
  beginHandshake(): void {
    this.handshaking = true;
    // What is read now is no request head, and nothing has been said that a sudden end could take along.
    this.noteBytesRead = false;
    this.closeTransport = () => this.socket.destroy();
  }

  /** The handshake is over: from here on the connection is this socket. */
  secured(socket: Socket, setup: ConnectionSetup): void {
    this.handshaking = false;
    this.noteBytesRead = true;
    this.closeTransport = closeOwnSocket;
    this.setup = setup;
    this.socket = socket;
    this.#watch(socket);
  }

  /** There was no agreement, or no time for it. The first reason stays. */
  handshakeFailed(error: HoldfastError): void {
    this.handshaking = false;
    this.cut("connect_failed", error);
    // Its end was not heard while the handshake ran.
    if (this.socket.closed) this.#closed();
  }

  /** A socket that another has taken over says nothing about the connection any more. */
  #watch(socket: Socket): void {
    socket.on("error", (error) => this.#hears(socket) && this.#socketFailed(error));
    socket.on("end", () => this.#hears(socket) && this.#peerEnded());
    socket.on("close", () => this.#hears(socket) && this.#closed());
  }

  #hears(socket: Socket): boolean {
    return this.socket === socket && !this.handshaking;
  }

  /** An exchange or a tunnel begins. */
  begin(exchange: Exchange): void {
    this.exchanges++;
    this.activeExchanges++;
    this.#promisedIdleMs = 0;
    this.headSinceMs = undefined;
    if (this.#state === "idle") this.#state = "active";
    this.#run.active(exchange);
  }

  /** An exchange or a tunnel is over. Closes the connection if it is to be closed now. */
  finish(): void {
    this.activeExchanges--;
    if (this.activeExchanges > 0 || this.#state === "closed") return;
    this.idleSinceMs = this.readsClock ? lastClock() : readClock();
    if (this.noteBytesRead) this.bytesReadWhenIdle = this.socket.bytesRead;
    const reason = this.reasonToClose();
    // A caller may send its next request at any time: for its age, or for limits that changed meanwhile, a connection
    // closes only after a response said so.
    const isUnannounced = this.side === "downstream" && (reason === "max_age" || this.#promisedIdleMs > 0);
    if (reason !== undefined && !isUnannounced) this.drain(reason);
    if (this.#state === "draining") {
      this.closeTransport();
      return;
    }
    this.#state = "idle";
    this.#run.idle();
    this.onIdle?.(this);
  }

  /** Why the connection must close after what it carries now; `undefined` if it may stay. */
  reasonToClose(): CloseReason | undefined {
    if (this.#closeReason !== undefined) return this.#closeReason;
    if (!this.keepAlive.enabled || this.exchanges >= this.keepAlive.maxRequests) return "max_requests";
    const { maxAgeMs } = this.keepAlive;
    if (maxAgeMs !== Number.POSITIVE_INFINITY && this.ageMs >= maxAgeMs) return "max_age";
    return undefined;
  }

  drain(reason: CloseReason): void {
    if (this.#state === "closed" || this.#state === "draining") return;
    if (this.#isChangingChain && this.side === "downstream") {
      this.#closeReason ??= reason;
      return;
    }
    this.#beginDraining(reason);
    if (this.activeExchanges === 0) this.closeTransport();
  }

  /** Destroys the socket at once. The first reason stays. */
  cut(reason: CloseReason, error?: Error): void {
    if (this.#state === "closed") return;
    this.error ??= error;
    this.#beginDraining(reason);
    // A response that waits for the end of the turn is whole; a request that does is better never begun.
    if (this.side === "downstream") this.socket.uncork();
    this.socket.destroy();
  }

  /** As {@link cut}, by RST: where an ordinary end would look like the end of a response that ends with its connection. */
  reset(reason: CloseReason, error?: Error): void {
    if (!this.socket.destroyed) this.socket.resetAndDestroy();
    this.cut(reason, error);
  }

  /** The peer ended its side or announced that it will. */
  peerCloses(): void {
    this.#beginDraining("peer_closed");
  }

  /** Upstream: from now on it serves this downstream connection alone, and closes with it. */
  bindTo(downstream: ProxyConnection): void {
    this.boundTo = downstream;
    downstream.bound ??= new Set();
    downstream.bound.add(this);
  }

  /** Settings of its backend changed. */
  backendChanged(): void {
    this.#run.backendChanged();
  }

  /** The first reason stays. */
  #beginDraining(reason: CloseReason): void {
    if (this.#state === "closed") return;
    this.#closeReason ??= reason;
    if (this.#state === "draining") return;
    this.#state = "draining";
    this.onDraining?.(this);
  }

  #socketFailed(error: NodeJS.ErrnoException): void {
    this.error ??= error;
    const reason = reasonOfSocketError(error);
    if (reason === "peer_reset" && this.#state === "idle") this.onPeerClosed?.(this);
    this.#beginDraining(reason);
  }

  #peerEnded(): void {
    // A downstream peer that ends its side may still wait for an answer; what that means is for the forwarder to tell.
    if (this.side === "downstream" && this.protocol !== "tunnel") return;
    if (this.#state === "idle") this.onPeerClosed?.(this);
    this.peerCloses();
    if (this.activeExchanges === 0) this.closeTransport();
  }

  /** Nobody asked anything, so these bytes answer nothing: they must never be read as the next response (RFC 9112 §9.2). */
  #received(): void {
    if (this.activeExchanges === 0) this.cut("protocol_error", new Error("the upstream sent bytes while idle"));
  }

  #closed(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#closeReason ??= this.#unexplainedClose();
    this.leaveOlderChains(NO_CHAINS);
    this.#run.close(this.#closeReason);
    this.boundTo?.bound?.delete(this);
    // Nobody else may use them.
    if (this.bound !== undefined) for (const upstream of this.bound) upstream.drain("max_requests");
    this.onClosed?.(this);
  }

  /** Why a socket closed without a word from its peer, from us, or from an error. */
  #unexplainedClose(): CloseReason {
    if (this.activeExchanges === 0) return "peer_closed";
    // An upstream that ends says so first, so its socket was destroyed by a parser that could make nothing of it.
    return this.side === "upstream" ? "protocol_error" : "aborted";
  }
}

/** One function for all: a connection that is idle should be small. */
function closeOwnSocket(this: ProxyConnection): void {
  closeGently(this.socket);
}

const REQUEST_TIMEOUTS: RequestTimeouts = { headMs: 60_000, requestMs: Number.POSITIVE_INFINITY };
const NO_RUNS: readonly ConnectionRun[] = [];
const NO_CHAINS: ReadonlySet<Chain> = new Set();

function keepAliveDefaults(idleTimeoutMs: number): KeepAlive {
  return {
    enabled: true,
    idleTimeoutMs,
    agreedTimeoutMs: Number.POSITIVE_INFINITY,
    heedLearned: true,
    maxRequests: Number.POSITIVE_INFINITY,
    maxAgeMs: Number.POSITIVE_INFINITY,
    advertise: false,
  };
}

/** Which close reason an error of an open socket means. */
export function reasonOfSocketError(error: NodeJS.ErrnoException): CloseReason {
  switch (error.code) {
    case "ECONNRESET":
    case "EPIPE":
      return "peer_reset";
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      // On an open connection the kernel says these when probes (or retransmissions) went unanswered.
      return "tcp_keepalive";
    default:
      return "protocol_error";
  }
}

/**
 * Ends our side and reads on for a while before the socket is destroyed. Destroying it at once would send RST when
 * the peer still writes, and RST makes it lose the response it has not read yet (RFC 9112 §9.6).
 */
export function closeGently(socket: Socket): void {
  if (socket.destroyed || closing.has(socket)) return;
  closing.add(socket);
  const timer = setTimeout(() => socket.destroy(), CLOSE_LINGER_MS).unref();
  socket.once("close", () => clearTimeout(timer));
  socket.end();
  socket.resume();
}

const closing = new WeakSet<Socket>();
