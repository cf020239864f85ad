/**
 * The upstream connections of one origin: who may reuse which, how many there may be, who waits.
 *
 * @module
 */
import type { LookupFunction } from "node:net";
import { HoldfastError } from "../errors.ts";
import type { LearnedOrigin } from "../learning/origin.ts";
import { type PoolAdvice, PoolDemand } from "../learning/pool-size.ts";
import type { Backend, Direction, Origin, Pool, ReusePolicy } from "../plugin/api.ts";
import type { Chain } from "../plugin/chain.ts";
import { lastClock, likelyDelayMs, possibleDelayMs, readClock } from "./clock.ts";
import { connect, type OwnPorts, type SocketReader, type TlsOrigin } from "./connect.ts";
import { ProxyConnection } from "./connection.ts";
import { closedIdle } from "./observe.ts";

/** How often a pool that sizes itself looks whether its size still fits, in milliseconds. */
const RESIZE_INTERVAL_MS = 5000;

/** A connection that was idle for so long may have been closed since the event loop last looked, in milliseconds. */
const LOOK_FIRST_AFTER_MS = 20;

/** What a pool is made for. */
export interface PoolOptions {
  readonly origin: Origin;
  readonly backend: Backend | undefined;
  readonly tls: TlsOrigin | undefined;
  readonly chain: Chain;
  readonly connectTimeoutMs: number;
  /** Default idle limit of its connections, in milliseconds. */
  readonly idleTimeoutMs: number;
  readonly direction: Direction;
  /** How its name is looked up; `undefined`: as the system does it. */
  readonly lookup?: LookupFunction | undefined;
  /** See `ConnectOptions`. */
  readonly ownPorts?: OwnPorts | undefined;
  /** Whether a route of the configuration leads to it, now. Default: one does. */
  readonly isConfigured?: () => boolean;
  /** What is known of the origin, and learns more. */
  readonly learned: LearnedOrigin;
  /** Told of every connection as it opens. */
  readonly onOpen: (connection: ProxyConnection) => void;
}

/** Who asks for a connection. Either `acquired` or `notAcquired` is called, once, unless the ticket is cancelled. */
export interface Asker {
  /** The downstream connection on whose behalf. */
  readonly owner: ProxyConnection;
  /** Whether this is the first exchange of that connection, for {@link ReusePolicy}. */
  readonly first: boolean;
  /** Nothing that was used before: for a retry, a tunnel or an upgrade. */
  readonly fresh: boolean;
  /** Whether what is asked for may be sent twice, should the connection turn out to be closed. */
  readonly repeatable: boolean;
  /** For opaque bytes, where either side may end alone. */
  readonly tunnel: boolean;
  /** Makes what reads a fresh connection; `undefined`: it is read as a stream. Only like connections are reused. */
  readonly makeReader: (() => SocketReader) | undefined;
  /**
   * @param idleMs - how long the connection had been idle; 0 if it is fresh
   * @param queuedMs - how long the asker waited because the pool was full
   */
  acquired(connection: ProxyConnection, idleMs: number, queuedMs: number): void;
  notAcquired(error: HoldfastError): void;
}

/** An asker that has to wait, for a place or for a connection to open. */
export class Ticket {
  readonly asker: Asker;
  readonly askedAtMs: number = lastClock();
  readonly #queue: Set<Ticket>;
  #settled = false;

  /** @param queue - where it stands while it waits for a place */
  constructor(asker: Asker, queue: Set<Ticket>) {
    this.asker = asker;
    this.#queue = queue;
  }

  /** Whether the asker was answered, or has gone. */
  get settled(): boolean {
    return this.#settled;
  }

  /** The asker has gone: whatever comes goes to someone else. */
  cancel(): void {
    this.#settle();
  }

  acquired(connection: ProxyConnection, idleMs: number, queuedMs: number): void {
    this.#settle();
    this.asker.acquired(connection, idleMs, queuedMs);
  }

  notAcquired(error: HoldfastError): void {
    if (this.#settled) return;
    this.#settle();
    this.asker.notAcquired(error);
  }

  #settle(): void {
    this.#settled = true;
    this.#queue.delete(this);
  }
}

/** What holds where no filter says otherwise. */
const DEFAULTS = {
  reuse: "always",
  maxConnections: Number.POSITIVE_INFINITY,
  maxIdle: Number.POSITIVE_INFINITY,
  maxQueue: 1024,
  queueTimeoutMs: 5000,
  canaries: 0,
  autoIdle: undefined,
} as const satisfies Partial<Pool>;

/** Pool of one origin. Idle connections are a stack: the newest is the surest to be alive. */
export class OriginPool implements Pool {
  readonly origin: Origin;
  readonly backend: Backend | undefined;
  reuse!: ReusePolicy;
  maxConnections!: number;
  maxIdle!: number;
  maxQueue!: number;
  queueTimeoutMs!: number;
  canaries!: number;
  autoIdle: Pool["autoIdle"];

  /** Its last response was one of HTTP/1.0: it is sent no chunks (RFC 9112 §6.1). */
  speaksHttp10 = false;

  readonly #options: PoolOptions;
  #chain: Chain;
  #connectTimeoutMs: number;
  readonly #all = new Set<ProxyConnection>();
  readonly #idle: ProxyConnection[] = [];
  /** Idle connections that serve one downstream connection alone, oldest first: no part of the stack. */
  readonly #boundIdle = new Set<ProxyConnection>();
  /** Idle beyond the learned limit, to see when the peer closes them: no part of the stack. */
  readonly #canaries = new Set<ProxyConnection>();
  /** Given up to make room; they count until their sockets are closed, so that the limit holds on the wire too. */
  readonly #leaving = new Set<ProxyConnection>();
  readonly #owners = new WeakMap<ProxyConnection, ProxyConnection>();
  /** In order of arrival. */
  readonly #queue = new Set<Ticket>();
  #opening = 0;
  #closed = false;
  #sweptAtMs = 0;
  /** The last that was taken after an idle time of which nothing was known. */
  #tried: ProxyConnection | undefined;
  readonly #demand = new PoolDemand(lastClock());
  /** What {@link autoIdle} has come to. */
  #enoughIdle = Number.POSITIVE_INFINITY;
  #resizedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.origin = options.origin;
    this.backend = options.backend;
    this.#chain = options.chain;
    this.#connectTimeoutMs = options.connectTimeoutMs;
    Object.assign(this, DEFAULTS);
    this.#chain.pool(this);
  }

  /**
   * Another configuration holds for connections that open from now on; those that are open stay.
   *
   * @throws HoldfastError when a plugin with `onError: "fail"` failed; the pool is then not to be used
   */
  renew(chain: Chain, connectTimeoutMs: number): void {
    this.#connectTimeoutMs = connectTimeoutMs;
    if (chain === this.#chain) return;
    this.#chain = chain;
    Object.assign(this, DEFAULTS);
    chain.pool(this);
  }

  get connections(): number {
    return this.#all.size + this.#opening;
  }

  /** Open connections, idle ones included. */
  get open(): ReadonlySet<ProxyConnection> {
    return this.#all;
  }

  /** Those that anybody may use: one that is bound is nobody's to reuse but its owner's. */
  get idle(): number {
    return this.#idle.length;
  }

  get direction(): Direction {
    return this.#options.direction;
  }

  /** What is known of its origin. */
  get learned(): LearnedOrigin {
    return this.#options.learned;
  }

  /** Connections that are watched to see when the peer closes them. */
  get watched(): number {
    return this.#canaries.size;
  }

  get queued(): number {
    return this.#queue.size;
  }

  /** How many idle connections to keep; `undefined` while too little was seen. Takes time with their number. */
  get advice(): PoolAdvice | undefined {
    return this.#demand.advice(lastClock());
  }

  /** Idle connections that are kept now: {@link maxIdle}, or less by {@link autoIdle}. */
  get idleKept(): number {
    return this.autoIdle === undefined ? this.maxIdle : Math.min(this.maxIdle, this.autoIdle.most, this.#enoughIdle);
  }

  /**
   * Asks for a connection: an idle one that the policy allows, else a fresh one, else a place in the queue. Whoever has
   * a connection of its own ({@link bind}) gets that one, and waits for it.
   *
   * @returns what the asker can cancel; `undefined` when it was answered before this returned
   */
  acquire(asker: Asker): Ticket | undefined {
    const own = this.#ownOf(asker);
    if (own !== undefined && !this.#closesUnusable(own, lastClock())) {
      if (!this.#boundIdle.delete(own)) return this.#enqueue(new Ticket(asker, this.#queue));
      asker.acquired(own, idleTime(own), 0);
      return undefined;
    }
    if (this.#isToLookFirst(asker)) {
      const ticket = new Ticket(asker, this.#queue);
      setImmediate(() => this.#lookedFirst(ticket));
      return ticket;
    }
    const reused = asker.fresh ? undefined : this.#takeIdle(asker);
    if (reused !== undefined) {
      this.#began(reused);
      asker.acquired(reused, idleTime(reused), 0);
      return undefined;
    }
    return this.#openOrWait(new Ticket(asker, this.#queue));
  }

  /**
   * Whether closes that have come but were not looked at yet may matter: in the same turn of the event loop a request
   * can be read before the end of the connection that it would be sent on.
   */
  #isToLookFirst(asker: Asker): boolean {
    const newest = this.#idle.at(-1);
    return newest !== undefined && idleTime(newest) >= LOOK_FIRST_AFTER_MS && !asker.fresh && !asker.repeatable;
  }

  #lookedFirst(ticket: Ticket): void {
    if (ticket.settled) return;
    readClock();
    const reused = this.#takeIdle(ticket.asker);
    if (reused === undefined) {
      this.#openOrWait(ticket);
      return;
    }
    this.#began(reused);
    ticket.acquired(reused, idleTime(reused), 0);
  }

  #openOrWait(ticket: Ticket): Ticket | undefined {
    if (!this.#makeRoom(this.queued + 1)) return this.#enqueue(ticket);
    this.#open(ticket, 0);
    return ticket.settled ? undefined : ticket;
  }

  /**
   * From now on the connection serves this downstream connection alone, closes with it, and is what its exchanges wait
   * for: its peer authenticated the connection itself. There is at most one of each kind, so that every leg of a
   * handshake finds the same.
   */
  bind(connection: ProxyConnection, downstream: ProxyConnection): void {
    if (connection.boundTo !== undefined) return;
    const before = this.#boundOf(downstream, connection.reader !== undefined);
    connection.bindTo(downstream);
    if (before !== undefined) connection.drain("max_requests");
  }

  #enqueue(ticket: Ticket): Ticket | undefined {
    if (this.queued >= this.maxQueue) {
      const { host, port } = this.origin;
      ticket.notAcquired(
        new HoldfastError(
          "HF_QUEUE_FULL",
          `all ${this.maxConnections} connections to ${host}:${port} are busy and ${this.maxQueue} exchanges wait already`,
        ),
      );
      return undefined;
    }
    this.#queue.add(ticket);
    return ticket;
  }

  /** An exchange that could use any idle connection begins on this one. */
  #began(connection: ProxyConnection): void {
    connection.isCounted = true;
    this.#demand.begin(lastClock(), connection.idleLimitMs);
  }

  #ended(connection: ProxyConnection, kept: boolean): void {
    if (!connection.isCounted) return;
    connection.isCounted = false;
    this.#demand.end(lastClock(), kept);
  }

  /** A connection carries nothing any more: to who waits longest, else onto the stack. */
  #release(connection: ProxyConnection): void {
    if (connection.state !== "idle") return;
    if (this.#closed) {
      connection.drain("drain");
      return;
    }
    if (connection.boundTo !== undefined) {
      this.#ended(connection, false);
      this.#releaseBound(connection, connection.boundTo);
      return;
    }
    if (connection.peer!.leavesAfter(connection.exchanges, lastClock())) {
      connection.drain("max_requests");
      return;
    }
    this.#ended(connection, true);
    for (const ticket of this.#queue) {
      if (ticket.asker.fresh || !this.#allows(connection, ticket.asker)) continue;
      this.#began(connection);
      ticket.acquired(connection, idleTime(connection), lastClock() - ticket.askedAtMs);
      return;
    }
    connection.idleLateMs = connection.peer!.timesIdle ? likelyDelayMs() : 0;
    this.#idle.push(connection);
    if (this.#idle.length > this.idleKept) this.#idle[0]!.drain("limit");
    this.#serveQueue();
  }

  #releaseBound(connection: ProxyConnection, downstream: ProxyConnection): void {
    if (downstream.state === "closed") {
      connection.drain("max_requests");
      return;
    }
    for (const ticket of this.#queue) {
      if (this.#ownOf(ticket.asker) !== connection) continue;
      ticket.acquired(connection, idleTime(connection), lastClock() - ticket.askedAtMs);
      return;
    }
    this.#boundIdle.add(connection);
    this.#serveQueue();
  }

  /** Looks at limits that pass with time, and at those that were changed meanwhile. */
  sweep(nowMs: number): void {
    for (const connection of [...this.#idle, ...this.#boundIdle]) {
      // Every close that had come by then has been seen since.
      connection.peer!.seenOpen(this.#sweptAtMs - connection.idleSinceMs);
      if (this.#closesUnusable(connection, nowMs)) continue;
      // The only one who may use it has gone.
      if (this.reuse === "never" && this.#owners.get(connection)?.state === "closed") connection.drain("max_requests");
    }
    for (const connection of [...this.#canaries]) this.#watch(connection, nowMs);
    this.#sweptAtMs = nowMs;
    this.#demand.sweep(nowMs);
    if (this.autoIdle !== undefined && nowMs - this.#resizedAtMs >= RESIZE_INTERVAL_MS) this.#resize(nowMs);
    while (this.#idle.length > this.idleKept) this.#idle[0]!.drain("limit");
    for (const ticket of this.#queue) {
      if (nowMs - ticket.askedAtMs < this.queueTimeoutMs) continue;
      const { host, port } = this.origin;
      ticket.notAcquired(
        new HoldfastError(
          "HF_QUEUE_TIMEOUT",
          `no connection to ${host}:${port} became free within ${this.queueTimeoutMs} ms; all ${this.maxConnections} are busy`,
        ),
      );
    }
    this.#serveQueue();
  }

  #resize(nowMs: number): void {
    const { least, most } = this.autoIdle!;
    this.#resizedAtMs = nowMs;
    this.#enoughIdle = Math.max(least, Math.min(most, this.advice?.enough.kept ?? most));
  }

  /** Closes idle connections now and the others as they finish. */
  drain(): void {
    this.#closed = true;
    for (const connection of [...this.#all]) connection.drain("drain");
  }

  #takeIdle(asker: Asker): ProxyConnection | undefined {
    const nowMs = lastClock();
    let doubtful: ProxyConnection | undefined;
    for (let at = this.#idle.length - 1; at >= 0; at--) {
      const connection = this.#idle[at]!;
      if (this.#closesUnusable(connection, nowMs) || !this.#allows(connection, asker)) continue;
      if (!asker.repeatable && this.reuse !== "never" && this.#isDoubtful(connection, nowMs)) {
        doubtful ??= connection;
        continue;
      }
      this.#idle.splice(at, 1);
      return connection;
    }
    // A doubtful one is better than to wait.
    if (doubtful === undefined || this.connections < this.maxConnections) return undefined;
    this.#dropIdle(doubtful);
    return doubtful;
  }

  /**
   * Whether the peer may have closed the connection by the time a request reaches it. After an idle time that no
   * connection was seen to survive, one at a time is tried: were all of them, the first close would meet them all.
   */
  #isDoubtful(connection: ProxyConnection, nowMs: number): boolean {
    const { peer, exchanges, idleSinceMs, idleLateMs } = connection;
    const idleMs = nowMs - idleSinceMs;
    if (peer!.isBeyond(exchanges) || peer!.isDoubtful(idleMs + idleLateMs)) return true;
    if (!peer!.isUntried(idleMs)) return false;
    if (this.#tried?.state === "active") return true;
    this.#tried = connection;
    return false;
  }

  /** Closes an idle connection whose limits have passed, or only watches it from now on; tells whether it did. */
  #closesUnusable(connection: ProxyConnection, nowMs: number): boolean {
    if (connection.state !== "idle") return false;
    const idleMs = nowMs - connection.idleSinceMs;
    if (idleMs >= connection.idleLimitMs) {
      if (this.#mayWatch(connection)) {
        this.#dropIdle(connection);
        this.#canaries.add(connection);
      } else {
        connection.peer!.survived(Math.max(0, idleMs - possibleDelayMs()), nowMs);
        connection.drain("idle_timeout");
      }
      return true;
    }
    const mostAgeMs = Math.min(connection.keepAlive.maxAgeMs, connection.peer!.leaveAfterAgeMs);
    const isOld = nowMs - connection.openedAtMs >= mostAgeMs;
    const reason = isOld ? "max_age" : connection.reasonToClose();
    if (reason !== undefined) connection.drain(reason);
    return reason !== undefined;
  }

  #mayWatch(connection: ProxyConnection): boolean {
    if (this.#canaries.size >= this.canaries || connection.boundTo !== undefined || this.#closed) return false;
    return connection.idleLimitSource === "learned";
  }

  /** A connection that its peer did not close when it was to has told enough, as has one that we do not keep longer. */
  #watch(connection: ProxyConnection, nowMs: number): void {
    const { keepAlive, peer } = connection;
    const idleMs = nowMs - connection.idleSinceMs;
    const enoughMs = Math.min(keepAlive.idleTimeoutMs, keepAlive.agreedTimeoutMs, peer!.limit?.outlivedMs ?? 0);
    const isEnough = idleMs - possibleDelayMs() > enoughMs;
    if (isEnough) peer!.survived(idleMs - possibleDelayMs(), nowMs);
    if (isEnough) connection.drain("idle_timeout");
    else if (connection.reasonToClose() !== undefined) connection.drain(connection.reasonToClose()!);
  }

  /** The connection that the asker must use, because it may be authenticated there. */
  #ownOf(asker: Asker): ProxyConnection | undefined {
    if (asker.owner.bound === undefined || asker.tunnel) return undefined;
    return this.#boundOf(asker.owner, asker.makeReader !== undefined);
  }

  #boundOf(downstream: ProxyConnection, hasReader: boolean): ProxyConnection | undefined {
    for (const connection of downstream.bound ?? []) {
      if ((connection.reader !== undefined) !== hasReader || !this.#all.has(connection)) continue;
      if (connection.state === "active" || connection.state === "idle") return connection;
    }
    return undefined;
  }

  /** HAProxy's `http-reuse`: see {@link ReusePolicy}. */
  #allows(connection: ProxyConnection, asker: Asker): boolean {
    if ((connection.reader === undefined) !== (asker.makeReader === undefined)) return false;
    switch (this.reuse) {
      case "never":
        return this.#owners.get(connection) === asker.owner;
      case "safe":
        return !asker.first || connection.exchanges === 0;
      case "aggressive":
        return !asker.first || connection.exchanges !== 1;
      case "always":
        return true;
    }
  }

  /**
   * Whether another connection may be opened; if not, gives up the oldest idle one, which nobody here could use.
   *
   * @param wanted - how many wait for a place: no more than that need be given up
   */
  #makeRoom(wanted: number): boolean {
    if (this.connections < this.maxConnections) return true;
    // Whoever loses an authenticated one can authenticate anew; whoever waits for ever cannot do anything.
    const [canary] = this.#canaries;
    const [idle = this.#boundIdle.values().next().value] = this.#idle;
    const oldest = canary ?? idle;
    if (oldest !== undefined && this.#leaving.size < wanted) {
      this.#leaving.add(oldest);
      oldest.drain("limit");
    }
    return false;
  }

  /** @param queuedMs - how long the ticket waited for its place; opening is not waiting */
  #open(ticket: Ticket, queuedMs: number): void {
    const { origin, backend, direction, idleTimeoutMs, lookup, ownPorts } = this.#options;
    this.#opening++;
    const reader = ticket.asker.makeReader?.();
    // What is tunnelled brings its own TLS.
    const security = ticket.asker.tunnel ? undefined : this.#options.tls;
    const isConfigured = this.#options.isConfigured?.() ?? true;
    const timeoutMs = this.#connectTimeoutMs;
    connect({ origin, security, timeoutMs, reader, lookup, ownPorts, isConfigured }, (failure, opened) => {
      this.#opening--;
      readClock();
      const { socket, setup } = (failure ?? opened)!;
      const connection = new ProxyConnection({
        direction,
        side: "upstream",
        socket,
        protocol: "http/1.1",
        setup,
        origin,
        backend,
        reader,
        idleTimeoutMs,
      });
      if (failure !== undefined) {
        connection.error = failure.error;
        connection.cut("connect_failed", failure.error);
        connection.open(this.#chain);
        ticket.notAcquired(failure.error);
        this.#serveQueue();
        return;
      }
      this.#all.add(connection);
      const { dnsMs = 0, connectMs = 0, tlsMs = 0 } = setup;
      this.#demand.opened(dnsMs + connectMs + tlsMs);
      connection.peer = this.#options.learned.opened(connection.remoteAddress, setup.connectMs, lastClock());
      connection.onPeerClosed = closedIdle;
      connection.onIdle = () => this.#release(connection);
      connection.onDraining = () => this.#dropIdle(connection);
      connection.onClosed = () => this.#forget(connection);
      this.#options.onOpen(connection);
      connection.open(this.#chain);
      this.#owners.set(connection, ticket.asker.owner);
      if (connection.pluginFailure !== undefined) {
        connection.cut("aborted");
        ticket.notAcquired(connection.pluginFailure);
      } else if (ticket.settled) {
        // Whoever asked has gone; a plain connection may serve the next.
        if (ticket.asker.tunnel) connection.drain("aborted");
        else this.#release(connection);
      } else {
        if (!ticket.asker.fresh && !ticket.asker.tunnel) this.#began(connection);
        ticket.acquired(connection, 0, queuedMs);
      }
    });
  }

  #dropIdle(connection: ProxyConnection): void {
    const at = this.#idle.lastIndexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
    this.#canaries.delete(connection);
    // Whoever waits for it gets another.
    if (!this.#boundIdle.delete(connection) && connection.boundTo !== undefined) this.#serveQueue();
  }

  #forget(connection: ProxyConnection): void {
    this.#all.delete(connection);
    this.#leaving.delete(connection);
    this.#ended(connection, false);
    this.#dropIdle(connection);
    this.#serveQueue();
  }

  /** Room may have come: opens a connection for whoever waits longest. */
  #serveQueue(): void {
    for (const ticket of this.#queue) {
      if (this.#ownOf(ticket.asker) !== undefined) continue;
      if (!this.#makeRoom(this.queued)) return;
      this.#queue.delete(ticket);
      this.#open(ticket, lastClock() - ticket.askedAtMs);
    }
  }
}

function idleTime(connection: ProxyConnection): number {
  return connection.exchanges === 0 ? 0 : lastClock() - connection.idleSinceMs;
}
