/**
 * `connection-limits`: how many connections there may be, how slow a request may be, how many may wait.
 * docs/plugins/connection-limits.md describes it.
 *
 * @module
 */
import { type Connection, definePlugin, duration, type Reply } from "../src/plugin/api.ts";
import { addressKey } from "./connection-limits/address.ts";

/** Between two log lines about refused connections, in milliseconds. */
const REPORT_INTERVAL_MS = 10_000;

/** Status of the answer to a connection over its address's limit. */
type PerAddressStatus = 429 | 503;

/** Which limit refused a connection, and the answer it gets. */
interface Refusal {
  readonly limit: "maxConnections" | "maxConnectionsPerAddress";
  readonly reply: Reply;
}

function refusal(limit: Refusal["limit"], status: number, retryAfterMs: number, text: string): Refusal {
  const headers = [
    ["Content-Type", "text/plain; charset=utf-8"],
    ["Retry-After", String(Math.ceil(retryAfterMs / 1000))],
  ] as const;
  return { limit, reply: { status, headers, body: `${status} ${text}\n` } };
}

/** In the configuration 0 turns a limit off; in the API `Infinity` does. */
function orUnlimited(limit: number): number {
  return limit === 0 ? Number.POSITIVE_INFINITY : limit;
}

function assertPrefix(value: unknown): void {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > 128) {
    throw new TypeError("must be a whole number from 1 to 128");
  }
}

export default definePlugin({
  name: "connection-limits",
  apiVersion: 1,
  description: "Limits connections in total and per address, slow requests, and waiting for an upstream",
  config: {
    maxConnections: {
      default: 0,
      format: "nat",
      doc: "Connections from callers that may be open at one time, idle ones included. The first request of a connection beyond it gets 503 with `Retry-After`, and the connection closes (close reason `limit`). Each direction counts for itself. 0 (the default) means no limit; then the limit on open files of the process ends it, less politely. Set it to what the service can carry.",
    },
    maxConnectionsPerAddress: {
      default: 0,
      format: "nat",
      doc: "The same for one caller's address (see `ipv6Prefix`), answered with `perAddressStatus`. It holds for inbound connections only: outbound, every caller is our own service. Behind a load balancer or NAT many callers share few addresses; leave it off there, or well above what one of those needs. 0 (the default) means no limit.",
    },
    perAddressStatus: {
      default: 429 as PerAddressStatus,
      format: [429, 503] satisfies PerAddressStatus[],
      doc: "Status for a connection beyond `maxConnectionsPerAddress`: 429 (the default) says that this caller has too many, 503 is what nginx's `limit_conn` says unless told otherwise.",
    },
    ipv6Prefix: {
      default: 64,
      format: assertPrefix,
      type: "whole number",
      doc: "How many bits of an IPv6 address make one caller for `maxConnectionsPerAddress`, 1 to 128. A caller usually owns a whole /64 (the default) and could take a new address for each connection; 128 counts every address apart.",
    },
    retryAfter: duration(
      "1s",
      "What `Retry-After` says to a refused connection, rounded up to whole seconds. Longer keeps refused callers away longer, if they obey it.",
      { max: "24h" },
    ),
    refusedTimeout: duration(
      "5s",
      "How long a connection over a limit may take to send the request head that is then refused; afterwards it closes as by `headTimeout`. Refused connections do not count against the limits, so it should be short.",
      { min: "100ms", max: "1m" },
    ),
    maxRefused: {
      default: 100,
      format: "nat",
      doc: "How many connections over a limit may be open at one time, each waiting for its refusal. Further ones are closed at once without an answer, so that a flood of connections cannot use up the process's files. Default 100; 0 closes every connection over a limit at once.",
    },
    headTimeout: duration(
      "60s",
      'How long a caller may take to send a request\'s head, from accepting the connection or from the first byte of a later request; then 408 and close (close reason `request_timeout`). A connection that sent nothing at all closes without an answer. It ends slowloris attacks. nginx: `client_header_timeout`, 60s (the default) as there. "off" waits for ever.',
    ),
    requestTimeout: duration(
      "5m",
      'How long a caller may take to send a whole request, body included; then 408, or a cut connection once a response has begun. Default 5m. Unlike nginx\'s `client_body_timeout`, which counts between two reads, it also ends a body that trickles; raise it where large uploads over slow lines are normal. "off" waits for ever.',
    ),
    upstream: {
      maxConnections: {
        default: 0,
        format: "nat",
        doc: "Connections to one upstream origin at one time, active and idle. Further exchanges wait (see `maxQueue`) until one is free. 0 (the default) means no limit. Set it to what the upstream can carry, divided by the number of sidecars that call it.",
      },
      maxIdle: {
        default: 0,
        format: "nat",
        doc: "Idle connections kept to one origin; when one more becomes idle, the oldest is closed (close reason `limit`). nginx: `keepalive` in an `upstream` block. 0 (the default) means no limit, so that only idle time and age decide; to keep none, turn `upstream.enabled` of `keep-alive` off.",
      },
      maxQueue: {
        default: 1024,
        format: "nat",
        doc: "Exchanges that may wait for a connection to one origin while `upstream.maxConnections` are busy; the next one gets 503 at once. Default 1024. 0 means no limit, as HAProxy's `maxqueue 0` does. A long queue turns overload into slowness; keep it below what is served within `queueTimeout`.",
      },
      queueTimeout: duration(
        "5s",
        'How long an exchange may wait for a connection to one origin; then 503. HAProxy: `timeout queue`. Default 5s. It should be shorter than callers wait, or work goes on for nobody. "off" waits for as long as the caller does.',
      ),
    },
  },
  setup({ config, direction, log }) {
    const maxConnections = orUnlimited(config.maxConnections);
    const maxPerAddress =
      direction === "inbound" ? orUnlimited(config.maxConnectionsPerAddress) : Number.POSITIVE_INFINITY;
    const isLimited = Number.isFinite(maxConnections) || Number.isFinite(maxPerAddress);
    const overTotal = refusal("maxConnections", 503, config.retryAfter, "too many connections");
    const overAddress = refusal(
      "maxConnectionsPerAddress",
      config.perAddressStatus,
      config.retryAfter,
      "too many connections from your address",
    );

    /** Connections within the limits. */
    let admitted = 0;
    const admittedByAddress = new Map<string, number>();
    /** Connections over a limit, until they are closed. */
    const refused = new Map<Connection, Refusal>();

    let unreported = 0;
    let nextReportAtMs = 0;

    function report(limit: Refusal["limit"], connection: Connection): void {
      unreported++;
      const nowMs = performance.now();
      if (nowMs < nextReportAtMs) return;
      nextReportAtMs = nowMs + REPORT_INTERVAL_MS;
      log.warn(
        { limit, remoteAddress: connection.remoteAddress, admitted, refused: unreported },
        `connection refused: ${limit} is ${config[limit]}; ${unreported} refused since the last such line`,
      );
      unreported = 0;
    }

    function refuse(connection: Connection, why: Refusal) {
      report(why.limit, connection);
      if (refused.size >= config.maxRefused) {
        connection.drain("limit");
        return;
      }
      refused.set(connection, why);
      const { requestTimeouts, keepAlive } = connection;
      requestTimeouts.headMs = Math.min(requestTimeouts.headMs, config.refusedTimeout);
      requestTimeouts.requestMs = Math.min(requestTimeouts.requestMs, config.refusedTimeout);
      // Even if another plugin answers first, the connection must not stay.
      keepAlive.enabled = false;
      return {
        close() {
          refused.delete(connection);
        },
      };
    }

    return {
      pool(pool) {
        pool.maxConnections = orUnlimited(config.upstream.maxConnections);
        pool.maxIdle = orUnlimited(config.upstream.maxIdle);
        pool.maxQueue = orUnlimited(config.upstream.maxQueue);
        pool.queueTimeoutMs = config.upstream.queueTimeout;
      },
      connection(connection) {
        if (connection.side === "upstream") return;
        connection.requestTimeouts.headMs = config.headTimeout;
        connection.requestTimeouts.requestMs = config.requestTimeout;
        if (!isLimited) return;

        const key = addressKey(connection.remoteAddress, config.ipv6Prefix);
        const ofAddress = admittedByAddress.get(key) ?? 0;
        // The caller's own limit first: it says more than that we are full.
        // One that is in use, and only new to this instance, was admitted when it opened.
        const isNew = connection.exchanges === 0;
        if (isNew && ofAddress >= maxPerAddress) return refuse(connection, overAddress);
        if (isNew && admitted >= maxConnections) return refuse(connection, overTotal);

        admitted++;
        admittedByAddress.set(key, ofAddress + 1);
        return {
          close() {
            admitted--;
            const left = admittedByAddress.get(key)! - 1;
            if (left === 0) admittedByAddress.delete(key);
            else admittedByAddress.set(key, left);
          },
        };
      },
      exchange({ downstream }) {
        const why = refused.get(downstream);
        if (why === undefined) return;
        return {
          request() {
            downstream.drain("limit");
            return why.reply;
          },
        };
      },
    };
  },
});
