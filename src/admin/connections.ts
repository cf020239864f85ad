/**
 * `GET /connections`: which connections are shown, and how.
 *
 * @module
 */
import type { Connection, ConnectionState, Direction, Origin, Side } from "../plugin/api.ts";
import { AdminError } from "./route.ts";

const DIRECTIONS = ["inbound", "outbound"] as const satisfies readonly Direction[];
const SIDES = ["downstream", "upstream"] as const satisfies readonly Side[];
const STATES = ["active", "idle", "draining", "closed"] as const satisfies readonly ConnectionState[];
const PARAMETERS = ["direction", "side", "state", "origin", "after", "limit"];

/** Connections in one answer, when `limit` does not say, and at most. */
const DEFAULT_LIMIT = 1000;
const MAX_LIMIT = 10_000;

/** The body of `GET /connections`. */
export interface ConnectionList {
  /** How many connections match the filters. */
  readonly total: number;
  /** Value of `after` for the next page; `null` when this is the last. */
  readonly next: number | null;
  /** By ascending id: in the order they opened. */
  readonly connections: readonly object[];
}

/**
 * Picks, orders and describes connections.
 *
 * @throws AdminError 400 for an unknown parameter or a value out of its range
 */
export function listConnections(all: Iterable<Connection>, query: URLSearchParams): ConnectionList {
  for (const name of query.keys()) {
    if (!PARAMETERS.includes(name)) {
      throw new AdminError(400, "there is no such query parameter", { field: name, allowed: PARAMETERS });
    }
  }
  const direction = oneOf(query, "direction", DIRECTIONS);
  const side = oneOf(query, "side", SIDES);
  const state = oneOf(query, "state", STATES);
  const origin = query.get("origin")?.toLowerCase();
  const after = wholeNumber(query, "after", 0, 0, Number.MAX_SAFE_INTEGER);
  const limit = wholeNumber(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT);

  const matching: Connection[] = [];
  for (const connection of all) {
    if (direction !== undefined && connection.direction !== direction) continue;
    if (side !== undefined && connection.side !== side) continue;
    if (state !== undefined && connection.state !== state) continue;
    if (origin !== undefined && (connection.origin === undefined || originText(connection.origin) !== origin)) continue;
    matching.push(connection);
  }
  matching.sort((one, other) => one.id - other.id);
  const rest = matching.filter((connection) => connection.id > after);
  const page = rest.slice(0, limit);
  return {
    total: matching.length,
    next: rest.length > page.length ? page.at(-1)!.id : null,
    connections: page.map(describe),
  };
}

function describe(connection: Connection): object {
  const { keepAlive, hint, tcpKeepAlive } = connection;
  return {
    id: connection.id,
    direction: connection.direction,
    side: connection.side,
    origin: connection.origin === undefined ? null : originText(connection.origin),
    backend: connection.backend?.name ?? null,
    peer: { address: connection.remoteAddress, port: connection.remotePort },
    protocol: connection.protocol,
    secure: connection.secure,
    state: connection.state,
    ageMs: Math.round(connection.ageMs),
    idleMs: Math.round(connection.idleMs),
    requests: connection.exchanges,
    reuse: Math.max(0, connection.exchanges - 1),
    active: connection.activeExchanges,
    bytes: { read: connection.bytesRead, written: connection.bytesWritten },
    hint: hint === undefined ? null : { timeoutMs: hint.timeoutMs ?? null, maxRequests: hint.maxRequests ?? null },
    keepAlive: {
      enabled: keepAlive.enabled,
      idleTimeoutMs: connection.idleLimitMs,
      idleTimeoutSource: connection.idleLimitSource,
      maxRequests: keepAlive.maxRequests,
      maxAgeMs: keepAlive.maxAgeMs,
    },
    tcpKeepAlive: tcpKeepAlive ?? null,
    boundTo: connection.boundTo?.id ?? null,
    closeReason: connection.closeReason ?? null,
  };
}

/** `http://host:port`, in lower case. */
export function originText(origin: Origin): string {
  const host = origin.host.includes(":") ? `[${origin.host}]` : origin.host;
  return `${origin.scheme}://${host}:${origin.port}`.toLowerCase();
}

function oneOf<T extends string>(query: URLSearchParams, name: string, allowed: readonly T[]): T | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const found = allowed.find((value) => value === text);
  if (found === undefined) {
    throw new AdminError(400, `must be one of ${allowed.join(", ")}`, { field: name, allowed });
  }
  return found;
}

function wholeNumber(query: URLSearchParams, name: string, missing: number, least: number, most: number): number {
  const text = query.get(name);
  if (text === null) return missing;
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) {
    const allowed = `a whole number from ${least} to ${most}`;
    throw new AdminError(400, `must be ${allowed}`, { field: name, allowed });
  }
  return value;
}
