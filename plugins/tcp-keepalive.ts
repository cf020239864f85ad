/**
 * `tcp-keepalive`: TCP keepalive probes on each side. docs/plugins/tcp-keepalive.md describes it.
 *
 * @module
 */
import {
  type Connection,
  type Direction,
  definePlugin,
  duration,
  type Side,
  type TcpKeepAlive,
} from "../src/plugin/api.ts";

/** Network paths that forget idle TCP connections, and after how long, in milliseconds. */
export const PATHS = {
  none: Number.POSITIVE_INFINITY,
  azure: 240_000,
  nlb: 350_000,
  "aws-nat": 350_000,
  gcp: 600_000,
} as const;

/** A name in {@link PATHS}. */
export type PathName = keyof typeof PATHS;

/** TCP keepalive of one side, as configured; durations in milliseconds. */
interface SideConfig {
  readonly enable: boolean;
  readonly time: number;
  readonly interval: number;
  readonly probes: number;
}

/** The side of a direction that leaves the machine: the other one stays between the service and us. */
const NETWORK_SIDE: Readonly<Record<Direction, Side>> = { inbound: "downstream", outbound: "upstream" };

/** The kernel counts whole seconds, at least one; rounding up never probes more often than was asked for. */
function wholeSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000)) * 1000;
}

/** What holds for a connection: what its backend says, field by field, else the configuration of its side. */
export function effective(side: SideConfig, backend: Partial<TcpKeepAlive> = {}): TcpKeepAlive {
  return {
    enable: backend.enable ?? side.enable,
    timeMs: wholeSeconds(backend.timeMs ?? side.time),
    intervalMs: wholeSeconds(backend.intervalMs ?? side.interval),
    probes: backend.probes ?? side.probes,
  };
}

/** Whether a path forgets an idle connection before its first probe. At the same second it may go either way. */
export function isForgotten(settings: TcpKeepAlive, path: PathName): boolean {
  return settings.enable && settings.timeMs >= PATHS[path];
}

function assertProbes(value: unknown): void {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > 127) {
    throw new TypeError("must be a whole number from 1 to 127");
  }
}

// What Linux takes for TCP_KEEPIDLE and TCP_KEEPINTVL.
const KERNEL_RANGE = { min: "1s", max: "32767s" } as const;

export default definePlugin({
  name: "tcp-keepalive",
  apiVersion: 1,
  description: "Sets TCP keepalive probes on the sockets of each side",
  config: {
    downstream: {
      enable: {
        default: true,
        format: Boolean,
        doc: "Whether the kernel probes connections from callers that are silent (`SO_KEEPALIVE`). When false, a caller that vanished without closing (power loss, a firewall that drops its packets) holds its connection until another limit ends it, and a long poll or tunnel can be forgotten by the network on the way.",
      },
      time: duration(
        "60s",
        "How long a connection must be silent before the first probe (`TCP_KEEPIDLE`). Must be below what the network path forgets (see `path`), or the probe comes too late to keep the path open. The kernel counts whole seconds: a fraction is rounded up.",
        KERNEL_RANGE,
      ),
      interval: duration(
        "10s",
        "Time between probes while they go unanswered (`TCP_KEEPINTVL`), in whole seconds. A vanished peer is found `time` + `interval` × `probes` after its last sign of life: 90 s with the defaults.",
        KERNEL_RANGE,
      ),
      probes: {
        default: 3,
        format: assertProbes,
        type: "whole number",
        doc: "Unanswered probes after which the kernel gives the connection up (`TCP_KEEPCNT`), from 1 to 127; the close reason is then `tcp_keepalive`. A low number finds vanished peers sooner and survives less packet loss.",
      },
    },
    upstream: {
      enable: {
        default: true,
        format: Boolean,
        doc: "Whether the kernel probes silent connections to the upstream. When false, a pooled connection whose peer vanished is noticed only when a request on it gets no answer. `tcp_keepalive_enable` of a named backend outranks it.",
      },
      time: duration(
        "60s",
        "As `downstream.time`, towards the upstream. Idle pooled connections are closed by `idle-timeout` before that by default; the probes then serve long exchanges and tunnels. `tcp_keepalive_time` of a named backend outranks it.",
        KERNEL_RANGE,
      ),
      interval: duration(
        "10s",
        "As `downstream.interval`, towards the upstream. `tcp_keepalive_interval` of a named backend outranks it.",
        KERNEL_RANGE,
      ),
      probes: {
        default: 3,
        format: assertProbes,
        type: "whole number",
        doc: "As `downstream.probes`, towards the upstream. `tcp_keepalive_probes` of a named backend outranks it.",
      },
    },
    path: {
      default: "none" as PathName,
      format: Object.keys(PATHS) as PathName[],
      doc: "The network that connections cross, by name, to be warned when `time` is not below what it forgets: `azure` (load balancer and outbound NAT, 240 s), `nlb` (AWS Network Load Balancer, 350 s), `aws-nat` (AWS NAT gateway, 350 s), `gcp` (VPC connection tracking, 600 s). These are their defaults; it changes nothing but the warning. It applies to the side that leaves the machine: downstream in the inbound direction, upstream in the outbound one. Default `none`: no warning.",
    },
  },
  setup({ config, direction, log }) {
    const { path } = config;
    const warned = new Set<string>();

    function warnIfForgotten(side: Side, settings: TcpKeepAlive, from: string): void {
      const key = `${from} ${settings.timeMs}`;
      if (side !== NETWORK_SIDE[direction] || !isForgotten(settings, path) || warned.has(key)) return;
      warned.add(key);
      log.warn(
        { side, path, timeMs: settings.timeMs, forgetsMs: PATHS[path] },
        `${from}: first probe after ${settings.timeMs / 1000} s, but ${path} forgets idle connections after ${PATHS[path] / 1000} s; set time lower`,
      );
    }

    for (const side of ["downstream", "upstream"] as const) {
      warnIfForgotten(side, effective(config[side]), `${side}.time`);
    }

    function apply(connection: Connection): void {
      const { side, backend } = connection;
      const settings = effective(config[side], backend?.tcpKeepAlive);
      connection.tcpKeepAlive = settings;
      if (backend?.tcpKeepAlive.timeMs !== undefined) warnIfForgotten(side, settings, `backend ${backend.name}`);
    }

    return {
      connection(connection) {
        // It never opened, so there is no socket to set anything on.
        if (connection.closeReason !== undefined) return;
        apply(connection);
        if (connection.backend === undefined) return;
        return { backendChanged: () => apply(connection) };
      },
    };
  },
});
