/**
 * A backend as the admin API writes it, with the field names of Fastly's backend API: times in seconds, `null` for
 * "what the plugins say".
 *
 * @module
 */
import type { Pool, TcpKeepAlive } from "../plugin/api.ts";
import type { BackendPatch, LiveBackend } from "../proxy/backends.ts";
import { objectWith } from "./body.ts";
import { AdminError } from "./route.ts";

/** Longest idle limit, in seconds: what a 32-bit count of milliseconds holds. */
const MAX_KEEPALIVE_S = 2_147_483;
/** What Linux accepts for TCP_KEEPIDLE and TCP_KEEPINTVL, in seconds, and for TCP_KEEPCNT. */
const MAX_TCP_KEEPALIVE_S = 32_767;
const MAX_TCP_KEEPALIVE_PROBES = 127;

const SETTINGS = [
  "keepalive_time",
  "tcp_keepalive_enable",
  "tcp_keepalive_time",
  "tcp_keepalive_interval",
  "tcp_keepalive_probes",
] as const;

/** The body of `GET /backends/{name}`. */
export function backendBody(backend: LiveBackend, pools: Iterable<Pool>): object {
  const { origin, idleTimeoutMs, tcpKeepAlive } = backend;
  let connections = 0;
  let idle = 0;
  let queued = 0;
  for (const pool of pools) {
    if (pool.backend?.name !== backend.name) continue;
    connections += pool.connections;
    idle += pool.idle;
    queued += pool.queued;
  }
  return {
    name: backend.name,
    address: origin.host,
    port: origin.port,
    use_ssl: origin.scheme === "https",
    keepalive_time: seconds(idleTimeoutMs),
    tcp_keepalive_enable: tcpKeepAlive.enable ?? null,
    tcp_keepalive_time: seconds(tcpKeepAlive.timeMs),
    tcp_keepalive_interval: seconds(tcpKeepAlive.intervalMs),
    tcp_keepalive_probes: tcpKeepAlive.probes ?? null,
    pool: { connections, idle, queued },
  };
}

/**
 * What the body of `PUT /backends/{name}` asks to change.
 *
 * @throws AdminError 400 with the first field that is not valid
 */
export function parseBackendBody(body: unknown): BackendPatch {
  const fields = objectWith(body, SETTINGS);
  const patch: { -readonly [K in keyof BackendPatch]: BackendPatch[K] } = {};
  const tcpKeepAlive: { -readonly [K in keyof TcpKeepAlive]?: TcpKeepAlive[K] | null } = {};
  for (const field of SETTINGS) {
    if (!Object.hasOwn(fields, field)) continue;
    const value = fields[field];
    switch (field) {
      case "keepalive_time":
        patch.idleTimeoutMs = value === null ? null : idleTimeoutMs(field, value);
        break;
      case "tcp_keepalive_enable":
        if (value !== null && typeof value !== "boolean") throw refused(field, value, "true, false or null");
        tcpKeepAlive.enable = value;
        break;
      case "tcp_keepalive_time":
        tcpKeepAlive.timeMs = value === null ? null : whole(field, value, MAX_TCP_KEEPALIVE_S, "seconds") * 1000;
        break;
      case "tcp_keepalive_interval":
        tcpKeepAlive.intervalMs = value === null ? null : whole(field, value, MAX_TCP_KEEPALIVE_S, "seconds") * 1000;
        break;
      case "tcp_keepalive_probes":
        tcpKeepAlive.probes = value === null ? null : whole(field, value, MAX_TCP_KEEPALIVE_PROBES, "probes");
        break;
    }
  }
  patch.tcpKeepAlive = tcpKeepAlive;
  return patch;
}

function idleTimeoutMs(field: string, value: unknown): number {
  if (value === "off") return Number.POSITIVE_INFINITY;
  if (typeof value !== "number" || !(value >= 0 && value <= MAX_KEEPALIVE_S)) {
    throw refused(field, value, `a number of seconds from 0 to ${MAX_KEEPALIVE_S}, "off" for no limit, or null`);
  }
  return Math.round(value * 1000);
}

function whole(field: string, value: unknown, most: number, unit: string): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > most) {
    throw refused(field, value, `a whole number of ${unit} from 1 to ${most}, or null`);
  }
  return value;
}

function refused(field: string, value: unknown, allowed: string): AdminError {
  const shown = JSON.stringify(value);
  const short = shown.length > 60 ? `${shown.slice(0, 60)}…` : shown;
  return new AdminError(400, `${short} is not valid; must be ${allowed}`, { field, allowed });
}

function seconds(ms: number | undefined): number | null {
  return ms === undefined ? null : ms / 1000;
}
