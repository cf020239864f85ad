/**
 * `idle-timeout`: how long idle connections are kept on each side. docs/plugins/idle-timeout.md describes it.
 *
 * @module
 */
import { type Connection, definePlugin, duration, type Side } from "../src/plugin/api.ts";

/** Least margin, in milliseconds, where the peer's own timeout leaves room for it. */
const LEAST_MARGIN_MS = 500;

/**
 * How long a connection may be idle when its peer closes it after `hintMs`: the hint less a margin, so that our close
 * comes first even though the peer began to count earlier and our next request takes time to arrive.
 *
 * Short hints get a smaller margin: at most a fifth of the hint, but half a second where that is more, and never more
 * than half. 60 s → 55 s, 5 s → 4 s, 2 s → 1.5 s, 1 s → 0.5 s, with a margin of 5 s.
 *
 * @param hintMs - what the peer announced
 * @param marginMs - the margin for long hints
 */
export function leaveAfter(hintMs: number, marginMs: number): number {
  const most = Math.max(hintMs / 5, Math.min(LEAST_MARGIN_MS, hintMs / 2));
  return hintMs - Math.min(marginMs, most);
}

export default definePlugin({
  name: "idle-timeout",
  apiVersion: 1,
  description: "Closes idle connections: ours in time, an upstream's before it does",
  config: {
    downstream: duration(
      "65s",
      'How long a connection from a caller may be idle before we close it. It must be longer than the caller (or the load balancer before us) keeps its own side, so that the caller closes first and never sends a request into our close: 65s (the default) stands above the 60 s of AWS ALB and nginx. The caller is told, unless `keep-alive` has `downstream.advertise` off, and a shorter `Keep-Alive: timeout=` of its own is respected. "off" leaves the close to the caller.',
    ),
    upstream: duration(
      "55s",
      'How long an idle connection to the upstream is kept. It must be shorter than the upstream keeps it, or a request meets a closing connection: 55s (the default) stands below the 60 s that many servers use. When the upstream announces `Keep-Alive: timeout=`, the smaller of this and the announced time less `margin` holds. `keepalive_time` of a named backend outranks it. "off" keeps to the announced time alone.',
    ),
    margin: duration(
      "5s",
      "How much earlier than announced an upstream's connection is left: a server that says `timeout=60` is left at 55 s. For short times it is at most a fifth of them, but half a second where that is more, and never more than half: `timeout=5` is left at 4 s, `timeout=1` at 0.5 s. It must be more than one round trip. 0s leaves exactly at the announced time, which loses races.",
      { max: "1h" },
    ),
    learn: {
      default: true,
      format: Boolean,
      doc: "Whether connections to an upstream are also left before the idle limit that was learned from its closes, less a margin for doubt and the way there. When false, configuration and announcement alone decide; what was learned still shows in `GET /origins` and the metrics, and a request that must not be sent twice still gets a fresh connection where an idle one is in doubt.",
    },
    canaries: {
      default: 1,
      format: "nat",
      doc: "How many idle connections per upstream may be left alone beyond the learned limit, at a time, to see when the upstream closes them. They carry no request, and stay no longer than the other limits say. They make what was learned more exact, and find out when an upstream keeps connections longer than it did. 0 does without: then a limit is tried out again, with requests that may be repeated, after 12 hours without a close.",
    },
    underLoad: {
      connections: {
        default: 0,
        format: "nat",
        doc: "With more than this many connections open on a side, `underLoad.timeout` limits the idle time on that side. Each direction counts for itself. 0 (the default) turns it off. Set it below `maxConnections` of `connection-limits`, so that idle connections make room before new ones are refused.",
      },
      timeout: duration(
        "10s",
        "Idle limit while a side is under load; the ordinary limits stay where they are shorter. It holds for connections as they take up a request or become idle, so those idle already keep their limit, and it goes back in the same way as the load drops. A connection whose peer was told a longer time in `Keep-Alive` is kept for that time, and is told the shorter one with its next message.",
      ),
    },
  },
  setup(context) {
    const { downstream, upstream, margin, learn, canaries, underLoad } = context.config;

    function isUnderLoad(side: Side): boolean {
      return underLoad.connections > 0 && context.countConnections(side) > underLoad.connections;
    }

    function limit(connection: Connection): void {
      const { side, backend, keepAlive } = connection;
      const ordinaryMs = side === "downstream" ? downstream : (backend?.idleTimeoutMs ?? upstream);
      keepAlive.idleTimeoutMs = isUnderLoad(side) ? Math.min(ordinaryMs, underLoad.timeout) : ordinaryMs;
    }

    return {
      pool(pool) {
        pool.canaries = learn ? canaries : 0;
      },
      connection(connection) {
        limit(connection);
        connection.keepAlive.heedLearned = learn;
        const apply = () => limit(connection);
        const mayChange = underLoad.connections > 0;
        if (connection.side === "downstream") {
          if (!mayChange) return undefined;
          return {
            active: apply,
            idle() {
              // What the last response advertised is kept; the load counts again from the next exchange on.
              if (!connection.keepAlive.advertise) apply();
            },
          };
        }
        return {
          ...(mayChange && { active: apply }),
          idle() {
            const { hint, keepAlive } = connection;
            if (mayChange && !keepAlive.advertise) apply();
            if (hint?.timeoutMs !== undefined) keepAlive.agreedTimeoutMs = leaveAfter(hint.timeoutMs, margin);
          },
          backendChanged: apply,
        };
      },
    };
  },
});
