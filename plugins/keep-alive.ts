/**
 * `keep-alive`: whether HTTP connections are kept on each side, for how many requests and how long, and what is told
 * to the peer. docs/plugins/keep-alive.md describes it.
 *
 * @module
 */
import {
  type Connection,
  definePlugin,
  duration,
  type ExchangeHooks,
  type Pool,
  type ReusePolicy,
} from "../src/plugin/api.ts";

/** How many idle connections to keep, as configured. */
type PoolSize = "all" | "auto";

/** Keep-alive of one side, as configured. */
interface SidePolicy {
  readonly enabled: boolean;
  readonly advertise: boolean;
  /** 0: no limit. */
  readonly maxRequests: number;
  /** In milliseconds; `Infinity`: no limit. */
  readonly maxAge: number;
  readonly jitter: number;
}

/** What {@link agree} reads and changes of a connection. */
export type Negotiated = Pick<Connection, "side" | "exchanges" | "hint" | "keepAlive">;

/**
 * A limit shortened by a random part of itself. `Infinity` stays `Infinity`.
 *
 * @param jitter - the largest part that may be taken off, from 0 to below 1
 * @param random - from 0 to below 1
 */
export function jittered(limit: number, jitter: number, random: number): number {
  return Number.isFinite(limit) ? limit * (1 - jitter * random) : limit;
}

/** States the policy of its side on a connection that has just opened. */
function begin(connection: Connection, policy: SidePolicy): void {
  const { keepAlive } = connection;
  const maxRequests = policy.maxRequests === 0 ? Number.POSITIVE_INFINITY : policy.maxRequests;
  keepAlive.enabled = policy.enabled;
  keepAlive.advertise = policy.enabled && policy.advertise;
  // The first exchange is being carried already when a limit is looked at, so 1 is the least that can be kept.
  keepAlive.maxRequests = Math.max(1, Math.ceil(jittered(maxRequests, policy.jitter, Math.random())));
  keepAlive.maxAgeMs = jittered(policy.maxAge, policy.jitter, Math.random());
}

/**
 * Lowers the limits of a connection to what its peer advertised in `Keep-Alive`. A limit on requests is never raised
 * again: the hint stays readable after the message that brought it, and counting from it anew would put the end off
 * with every exchange.
 */
export function agree(connection: Negotiated): void {
  const { hint, keepAlive } = connection;
  if (hint === undefined) return;
  if (hint.timeoutMs === 0) keepAlive.enabled = false;
  // Upstream, the timeout needs a margin to win the race against the peer's close: that is idle-timeout's part.
  if (hint.timeoutMs !== undefined && connection.side === "downstream") keepAlive.agreedTimeoutMs = hint.timeoutMs;
  if (hint.maxRequests !== undefined) {
    keepAlive.maxRequests = Math.min(keepAlive.maxRequests, connection.exchanges + hint.maxRequests);
  }
}

function assertJitter(value: unknown): void {
  if (typeof value !== "number" || !(value >= 0 && value < 1)) {
    throw new TypeError("must be a number from 0 to below 1, such as 0.1");
  }
}

export default definePlugin({
  name: "keep-alive",
  apiVersion: 1,
  description: "Keeps HTTP connections on each side, or not; negotiates and advertises how long",
  config: {
    downstream: {
      enabled: {
        default: true,
        format: Boolean,
        doc: "Whether connections from callers stay open after a response. When false, every response says `Connection: close` and the connection closes after it (close reason `max_requests`), whatever the caller asked for; the other settings of this side then have no effect. An HTTP/1.0 caller is kept only if it asks for it.",
      },
      advertise: {
        default: true,
        format: Boolean,
        doc: "Whether responses on a kept HTTP/1.x connection say how long it is kept: `Keep-Alive: timeout=, max=`. A caller that reads it stops using the connection in time and never races our close. `timeout` is the smaller of the idle limit (see `idle-timeout`) and what the caller asked for, in whole seconds, rounded down; `max` counts the requests still to come and is left out when there is no limit. When false, the same limits hold but the caller learns of them only by the close.",
      },
      maxRequests: {
        default: 0,
        format: "nat",
        doc: "How many requests one connection may carry. The last response says `Connection: close`. 0 (the default) means no limit. Set it, or `maxAge`, when callers sit behind a load balancer that spreads connections and not requests: only a new connection can go to a new instance. Every limit costs a new TCP (and TLS) handshake, so hundreds, not tens.",
      },
      maxAge: duration(
        "off",
        'How long one connection may stay in use. Past that age the next response says `Connection: close` (close reason `max_age`); a running exchange is never cut. A connection on which no request comes any more is left to `idle-timeout`: closing it for its age would meet the request that a caller is just sending. "off" (the default) means no limit. Use it to let callers find new instances, or a new certificate.',
      ),
      jitter: {
        default: 0.1,
        format: assertJitter,
        type: "number",
        doc: "By how much `maxRequests` and `maxAge` are shortened at random for each connection: 0.1 (the default) takes off up to a tenth. Without it, connections that opened together, after a deployment say, also close and reconnect together. 0 makes the limits exact.",
      },
    },
    upstream: {
      enabled: {
        default: true,
        format: Boolean,
        doc: "Whether connections to the upstream stay open for further requests. When false, each request opens a connection of its own and says `Connection: close`, as HAProxy's `option http-server-close` does; `downstream` is not touched. An upstream's own `Connection: close` is always obeyed.",
      },
      advertise: {
        default: false,
        format: Boolean,
        doc: "Whether requests on a kept connection say `Keep-Alive: timeout=, max=`. Few servers read it in requests, so the default is false. Turn it on for an upstream that does, such as another Holdfast, which then keeps to the smaller of both wishes.",
      },
      maxRequests: {
        default: 0,
        format: "nat",
        doc: "How many requests one connection may carry; the last one says `Connection: close`. 0 (the default) means no limit. The `max` that an upstream announces counts as well: the smaller limit holds. When the upstream has a limit that it does not announce (nginx: `keepalive_requests 1000`), setting this below it spares the race at that limit.",
      },
      maxAge: duration(
        "off",
        'How long one connection may stay open. Past that age it is given up after its exchange, or at once when idle (close reason `max_age`). "off" (the default) means no limit. Use it when the upstream\'s name can move to other addresses: a kept connection stays with the old address for as long as it lives.',
      ),
      jitter: {
        default: 0.1,
        format: assertJitter,
        type: "number",
        doc: "As `downstream.jitter`, for connections to the upstream. 0.1 (the default) takes off up to a tenth.",
      },
      reuse: {
        default: "always" as ReusePolicy,
        format: ["never", "safe", "aggressive", "always"] satisfies ReusePolicy[],
        doc: "When an idle upstream connection may carry another request; HAProxy's `http-reuse`. `always` (the default): any idle connection, the most recently used first. `never`: only for the downstream connection that opened it, which keeps upstream connections apart per caller at the cost of many more of them. `safe`: the first request of a downstream connection gets a fresh upstream connection, so that it can never fail because of a reused one; a caller is more ready to retry its later requests. `aggressive`: as `safe`, but a first request may also use a connection that has already been reused. With `enabled: false` there is nothing to reuse.",
      },
      poolSize: {
        default: "all" as PoolSize,
        format: ["all", "auto"] satisfies PoolSize[],
        doc: "How many idle connections to keep to each origin. `all` (the default): every one, until its idle limit or `upstream.maxIdle` of `connection-limits` ends it. `auto`: as many as leave at most one request in a hundred without a kept connection, measured from the requests themselves, bursts included; the oldest beyond that are closed (close reason `limit`). `GET /origins` shows the number. Use it where connections cost memory: many origins, large bursts that are rare, TLS, upstreams with a thread for each connection.",
      },
      poolSizeLeast: {
        default: 2,
        format: "nat",
        doc: 'With `poolSize: "auto"`, how many idle connections are kept at least, however little they are needed. Default 2.',
      },
      poolSizeMost: {
        default: 256,
        format: "nat",
        doc: 'With `poolSize: "auto"`, how many idle connections are kept at most, and until enough requests were seen. Default 256.',
      },
    },
  },
  setup({ config }) {
    const { reuse, poolSize, poolSizeLeast: least, poolSizeMost: most } = config.upstream;
    const hearUpstream: ExchangeHooks = {
      response(_head, { upstream }) {
        if (upstream !== undefined) agree(upstream);
      },
    };
    return {
      pool(pool: Pool) {
        pool.reuse = reuse;
        if (poolSize === "auto") pool.autoIdle = { least, most };
      },
      connection(connection) {
        begin(connection, config[connection.side]);
      },
      exchange(exchange) {
        agree(exchange.downstream);
        return config.upstream.enabled ? hearUpstream : undefined;
      },
    };
  },
});
