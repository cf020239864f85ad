/**
 * One direction, wired: listener → connection → forwarder → exchange → router → pools.
 *
 * @module
 */
import type { LookupFunction, Socket } from "node:net";
import { isDeepStrictEqual } from "node:util";
import type { HostPort } from "../config/sidecar-config.ts";
import { HoldfastError } from "../errors.ts";
import { Callers } from "../learning/callers.ts";
import type { Learning } from "../learning/learning.ts";
import type { Direction, Logger } from "../plugin/api.ts";
import type { Chain } from "../plugin/chain.ts";
import { sharedSocket } from "./accepted-socket.ts";
import { possibleDelayMs, readClock } from "./clock.ts";
import type { OwnPorts } from "./connect.ts";
import { ProxyConnection } from "./connection.ts";
import type { ExchangeSurroundings } from "./exchange.ts";
import type { Forwarder, ForwarderFactory } from "./forwarder.ts";
import type { Generation } from "./generation.ts";
import { type Listener, listen } from "./listener.ts";
import type { OpenConnections } from "./open-connections.ts";
import { Pools } from "./pools.ts";
import { RunningExchanges } from "./running-exchanges.ts";
import type { Sweep } from "./sweep.ts";
import { type HandshakeResult, TlsTermination } from "./tls/termination.ts";

/** Default idle limit of a downstream connection: above the 60 s that load balancers keep theirs. */
export const DOWNSTREAM_IDLE_TIMEOUT_MS = 65_000;
/** Default idle limit of an upstream connection: below the 60 s that many servers keep theirs. */
export const UPSTREAM_IDLE_TIMEOUT_MS = 55_000;

/** What a direction is made of. */
export interface DirectionOptions {
  readonly name: Direction;
  readonly service: string;
  /** What the configuration says; {@link ProxyDirection.adopt} puts another in its place. */
  readonly generation: Generation;
  readonly forwarder: ForwarderFactory;
  /** How names of upstreams are looked up; `undefined`: as the system does it. */
  readonly lookup: LookupFunction | undefined;
  /** Ports of this sidecar that must not be reached through it. */
  readonly ownPorts: OwnPorts;
  /** What is known of every origin. */
  readonly learning: Learning;
  readonly sweep: Sweep;
  readonly log: Logger;
  /** Every open connection of the direction, both sides; the filters see it too. */
  readonly connections: OpenConnections;
}

/** Another configuration, made ready: to {@link ProxyDirection.adopt} it cannot fail any more. */
export interface Prepared {
  readonly generation: Generation;
  /** Bound already, if the address is another. */
  readonly listener: Listener | undefined;
  /** With its files read, if anything about it is different. */
  readonly termination: TlsTermination | undefined;
}

/** One direction at work. */
export class ProxyDirection {
  readonly name: Direction;
  readonly pools: Pools;
  readonly connections: OpenConnections;
  readonly #options: DirectionOptions;
  readonly #forwarder: Forwarder;
  /** What was learned of those who call. */
  readonly callers = new Callers();
  readonly #exchanges = new RunningExchanges();
  readonly #around: { -readonly [K in keyof ExchangeSurroundings]: ExchangeSurroundings[K] };
  /** Chains of configurations before, in which something still runs. */
  readonly #olderChains = new Set<Chain>();
  #listener: Listener | undefined;
  #termination: TlsTermination | undefined;
  /** `performance.now()` since when responses say `Connection: close`. */
  #drainSinceMs: number | undefined;
  /** How long a downstream connection must have been idle to be closed, once no new ones are taken. */
  #idleGraceMs = Number.POSITIVE_INFINITY;
  #drained: (() => void) | undefined;

  constructor(options: DirectionOptions) {
    const { name, generation, connections } = options;
    this.name = name;
    this.connections = connections;
    this.#options = options;
    this.pools = new Pools({
      direction: name,
      generation,
      idleTimeoutMs: UPSTREAM_IDLE_TIMEOUT_MS,
      lookup: options.lookup,
      ownPorts: options.ownPorts,
      learning: options.learning,
      onOpen: (connection) => this.#track(connection),
    });
    const direction = this;
    this.#around = {
      name,
      service: options.service,
      generation,
      pools: this.pools,
      exchanges: this.#exchanges,
      onRefused: (connection, failure) => this.#refused(connection, failure),
      get draining() {
        return direction.#drainSinceMs !== undefined;
      },
    };
    this.#forwarder = options.forwarder(this.#around);
  }

  /** Where it listens; known after {@link start}. */
  get address(): HostPort {
    return this.#listener!.address;
  }

  /** Exchanges and tunnels that run now. */
  get activeExchanges(): number {
    return this.#exchanges.size;
  }

  /** @throws HoldfastError `HF_CONFIG` when the address cannot be bound or the files of its TLS cannot be used */
  async start(): Promise<void> {
    const { generation } = this.#around;
    this.#termination = this.#terminationOf(generation);
    this.#listener = await this.#listen(generation);
    this.#options.sweep.add(this.#sweep);
  }

  /** What new exchanges and connections find. */
  get generation(): Generation {
    return this.#around.generation;
  }

  /**
   * Makes another configuration ready: reads certificates, binds a new address. Nothing changes yet.
   *
   * @throws HoldfastError `HF_CONFIG` when the address cannot be bound or the files of its TLS cannot be used
   */
  async prepare(generation: Generation): Promise<Prepared> {
    const before = this.#around.generation;
    const termination = isSameTls(generation, before) ? undefined : this.#terminationOf(generation);
    try {
      const isSameAddress = isDeepStrictEqual(generation.listen, before.listen);
      return { generation, termination, listener: isSameAddress ? undefined : await this.#listen(generation) };
    } catch (error) {
      termination?.close();
      throw error;
    }
  }

  /** Gives back what was made ready and is not wanted. */
  async discard({ generation, listener, termination }: Prepared): Promise<void> {
    listener?.close();
    termination?.close();
    const { chain } = this.#around.generation;
    if (generation.chain !== chain) await generation.chain.close(chain);
  }

  /**
   * From now on exchanges, and connections that open, find this configuration. Exchanges that run keep theirs to their
   * end. Connections that are open stay, and are shown to the new filters at once.
   */
  adopt({ generation, listener, termination }: Prepared): void {
    const before = this.#around.generation;
    this.#around.generation = generation;
    if (isSameTls(generation, before)) {
      this.#termination?.renew();
    } else {
      this.#termination?.close();
      this.#termination = termination;
    }
    if (listener !== undefined) {
      void this.#listener?.closeWhenQuiet();
      this.#listener = listener;
    }
    this.pools.renew(generation);
    if (before.chain === generation.chain) return;
    this.#olderChains.add(before.chain);
    for (const connection of [...this.connections]) connection.join(generation.chain);
    this.#leaveOlderChains();
  }

  #terminationOf({ listenerTls: settings, http2 }: Generation): TlsTermination | undefined {
    const { name, log } = this.#options;
    return settings === undefined ? undefined : new TlsTermination({ settings, key: `${name}.tls`, http2, log });
  }

  #listen({ listen: address }: Generation): Promise<Listener> {
    return listen(address, `${this.name}.listen`, (socket) => this.#accept(socket));
  }

  /** Closes the filters of configurations before, once nothing runs in them any more. */
  #leaveOlderChains(): void {
    if (this.#olderChains.size === 0) return;
    const { chain } = this.#around.generation;
    const inUse = new Set<Chain>();
    for (const exchange of this.#exchanges) inUse.add(exchange.generation.chain);
    for (const connection of [...this.connections]) {
      // An exchange of an older configuration may have taken it, and left it there.
      if (connection.activeExchanges === 0) connection.join(chain);
      connection.leaveOlderChains(inUse);
      if (connection.chain !== undefined) inUse.add(connection.chain);
    }
    for (const older of this.#olderChains) {
      if (inUse.has(older)) continue;
      this.#olderChains.delete(older);
      void older.close(chain);
    }
    // Exchanges of older configurations may have made pools that nobody else wants.
    if (this.#olderChains.size === 0) this.pools.renew(this.#around.generation);
  }

  /** From now on responses say `Connection: close`; new connections are still taken. */
  announceDrain(): void {
    this.#drainSinceMs ??= performance.now();
  }

  /**
   * Takes no new connections, closes idle ones, and waits for those that carry something. A connection whose last
   * response promised to keep it has the grace for one more request, counted from that response or the announcement.
   *
   * @param idleGraceMs - in milliseconds
   * @returns when no downstream connection is left
   */
  async drain(idleGraceMs: number): Promise<void> {
    this.announceDrain();
    await this.#listener?.closeWhenQuiet();
    this.#idleGraceMs = idleGraceMs;
    // Only now: a peer that connects anew at once must find somebody else.
    for (const exchange of this.#exchanges) exchange.steps.goAway?.();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#drained = resolve;
    this.#sweepDownstream(performance.now());
    this.#checkDrained();
    await promise;
    this.pools.drain();
  }

  /**
   * Ends everything at once.
   *
   * @returns how many exchanges were cut
   */
  cut(): number {
    this.#listener?.close();
    const cut = this.#exchanges.size;
    const why = new HoldfastError("HF_DRAINING", "cut: the drain's deadline came, or it was told to stop at once");
    for (const exchange of this.#exchanges) exchange.cutBecause = why;
    for (const connection of [...this.connections]) connection.cut("drain");
    return cut;
  }

  /** Closes upstream connections and filters; the last step. */
  async close(): Promise<void> {
    this.#options.sweep.remove(this.#sweep);
    this.#termination?.close();
    this.pools.drain();
    for (const connection of [...this.connections]) connection.cut("drain");
    // Filters close after every connection's `close` hook has run, and those run as sockets close.
    while (this.connections.size > 0) await new Promise((resolve) => setImmediate(resolve));
    const { chain } = this.#around.generation;
    for (const older of this.#olderChains) await older.close(chain);
    await chain.close();
  }

  #accept(accepted: Socket): void {
    const termination = this.#termination;
    // What is read of a socket under TLS is not what was sent on it.
    const shared = this.#forwarder.name === "wire" && termination === undefined ? sharedSocket(accepted) : undefined;
    const socket = shared?.socket ?? accepted;
    const connection = new ProxyConnection({
      direction: this.name,
      side: "downstream",
      socket,
      reads: shared?.reads,
      secure: termination !== undefined,
      protocol: "http/1.1",
      setup: {
        startedAtEpochMs: performance.timeOrigin + performance.now(),
        dnsMs: undefined,
        connectMs: undefined,
        tlsMs: undefined,
        tlsVersion: undefined,
        tlsResumed: undefined,
      },
      idleTimeoutMs: DOWNSTREAM_IDLE_TIMEOUT_MS,
    });
    this.connections.add(connection);
    connection.onClosed = this.#forget;
    connection.open(this.#around.generation.chain);
    if (connection.state !== "idle") return;
    if (termination === undefined) {
      this.#forwarder.accept(connection);
      return;
    }
    // Filters have seen it already, so that limits on connections hold for those that never finish a handshake.
    connection.beginHandshake();
    termination.begin(socket, (result) => this.#handshakeOver(connection, result));
  }

  #handshakeOver(connection: ProxyConnection, { socket, failure }: HandshakeResult): void {
    if (failure === undefined && connection.state === "idle") {
      const tlsMs = performance.now() - connection.openedAtMs;
      const tlsVersion = socket.getProtocol() ?? undefined;
      connection.secured(socket, { ...connection.setup, tlsMs, tlsVersion, tlsResumed: socket.isSessionReused() });
      if (socket.alpnProtocol === "h2") connection.protocol = "h2";
      this.#forwarder.accept(connection);
      return;
    }
    const { closeReason } = connection;
    if (closeReason !== undefined && closeReason !== "request_timeout") {
      // We did not want it to go on, so nothing failed.
      connection.handshakeFailed(new HoldfastError("HF_DRAINING", "closed before the TLS handshake was over"));
      return;
    }
    const { headMs } = connection.requestTimeouts;
    const error =
      closeReason === undefined && failure !== undefined
        ? failure
        : new HoldfastError("HF_REQUEST_TIMEOUT", `the TLS handshake was not over within ${headMs} ms`);
    connection.handshakeFailed(error);
    // Load balancers ask whether the port is open, over and over, and say nothing.
    if (connection.bytesRead > 0) this.#refused(connection, error);
  }

  /** An upstream connection is open. */
  #track(connection: ProxyConnection): void {
    this.connections.add(connection);
    const { onClosed } = connection;
    connection.onClosed = (closed) => {
      this.connections.delete(closed);
      onClosed?.(closed);
    };
  }

  /** A downstream connection is closed. One function for all: a connection that is idle should be small. */
  readonly #forget = (connection: ProxyConnection): void => {
    this.connections.delete(connection);
    this.#learnFrom(connection);
    this.#checkDrained();
  };

  /** Who ended a downstream connection that had carried something and was idle, and when. */
  #learnFrom(connection: ProxyConnection): void {
    const { closeReason, exchanges, activeExchanges, idleSinceMs, remoteAddress, idleLimitMs } = connection;
    if (exchanges === 0 || activeExchanges > 0 || this.#drainSinceMs !== undefined) return;
    const atMs = readClock();
    const idleMs = atMs - idleSinceMs;
    if (closeReason === "peer_closed" || closeReason === "peer_reset") {
      this.callers.closed({ openMs: Math.max(0, idleMs - possibleDelayMs()), closedMs: idleMs, atMs });
    } else if (closeReason === "idle_timeout" && this.callers.left(Math.min(idleMs, idleLimitMs), atMs)) {
      const { count, of } = this.callers.closedByUs;
      this.#options.log.warn(
        { idleTimeoutMs: idleLimitMs, peer: remoteAddress },
        `callers keep idle connections longer than we do: ${count} of the last ${of} were closed by our limit of ${Math.round(idleLimitMs) / 1000} s, the last from ${remoteAddress}; a request can meet that close, so set downstream of idle-timeout above the idle timeout of the load balancer or callers in front`,
      );
    }
  }

  #checkDrained(): void {
    // A tunnel is over only once its upstream side is closed too; the sweep looks again.
    if (this.connections.count("downstream") === 0 && this.#exchanges.size === 0) this.#drained?.();
  }

  #refused(connection: ProxyConnection, failure: HoldfastError): void {
    this.#options.log.warn(
      { connection: connection.id, peer: connection.remoteAddress, code: failure.code, status: failure.status },
      `refused: ${failure.message}`,
    );
  }

  readonly #sweep = (nowMs: number): void => {
    for (const exchange of this.#exchanges) {
      exchange.sweep(nowMs);
      if (this.#drained !== undefined) exchange.steps.goAway?.();
    }
    this.#sweepDownstream(nowMs);
    this.pools.sweep(nowMs);
    this.#leaveOlderChains();
    this.#checkDrained();
  };

  #sweepDownstream(nowMs: number): void {
    for (const connection of this.connections) {
      if (connection.side === "downstream" && connection.state === "idle") this.#sweepIdle(connection, nowMs);
    }
  }

  /** An idle downstream connection: nothing came, or a head that is not complete yet. */
  #sweepIdle(connection: ProxyConnection, nowMs: number): void {
    if (connection.noteBytesRead && connection.bytesRead > connection.bytesReadWhenIdle)
      connection.headSinceMs ??= nowMs;
    if (connection.headSinceMs !== undefined) {
      if (nowMs - connection.headSinceMs >= connection.requestTimeouts.headMs)
        this.#forwarder.refuseSlowHead(connection);
      return;
    }
    const idleMs = nowMs - connection.idleSinceMs;
    if (connection.exchanges === 0 && idleMs >= connection.requestTimeouts.headMs) connection.drain("request_timeout");
    else if (idleMs >= connection.idleLimitMs) connection.drain("idle_timeout");
    else if (nowMs - Math.max(connection.idleSinceMs, this.#drainSinceMs ?? 0) >= this.#idleGraceMs)
      connection.drain("drain");
  }
}

function isSameTls(one: Generation, other: Generation): boolean {
  return one.http2 === other.http2 && isDeepStrictEqual(one.listenerTls, other.listenerTls);
}
