/**
 * Connections and exchanges in memory, and the order in which core calls the hooks of a filter.
 *
 * @module
 */

import { HoldfastError } from "../../src/errors.ts";
import type {
  CloseReason,
  Connection,
  ConnectionHooks,
  ConnectionSetup,
  ConnectionState,
  Exchange,
  Failure,
  Filter,
  KeepAliveHint,
  Outcome,
  Route,
  TraceContext,
} from "../../src/plugin/api.ts";
import { FieldList } from "../../src/proxy/headers.ts";
import { type BoundHooks, bindHooks } from "../support/bound-hooks.ts";

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** 2026-01-01, with a fraction. */
export const EPOCH_MS = 1_767_225_600_000.25;

const SETUP: ConnectionSetup = {
  startedAtEpochMs: EPOCH_MS - 10,
  dnsMs: undefined,
  connectMs: undefined,
  tlsMs: undefined,
  tlsVersion: undefined,
  tlsResumed: undefined,
};

let lastId = 0;

/** A connection; every fact may be set. */
export function connectionFacts(facts: Partial<Writable<Connection>> = {}): Writable<Connection> {
  const side = facts.side ?? "upstream";
  return {
    id: ++lastId,
    direction: "outbound",
    side,
    state: "idle" satisfies ConnectionState,
    protocol: "http/1.1",
    secure: false,
    localAddress: "10.0.0.1",
    localPort: side === "downstream" ? 15_001 : 50_000,
    remoteAddress: side === "downstream" ? "10.0.0.9" : "10.0.0.2",
    remotePort: side === "downstream" ? 40_000 : 8081,
    origin: side === "downstream" ? undefined : { scheme: "http", host: "inventory.internal", port: 8081 },
    backend: undefined,
    setup: SETUP,
    ageMs: 0,
    idleMs: 0,
    exchanges: 1,
    activeExchanges: 1,
    bytesRead: 0,
    bytesWritten: 0,
    hint: undefined as KeepAliveHint | undefined,
    learned: undefined,
    idleLimitMs: 55_000,
    idleLimitSource: "configured",
    keepAlive: {
      enabled: true,
      idleTimeoutMs: 55_000,
      agreedTimeoutMs: Number.POSITIVE_INFINITY,
      heedLearned: true,
      maxRequests: Number.POSITIVE_INFINITY,
      maxAgeMs: Number.POSITIVE_INFINITY,
      advertise: false,
    },
    tcpKeepAlive: undefined,
    requestTimeouts: { headMs: 60_000, requestMs: Number.POSITIVE_INFINITY },
    boundTo: undefined,
    closeReason: undefined as CloseReason | undefined,
    error: undefined,
    drain() {},
    ...facts,
  };
}

/** Facts of a request that a test cares about. */
export interface RequestFacts {
  readonly method?: string;
  readonly target?: string;
  readonly authority?: string;
  readonly headers?: readonly string[];
}

/** An exchange that has only just begun. */
export function exchangeFacts(
  request: RequestFacts = {},
  facts: Partial<Writable<Exchange>> = {},
): Writable<Exchange> & { trace: TraceContext | undefined } {
  const route: Route = {
    name: "inventory",
    origin: { scheme: "http", host: "inventory.internal", port: 8081 },
    backend: undefined,
  };
  const downstream = facts.downstream ?? connectionFacts({ side: "downstream" });
  return {
    id: ++lastId,
    direction: "outbound",
    kind: "http",
    downstream,
    clientAddress: downstream.remoteAddress,
    downstreamIndex: 1,
    downstreamIdleMs: 0,
    request: {
      method: request.method ?? "GET",
      target: request.target ?? "/items",
      scheme: "http",
      authority: request.authority ?? "inventory.internal",
      version: "1.1",
      headers: new FieldList([...(request.headers ?? [])]),
    },
    route,
    upstream: undefined,
    upstreamIndex: 0,
    upstreamIdleMs: 0,
    queuedMs: 0,
    attempts: 0,
    startedAtEpochMs: EPOCH_MS,
    attemptStartedAtEpochMs: EPOCH_MS,
    elapsedMs: 0,
    status: undefined,
    trace: undefined,
    ...facts,
  };
}

/** An outcome; by default a 200 from the upstream after 3 ms. */
export function outcomeFacts(facts: Partial<Outcome> = {}): Outcome {
  return {
    status: 200,
    answeredBy: "upstream",
    error: undefined,
    durationMs: 3,
    requestBytes: 0,
    responseBytes: 100,
    stale: undefined,
    ...facts,
  };
}

/** Plays the part of core for one filter. */
export class Driver {
  readonly #filter: Filter;

  constructor(filter: Filter) {
    this.#filter = filter;
  }

  open(connection: Connection): ConnectionHooks {
    return this.#filter.connection?.(connection) ?? {};
  }

  begin(exchange: Exchange): BoundHooks | undefined {
    const hooks = this.#filter.exchange?.(exchange);
    return hooks ? bindHooks(hooks, exchange) : undefined;
  }

  /** A connection was taken for the next attempt. */
  connect(exchange: Writable<Exchange>, hooks: BoundHooks | undefined, connection: Connection): void {
    exchange.attempts++;
    exchange.upstream = connection;
    exchange.upstreamIndex = connection.exchanges;
    hooks?.upstreamConnected?.(connection);
  }

  /** One exchange from its head to its end over one connection. */
  run(exchange: Writable<Exchange>, connection: Connection, outcome: Outcome = outcomeFacts()): BoundHooks | undefined {
    const hooks = this.begin(exchange);
    hooks?.request?.(exchange.request);
    this.connect(exchange, hooks, connection);
    exchange.elapsedMs = outcome.durationMs;
    hooks?.end?.(outcome);
    return hooks;
  }
}

/** The connection was closed by its peer while we reused it. */
export function staleFailure(): Failure {
  return new HoldfastError("HF_UPSTREAM_CLOSED", "inventory.internal:8081 closed a reused connection");
}
