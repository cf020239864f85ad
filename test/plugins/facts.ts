/**
 * Plugins started with in-memory facts: connections, exchanges, heads and pools that a test states and reads directly.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { SchemaTree } from "../../src/config/leaf.ts";
import { Reading, readObject } from "../../src/config/read.ts";
import type {
  Backend,
  CloseReason,
  Connection,
  ConnectionHooks,
  Direction,
  Exchange,
  Filter,
  HeaderField,
  Plugin,
  Pool,
  RequestHead,
  ResponseHead,
  Side,
} from "../../src/plugin/api.ts";
import { FieldList } from "../../src/proxy/headers.ts";
import { type BoundHooks, bindHooks } from "../support/bound-hooks.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A connection whose facts a test may change. */
export type ConnectionFacts = Mutable<Connection>;

/** An exchange whose facts a test may change. */
export type ExchangeFacts = Mutable<Exchange>;

let lastId = 0;

/** A connection that has just opened. `drain` keeps the first reason, as core does. */
export function connectionFacts(facts: Partial<Connection> = {}): ConnectionFacts {
  const connection: ConnectionFacts = {
    id: ++lastId,
    direction: "inbound",
    side: "downstream",
    state: "idle",
    protocol: "http/1.1",
    secure: false,
    localAddress: "192.0.2.1",
    localPort: 15006,
    remoteAddress: "198.51.100.7",
    remotePort: 40000,
    origin: undefined,
    backend: undefined,
    setup: {
      startedAtEpochMs: 0,
      dnsMs: undefined,
      connectMs: undefined,
      tlsMs: undefined,
      tlsVersion: undefined,
      tlsResumed: undefined,
    },
    ageMs: 0,
    idleMs: 0,
    exchanges: 0,
    activeExchanges: 0,
    bytesRead: 0,
    bytesWritten: 0,
    hint: undefined,
    learned: undefined,
    idleLimitMs: 65_000,
    idleLimitSource: "configured",
    keepAlive: {
      enabled: true,
      idleTimeoutMs: 65_000,
      agreedTimeoutMs: Number.POSITIVE_INFINITY,
      heedLearned: true,
      maxRequests: Number.POSITIVE_INFINITY,
      maxAgeMs: Number.POSITIVE_INFINITY,
      advertise: false,
    },
    tcpKeepAlive: undefined,
    requestTimeouts: { headMs: 60_000, requestMs: Number.POSITIVE_INFINITY },
    boundTo: undefined,
    closeReason: undefined,
    error: undefined,
    drain(reason: CloseReason) {
      connection.closeReason ??= reason;
      connection.state = "draining";
    },
    ...facts,
  };
  return connection;
}

/** A connection to `http://orders.internal:8080`. */
export function upstreamFacts(facts: Partial<Connection> = {}): ConnectionFacts {
  return connectionFacts({
    side: "upstream",
    origin: { scheme: "http", host: "orders.internal", port: 8080 },
    ...facts,
  });
}

/** A backend whose settings a test may change while connections are open, as the admin API does. */
export function backendFacts(facts: Partial<Backend> = {}): Mutable<Backend> {
  return { name: "orders", idleTimeoutMs: undefined, tcpKeepAlive: {}, ...facts };
}

/** An exchange on the given connections; counts on neither. */
export function exchangeFacts(facts: Partial<Exchange> = {}): ExchangeFacts {
  const downstream = facts.downstream ?? connectionFacts();
  return {
    id: ++lastId,
    direction: downstream.direction,
    kind: "http",
    downstream,
    clientAddress: downstream.remoteAddress,
    downstreamIndex: downstream.exchanges,
    downstreamIdleMs: 0,
    request: requestHead(),
    route: undefined,
    upstream: undefined,
    upstreamIndex: 0,
    upstreamIdleMs: 0,
    queuedMs: 0,
    attempts: 0,
    startedAtEpochMs: 0,
    attemptStartedAtEpochMs: 0,
    elapsedMs: 0,
    status: undefined,
    trace: undefined,
    ...facts,
  };
}

/** A request head, by default `GET /`. */
export function requestHead(method = "GET", target = "/"): RequestHead {
  return { method, target, scheme: "http", authority: "orders.internal", version: "1.1", headers: new FieldList() };
}

/** A response head with these field lines. */
export function responseHead(status = 200, fields: readonly HeaderField[] = []): ResponseHead {
  return { status, reason: "", version: "1.1", headers: new FieldList(fields.flat()) };
}

/** A pool with core's defaults. */
export function poolFacts(): Mutable<Pool> {
  return {
    origin: { scheme: "http", host: "orders.internal", port: 8080 },
    backend: undefined,
    reuse: "always",
    maxConnections: Number.POSITIVE_INFINITY,
    maxIdle: Number.POSITIVE_INFINITY,
    maxQueue: 1024,
    queueTimeoutMs: 5000,
    canaries: 0,
    autoIdle: undefined,
    connections: 0,
    idle: 0,
    queued: 0,
  };
}

/** One line that a plugin logged. */
export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

/** What the configuration reader says about an entry's `config`; empty when it is valid. */
export function configFaults<C>(plugin: Plugin<C>, json: object): string[] {
  const reading = new Reading({});
  readObject(plugin.config as SchemaTree, json, [], reading);
  return reading.faults.map(({ path, wrong, allowed }) => `${path.join(".")}: ${wrong}; ${allowed}`);
}

/** A plugin's live instance in one direction, with the connections that are open around it. */
export class Started {
  readonly filter: Filter;
  readonly log: readonly LogLine[];
  readonly #connections: Set<Connection>;
  readonly #hooks = new Map<Connection, ConnectionHooks>();

  constructor(filter: Filter, log: readonly LogLine[], connections: Set<Connection>) {
    this.filter = filter;
    this.log = log;
    this.#connections = connections;
  }

  /** Messages of the warnings so far. */
  get warnings(): string[] {
    return this.log.filter((line) => line.level === "warn").map((line) => line.message);
  }

  /** Shows a connection as it opens. */
  open(connection: ConnectionFacts): ConnectionFacts {
    this.#connections.add(connection);
    const hooks = this.filter.connection?.(connection);
    if (hooks !== undefined) this.#hooks.set(connection, hooks);
    return connection;
  }

  /** An exchange begins on connections that are open. */
  begin(exchange: ExchangeFacts): BoundHooks {
    this.#begin(exchange.downstream, exchange);
    return bindHooks(this.filter.exchange?.(exchange) ?? {}, exchange);
  }

  /** An upstream connection is taken for the exchange. */
  takeUpstream(exchange: ExchangeFacts, connection: ConnectionFacts): void {
    exchange.upstream = connection;
    this.#begin(connection, exchange);
  }

  /** The connection carries nothing any more and is kept. */
  idle(connection: ConnectionFacts): void {
    connection.activeExchanges = 0;
    connection.state = "idle";
    this.#hooks.get(connection)?.idle?.();
  }

  backendChanged(connection: Connection): void {
    this.#hooks.get(connection)?.backendChanged?.();
  }

  close(connection: ConnectionFacts, reason: CloseReason = "peer_closed"): void {
    connection.closeReason ??= reason;
    connection.state = "closed";
    this.#hooks.get(connection)?.close?.(connection.closeReason);
    this.#hooks.delete(connection);
    this.#connections.delete(connection);
  }

  #begin(connection: ConnectionFacts, exchange: Exchange): void {
    connection.exchanges++;
    connection.activeExchanges++;
    if (connection.state === "idle") connection.state = "active";
    this.#hooks.get(connection)?.active?.(exchange);
  }
}

/** Starts a plugin with the `config` of its entry as JSON has it, read as the loader reads it. */
export async function start<C>(
  plugin: Plugin<C>,
  json: object = {},
  direction: Direction = "inbound",
): Promise<Started> {
  assert.deepEqual(configFaults(plugin, json), [], "the test's configuration is valid");
  const config = readObject(plugin.config as SchemaTree, json, [], new Reading({})) as C;
  const log: LogLine[] = [];
  const connections = new Set<Connection>();
  const logger =
    (level: LogLine["level"]) =>
    (fields: object, message: string): void => {
      log.push({ level, fields: { ...fields }, message });
    };
  const filter = await plugin.setup({
    config,
    direction,
    service: "orders",
    log: { debug: logger("debug"), info: logger("info"), warn: logger("warn"), error: logger("error") },
    connections,
    countConnections(side: Side) {
      let count = 0;
      for (const connection of connections) if (connection.side === side) count++;
      return count;
    },
  });
  return new Started(filter, log, connections);
}
