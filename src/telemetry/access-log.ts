/**
 * One log line per exchange, as a filter on the public plugin API.
 *
 * @module
 */
import type { Connection, Exchange, ExchangeHooks, Filter, Logger, Outcome } from "../plugin/api.ts";
import { queryNames, splitTarget } from "./http-semantics.ts";

/** A pino logger, or what looks like one. */
export interface AccessLogger extends Pick<Logger, "info" | "warn"> {
  /** Whether lines of this level are written now. */
  isLevelEnabled(level: string): boolean;
}

/** Connection of one side in an access line. */
interface ConnectionFields {
  readonly id: number;
  /** Place of the exchange on its connection, from 1. */
  readonly request: number;
  readonly idleMs: number;
  readonly closeReason?: string;
}

/**
 * Writes one line as each exchange ends: `info`, or `warn` when Holdfast could not get an answer. Never holds query
 * values, header values or bodies. Costs nothing while the level is off.
 *
 * @param log - its lines carry the direction already
 */
export function accessLogFilter(log: AccessLogger): Filter {
  return {
    exchange(exchange) {
      if (!log.isLevelEnabled("warn")) return undefined;
      return new AccessLine(log, exchange);
    },
  };
}

class AccessLine implements ExchangeHooks {
  readonly #log: AccessLogger;
  readonly #exchange: Exchange;
  /** As the request came: plugins may rewrite what these are made of. */
  readonly #target: string;
  readonly #authority: string;
  readonly #client: string;

  constructor(log: AccessLogger, exchange: Exchange) {
    this.#log = log;
    this.#exchange = exchange;
    this.#target = exchange.request.target;
    this.#authority = exchange.request.authority;
    this.#client = exchange.clientAddress;
  }

  end(outcome: Outcome): void {
    const level = isOurFailure(outcome) ? "warn" : "info";
    if (!this.#log.isLevelEnabled(level)) return;
    const { method } = this.#exchange.request;
    const path = shownPath(this.#target);
    this.#log[level](this.#fields(outcome, path), `${method} ${path} ${outcome.status ?? "-"}`);
  }

  #fields(outcome: Outcome, path: string): object {
    const exchange = this.#exchange;
    const { downstream, upstream, route, trace } = exchange;
    const { error } = outcome;
    return {
      exchange: exchange.id,
      ...(exchange.kind === "http" ? undefined : { kind: exchange.kind }),
      method: exchange.request.method,
      host: this.#authority,
      path,
      status: outcome.status,
      durationMs: toMicroseconds(outcome.durationMs),
      requestBytes: outcome.requestBytes,
      responseBytes: outcome.responseBytes,
      answeredBy: outcome.answeredBy,
      ...(trace === undefined ? undefined : { traceId: trace.traceId, spanId: trace.spanId }),
      ...(this.#client === downstream.remoteAddress ? undefined : { client: this.#client }),
      downstream: {
        ...connectionFields(downstream, exchange.downstreamIndex, exchange.downstreamIdleMs),
        address: downstream.remoteAddress,
      },
      ...(route === undefined ? undefined : { route: route.name }),
      ...(upstream === undefined
        ? undefined
        : {
            upstream: {
              ...connectionFields(upstream, exchange.upstreamIndex, exchange.upstreamIdleMs),
              reused: exchange.upstreamIndex > 1,
              address: `${upstream.remoteAddress}:${upstream.remotePort}`,
            },
          }),
      ...(exchange.attempts > 1 ? { attempts: exchange.attempts } : undefined),
      ...(exchange.queuedMs > 0 ? { queuedMs: toMicroseconds(exchange.queuedMs) } : undefined),
      ...(outcome.stale === undefined ? undefined : { stale: outcome.stale }),
      ...(error === undefined ? undefined : { error: { code: error.code, message: error.message } }),
    };
  }
}

function connectionFields(connection: Connection, request: number, idleMs: number): ConnectionFields {
  const { closeReason } = connection;
  return {
    id: connection.id,
    request,
    idleMs: toMicroseconds(idleMs),
    ...(closeReason === undefined ? undefined : { closeReason }),
  };
}

function isOurFailure(outcome: Outcome): boolean {
  const { error } = outcome;
  return error !== undefined && error.source !== "downstream";
}

function shownPath(target: string): string {
  const { path, query } = splitTarget(target);
  return query === undefined ? path : `${path}?${queryNames(query)}`;
}

/** Milliseconds without digits that mean nothing. */
function toMicroseconds(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
