/**
 * Rules between settings that are each valid by themselves: limits that are the wrong way round, so that one of them
 * never holds or does harm. `check` and `run` refuse a configuration that breaks one. docs/configuration.md lists them.
 *
 * @module
 */

import { formatHostPort, isLoopback, isOwnListener, overlaps } from "./address.ts";
import { type Fault, keyText, type Path } from "./faults.ts";
import type { LoadedConfig } from "./load.ts";
import type { PluginEntry, SidecarConfig, Upstream } from "./sidecar-config.ts";
import { formatDuration, formatSize } from "./units.ts";

/** What rules look at of a plugin. */
export interface RulePlugin {
  readonly plugin: { readonly name: string };
  readonly entry: PluginEntry;
  readonly config: unknown;
}

/** What rules look at. */
export interface Facts {
  readonly config: SidecarConfig;
  readonly plugins: readonly RulePlugin[];
}

/** How a rule is broken. */
export interface Breach {
  /** The key to change. */
  readonly path: Path;
  /** Both keys and both values. */
  readonly wrong: string;
  /** What to change. */
  readonly allowed: string;
}

/** A rule. */
export interface Rule {
  /** Stable name, shown with a breach. */
  readonly id: string;
  /** What must hold and why, for docs/configuration.md. */
  readonly doc: string;
  /** Every way in which the rule is broken; empty when it holds. */
  readonly check: (facts: Facts) => readonly Breach[];
}

/** A setting with its path and value in numbers. */
interface Setting {
  readonly path: Path;
  readonly value: number;
}

/** How long a downstream connection is kept idle when no plugin says. */
const CORE_DOWNSTREAM_IDLE_MS = 65_000;

/** A number in the configuration of a listed plugin; `undefined` when the plugin is not listed or has no such number. */
function pluginSetting({ plugins }: Facts, name: string, ...inside: string[]): Setting | undefined {
  const index = plugins.findIndex(({ plugin }) => plugin.name === name);
  const value = pluginValue(plugins[index], inside);
  return typeof value === "number" ? { path: ["plugins", index, "config", ...inside], value } : undefined;
}

function pluginValue(plugin: RulePlugin | undefined, inside: readonly string[]): unknown {
  return inside.reduce<unknown>(
    (value, key) => (typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined),
    plugin?.config,
  );
}

function named({ path, value }: Setting, format: (value: number) => string): string {
  return `${keyText(path)} (${format(value)})`;
}

const asDuration = (ms: number): string => `"${formatDuration(ms)}"`;
const asSize = (bytes: number): string => `"${formatSize(bytes)}"`;

/** A breach when the first setting is not below the second; with `orEqual` they may be the same. */
function mustBeBelow(lower: Setting, upper: Setting, format: (value: number) => string, orEqual: boolean): Breach[] {
  if (lower.value < upper.value || (orEqual && lower.value === upper.value)) return [];
  return [
    {
      path: lower.path,
      wrong: `${named(lower, format)} is ${orEqual ? "above" : "not below"} ${named(upper, format)}`,
      allowed: `lower ${keyText(lower.path)} or raise ${keyText(upper.path)}`,
    },
  ];
}

/** A downstream idle limit that can hold inbound. */
interface InboundIdleLimit {
  readonly value: number;
  /** The key that sets it; `undefined` when no plugin says. */
  readonly path: Path | undefined;
  /** What else would end the breach than a longer limit. */
  readonly otherwise?: string;
}

/** Every downstream idle limit that can hold inbound; none when connections are not kept. */
function inboundIdleLimits(facts: Facts): InboundIdleLimit[] {
  const inbound = facts.plugins.filter(({ entry }) => entry.directions.includes("inbound"));
  const keepAlive = inbound.find(({ plugin }) => plugin.name === "keep-alive");
  if (pluginValue(keepAlive, ["downstream", "enabled"]) === false) return [];
  const runsInbound = inbound.some(({ plugin }) => plugin.name === "idle-timeout");
  const ordinary = runsInbound ? pluginSetting(facts, "idle-timeout", "downstream") : undefined;
  if (ordinary === undefined) return [{ path: undefined, value: CORE_DOWNSTREAM_IDLE_MS }];
  const underLoad = pluginSetting(facts, "idle-timeout", "underLoad", "timeout");
  const connections = pluginSetting(facts, "idle-timeout", "underLoad", "connections");
  if (underLoad === undefined || connections === undefined || connections.value === 0) return [ordinary];
  return [ordinary, { ...underLoad, otherwise: `set ${keyText(connections.path)} to 0` }];
}

function downstreamIdleAboveLoadBalancer(facts: Facts): Breach[] {
  const balancer = facts.config.inbound?.loadBalancer;
  if (balancer === undefined) return [];
  const theirs: Setting = { path: ["inbound", "loadBalancer", "idleTimeout"], value: balancer.idleTimeoutMs };
  const to = Number.isFinite(theirs.value) ? `above ${asDuration(theirs.value)}` : 'to "off"';
  return inboundIdleLimits(facts)
    .filter(({ value }) => value !== Number.POSITIVE_INFINITY && value <= balancer.idleTimeoutMs)
    .map(({ path, value, otherwise }) => {
      const ownText =
        path === undefined
          ? `the downstream idle timeout without the idle-timeout plugin (${asDuration(value)})`
          : named({ path, value }, asDuration);
      const raise =
        path === undefined ? "list the idle-timeout plugin and set its downstream" : `raise ${keyText(path)}`;
      return {
        path: path ?? theirs.path,
        wrong: `${ownText} is not above ${named(theirs, asDuration)}, so ${balancer.name} would send requests into our close`,
        allowed: `${raise} ${to}${otherwise === undefined ? "" : `, or ${otherwise}`}`,
      };
    });
}

function underLoadBelowOrdinary(facts: Facts): Breach[] {
  const connections = pluginSetting(facts, "idle-timeout", "underLoad", "connections");
  const underLoad = pluginSetting(facts, "idle-timeout", "underLoad", "timeout");
  const sides = ["downstream", "upstream"].map((side) => pluginSetting(facts, "idle-timeout", side));
  const longest = sides.reduce((one, other) => ((one?.value ?? 0) >= (other?.value ?? 0) ? one : other));
  if (underLoad === undefined || longest === undefined || (connections?.value ?? 0) === 0) return [];
  return mustBeBelow(underLoad, longest, asDuration, false);
}

function underLoadBelowMaxConnections(facts: Facts): Breach[] {
  const underLoad = pluginSetting(facts, "idle-timeout", "underLoad", "connections");
  const most = pluginSetting(facts, "connection-limits", "maxConnections");
  if (underLoad === undefined || most === undefined || underLoad.value === 0 || most.value === 0) return [];
  return mustBeBelow(underLoad, most, String, false);
}

function limitWithin(facts: Facts, lower: readonly string[], upper: readonly string[]): Breach[] {
  const inner = pluginSetting(facts, "connection-limits", ...lower);
  const outer = pluginSetting(facts, "connection-limits", ...upper);
  // 0 is no limit.
  if (inner === undefined || outer === undefined || inner.value === 0 || outer.value === 0) return [];
  return mustBeBelow(inner, outer, String, true);
}

function poolSizeBounds(facts: Facts): Breach[] {
  const least = pluginSetting(facts, "keep-alive", "upstream", "poolSizeLeast");
  const most = pluginSetting(facts, "keep-alive", "upstream", "poolSizeMost");
  return least === undefined || most === undefined ? [] : mustBeBelow(least, most, String, true);
}

function headWithinRequest(facts: Facts): Breach[] {
  const head = pluginSetting(facts, "connection-limits", "headTimeout");
  const request = pluginSetting(facts, "connection-limits", "requestTimeout");
  return head === undefined || request === undefined ? [] : mustBeBelow(head, request, asDuration, true);
}

function connectBelowResponse({ config }: Facts): Breach[] {
  return (["inbound", "outbound"] as const).flatMap((direction) => {
    const settings = config[direction];
    if (settings === undefined) return [];
    return mustBeBelow(
      { path: [direction, "connectTimeout"], value: settings.connectTimeoutMs },
      { path: [direction, "responseTimeout"], value: settings.responseTimeoutMs },
      asDuration,
      true,
    );
  });
}

function idleGraceBelowDeadline({ config: { drain } }: Facts): Breach[] {
  return mustBeBelow(
    { path: ["drain", "idleGrace"], value: drain.idleGraceMs },
    { path: ["drain", "deadline"], value: drain.deadlineMs },
    asDuration,
    false,
  );
}

function targetWithinHead({ config: { limits } }: Facts): Breach[] {
  return mustBeBelow(
    { path: ["limits", "target"], value: limits.targetBytes },
    { path: ["limits", "head"], value: limits.headBytes },
    asSize,
    true,
  );
}

function tokenBeyondLoopback({ config: { admin } }: Facts): Breach[] {
  if (isLoopback(admin.listen.host) || admin.token !== undefined) return [];
  return [
    {
      path: ["admin", "listen"],
      wrong: `admin.listen ("${formatHostPort(admin.listen)}") is reached from other machines, and there is no admin.token`,
      allowed: "listen on 127.0.0.1 and let probes come to admin.probes, or set admin.token or admin.tokenFile",
    },
  ];
}

function noOpenProxy({ config: { outbound } }: Facts): Breach[] {
  if (outbound === undefined || outbound.unmatched === "deny" || isLoopback(outbound.listen.host)) return [];
  if (outbound.tls?.clientCa !== undefined && outbound.tls.requireClientCertificate) return [];
  return [
    {
      path: ["outbound", "listen"],
      wrong: `outbound.listen ("${formatHostPort(outbound.listen)}") is reached from other machines, and with outbound.unmatched "pass" it forwards whatever they ask for`,
      allowed:
        'listen on 127.0.0.1, set outbound.unmatched to "deny", or require client certificates with outbound.tls',
    },
  ];
}

function listenersApart({ config }: Facts): Breach[] {
  const listeners = [
    { path: ["admin", "listen"], listen: config.admin.listen },
    ...(config.admin.probes === undefined ? [] : [{ path: ["admin", "probes"], listen: config.admin.probes }]),
    ...(["inbound", "outbound"] as const).flatMap((direction) => {
      const settings = config[direction];
      return settings === undefined ? [] : [{ path: [direction, "listen"], listen: settings.listen }];
    }),
  ];
  return listeners.flatMap((one, index) =>
    listeners
      .slice(index + 1)
      .filter((other) => overlaps(one.listen, other.listen))
      .map((other) => ({
        path: other.path,
        wrong: `${keyText(other.path)} ("${formatHostPort(other.listen)}") and ${keyText(one.path)} ("${formatHostPort(one.listen)}") are the same address`,
        allowed: "give one of them another port",
      })),
  );
}

/** Every upstream with the direction that calls it and the path of its key. */
function upstreams({
  inbound,
  outbound,
}: SidecarConfig): { path: Path; direction: "inbound" | "outbound"; upstream: Upstream }[] {
  const service =
    inbound === undefined
      ? []
      : [{ path: ["inbound", "upstream"], direction: "inbound" as const, upstream: inbound.upstream }];
  const routes = (outbound?.routes ?? []).map(({ upstream }, index) => ({
    path: ["outbound", "routes", index, "upstream"],
    direction: "outbound" as const,
    upstream,
  }));
  return [...service, ...routes];
}

function upstreamIsNotUs({ config }: Facts): Breach[] {
  return upstreams(config).flatMap(({ path, direction, upstream }) => {
    const listen = config[direction]?.listen;
    if (listen === undefined || !isOwnListener(listen, upstream.origin)) return [];
    return [
      {
        path,
        wrong: `${keyText(path)} ("${originText(upstream)}") is our own ${direction}.listen ("${formatHostPort(listen)}"), so requests would go in a circle`,
        allowed: "name the address where the requests are to end",
      },
    ];
  });
}

function originText({ origin }: Upstream): string {
  return `${origin.scheme}://${formatHostPort(origin)}`;
}

function oneTlsPerOrigin({ config }: Facts): Breach[] {
  const first = new Map<string, { path: Path; tls: string }>();
  return upstreams(config).flatMap(({ path, direction, upstream }) => {
    if (upstream.backend !== undefined) return [];
    const key = `${direction} ${originText(upstream)}`;
    const tls = JSON.stringify(upstream.tls);
    const earlier = first.get(key);
    if (earlier === undefined) first.set(key, { path, tls });
    if (earlier === undefined || earlier.tls === tls) return [];
    return [
      {
        path,
        wrong: `${keyText(path)} and ${keyText(earlier.path)} are the same origin ("${originText(upstream)}") with different tls`,
        allowed: "give both the same tls, or name two backends",
      },
    ];
  });
}

function everyRouteReachable({ config }: Facts): Breach[] {
  const routes = config.outbound?.routes ?? [];
  return routes.flatMap((route, index) => {
    const earlier = routes.findIndex(
      ({ host, port }, before) =>
        before < index && (port === undefined || port === route.port) && covers(host, route.host),
    );
    if (earlier < 0) return [];
    const path: Path = ["outbound", "routes", index, "host"];
    const before = keyText(["outbound", "routes", earlier, "host"]);
    return [
      {
        path,
        wrong: `${keyText(path)} ("${route.host}") is never reached, since ${before} ("${routes[earlier]!.host}") matches all of it first`,
        allowed: `remove it, or move it above ${before}`,
      },
    ];
  });
}

/** Whether every host that `inner` stands for matches `outer` too. */
function covers(outer: string, inner: string): boolean {
  if (outer === inner) return true;
  return outer.startsWith("*.") && inner.endsWith(outer.slice(1));
}

/** Every rule. */
export const RULES: readonly Rule[] = [
  {
    id: "downstream-idle-above-load-balancer",
    doc: "Inbound, idle downstream connections are kept longer than `inbound.loadBalancer.idleTimeout`, also under load (`underLoad` of idle-timeout). Otherwise we close a connection at the moment when the load balancer sends a request on it, and its caller gets 502.",
    check: downstreamIdleAboveLoadBalancer,
  },
  {
    id: "under-load-below-ordinary",
    doc: "`underLoad.timeout` of idle-timeout is below at least one of its ordinary limits. Otherwise it never shortens anything.",
    check: underLoadBelowOrdinary,
  },
  {
    id: "under-load-below-max-connections",
    doc: "`underLoad.connections` of idle-timeout is below `maxConnections` of connection-limits. Otherwise connections are refused before idle ones make room.",
    check: underLoadBelowMaxConnections,
  },
  {
    id: "per-address-within-total",
    doc: "`maxConnectionsPerAddress` of connection-limits is at most its `maxConnections`. Otherwise it never holds.",
    check: (facts) => limitWithin(facts, ["maxConnectionsPerAddress"], ["maxConnections"]),
  },
  {
    id: "upstream-idle-within-total",
    doc: "`upstream.maxIdle` of connection-limits is at most its `upstream.maxConnections`. Otherwise it never holds.",
    check: (facts) => limitWithin(facts, ["upstream", "maxIdle"], ["upstream", "maxConnections"]),
  },
  {
    id: "pool-size-bounds",
    doc: "`upstream.poolSizeLeast` of keep-alive is at most its `upstream.poolSizeMost`.",
    check: poolSizeBounds,
  },
  {
    id: "head-within-request",
    doc: "`headTimeout` of connection-limits is at most its `requestTimeout`, which contains it. Otherwise it never holds.",
    check: headWithinRequest,
  },
  {
    id: "connect-within-response",
    doc: "`connectTimeout` is at most `responseTimeout` of the same direction. Connecting is the smaller part of waiting for a response.",
    check: connectBelowResponse,
  },
  {
    id: "idle-grace-below-deadline",
    doc: "`drain.idleGrace` is below `drain.deadline`. Otherwise the drain is over before idle connections were to close.",
    check: idleGraceBelowDeadline,
  },
  {
    id: "target-within-head",
    doc: "`limits.target` is at most `limits.head`, which contains it. Otherwise it never holds.",
    check: targetWithinHead,
  },
  {
    id: "admin-token-beyond-loopback",
    doc: "`admin.listen` is a loopback address, or there is an `admin.token` or `admin.tokenFile`. Otherwise everybody in reach of it could drain the sidecar.",
    check: tokenBeyondLoopback,
  },
  {
    id: "no-open-proxy",
    doc: 'With `outbound.unmatched` `"pass"`, `outbound.listen` is a loopback address, or its `tls` requires client certificates. Otherwise everybody in reach of it could call anything in our name.',
    check: noOpenProxy,
  },
  {
    id: "listeners-apart",
    doc: "`inbound.listen`, `outbound.listen`, `admin.listen` and `admin.probes` are different addresses.",
    check: listenersApart,
  },
  {
    id: "upstream-is-not-us",
    doc: "No upstream is the listener of its own direction. Requests would go in a circle.",
    check: upstreamIsNotUs,
  },
  {
    id: "one-tls-per-origin",
    doc: "Upstreams that are the same origin have the same `tls`: they share their connections.",
    check: oneTlsPerOrigin,
  },
  {
    id: "every-route-reachable",
    doc: "No route stands behind one that matches everything it does.",
    check: everyRouteReachable,
  },
];

/** Every breach of every rule, as faults. */
export function brokenRules({ config, document }: LoadedConfig, plugins: readonly RulePlugin[]): Fault[] {
  return RULES.flatMap((rule) =>
    rule.check({ config, plugins }).map(({ path, wrong, allowed }) => {
      return { place: document.place(path), key: keyText(path), rule: rule.id, wrong, allowed };
    }),
  );
}
