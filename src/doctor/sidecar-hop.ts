/**
 * Holdfast itself as a hop: from the effective values of a configuration, as `holdfast check --json` and `GET /config`
 * list them, and from what a running one has learned.
 *
 * @module
 */
import { parseDuration } from "../config/units.ts";
import type { Direction } from "../plugin/api.ts";
import { DOWNSTREAM_IDLE_TIMEOUT_MS, UPSTREAM_IDLE_TIMEOUT_MS } from "../proxy/direction.ts";
import type { Downstream, HttpHop, Templates, Upstream } from "./hop.ts";
import { downstreamOf, hopOf, upstreamOf } from "./preset.ts";
import {
  type CallerState,
  callerNotes,
  leaves,
  measuredHop,
  measuredOf,
  msOf,
  type OriginState,
  upstreamNotes,
} from "./running.ts";

/** One value of a configuration. */
export interface Value {
  readonly key: string;
  readonly value: unknown;
}

/** What one that runs says besides its configuration. */
export interface Seen {
  readonly origins: readonly OriginState[];
  readonly callers: readonly CallerState[];
}

const NOTHING_SEEN: Seen = { origins: [], callers: [] };
/** How much earlier than announced a connection is left, where idle-timeout does not say. */
const HINT_MARGIN_MS = 5000;

/** A direction of a sidecar, with one of its upstreams. */
export interface SidecarRoute {
  readonly direction: Direction;
  /** The upstream as configuration names it. */
  readonly upstream: string;
}

/** Whether an origin is where a way leads. */
function isOf({ direction, backend, origin }: OriginState, route: SidecarRoute): boolean {
  if (direction !== route.direction) return false;
  if (backend !== null) return backend === route.upstream;
  return URL.parse(origin)?.href === URL.parse(route.upstream)?.href;
}

/** A sidecar's configuration, for looking up. */
export class SidecarValues {
  readonly #values: ReadonlyMap<string, unknown>;
  readonly #seen: Seen;

  /** @param seen - what one that runs has seen of whom it calls, and of who calls it */
  constructor(values: readonly Value[], seen: Seen = NOTHING_SEEN) {
    this.#values = new Map(values.map(({ key, value }) => [key, value]));
    this.#seen = seen;
  }

  /** Name of the service. */
  get service(): string {
    return this.#text("service") ?? "service";
  }

  /** Every way through the sidecar: inbound first, then each upstream once, also those that no route names. */
  get routes(): SidecarRoute[] {
    const found = new Map<string, SidecarRoute>();
    for (const [key, value] of this.#values) {
      const direction =
        key === "inbound.upstream"
          ? "inbound"
          : /^outbound\.routes\[\d+\]\.upstream$/.test(key)
            ? "outbound"
            : undefined;
      if (direction !== undefined && typeof value === "string")
        found.set(`${direction} ${value}`, { direction, upstream: value });
    }
    for (const origin of this.#seen.origins) {
      const { direction, backend, origin: url } = origin;
      if (direction !== "inbound" && direction !== "outbound") continue;
      if ([...found.values()].some((route) => isOf(origin, route))) continue;
      const upstream = backend ?? url;
      found.set(`${direction} ${upstream}`, { direction, upstream });
    }
    return [...found.values()].sort((one, other) => one.direction.localeCompare(other.direction));
  }

  /** Who calls, as far as the configuration says or the sidecar has seen. */
  before(direction: Direction): HttpHop | undefined {
    const saidMs = direction === "inbound" ? this.#ms("inbound.loadBalancer.idleTimeout") : undefined;
    const callers = this.#callers(direction);
    const seenMs = callers?.idle === null || callers === undefined ? undefined : msOf(callers.idle.timeoutMs);
    if (saidMs === undefined && (callers === undefined || callers.closedByUs.of === 0)) return undefined;
    // What was seen is the shortest of all who call, which need not be the load balancer.
    const idleMs = saidMs === undefined ? seenMs : Math.max(saidMs, seenMs ?? 0);
    const name =
      saidMs === undefined
        ? direction === "inbound"
          ? "callers"
          : this.service
        : (this.#text("inbound.loadBalancer.name") ?? "load balancer");
    const hop = hopOf({ name, title: name, sources: [], upstream: { idleMs }, settings: {} });
    return hop.kind === "http" ? hop : undefined;
  }

  /** Where a way leads, as far as the sidecar has seen. */
  behind(route: SidecarRoute): HttpHop {
    const name = route.upstream;
    const origin = this.#origin(route);
    if (origin !== undefined) return measuredHop(name, origin);
    const hop = hopOf({ name, title: name, sources: [], downstream: {}, settings: {} });
    if (hop.kind !== "http") throw new TypeError("an origin speaks HTTP");
    return hop;
  }

  /** The sidecar as a hop. */
  hop(route: SidecarRoute): HttpHop {
    const { direction, upstream } = route;
    const origin = this.#origin(route);
    return {
      kind: "http",
      name: `holdfast (${this.service}, ${direction})`,
      product: "holdfast",
      downstream: this.#downstream(direction),
      upstream: this.#upstream(route),
      drainMs: this.#ms("drain.deadline"),
      deregistrationMs: undefined,
      rttMs: undefined,
      tls: false,
      settings: this.#settings(upstream),
      symptom: "502 with HF_UPSTREAM_CLOSED for requests that must not be repeated; the others are sent again",
      measured: origin === undefined ? undefined : measuredOf(origin),
    };
  }

  #downstream(direction: Direction): Downstream {
    const keepAlive = this.#plugin("keep-alive", direction);
    const idle = this.#plugin("idle-timeout", direction);
    const idleMs = this.#ms(`${idle}.downstream`) ?? DOWNSTREAM_IDLE_TIMEOUT_MS;
    const announces = this.#values.get(`${keepAlive}.downstream.advertise`) === true;
    const callers = this.#callers(direction);
    return downstreamOf({
      keepAlive: this.#values.get(`${keepAlive}.downstream.enabled`) !== false,
      idleMs,
      // In whole seconds, rounded down.
      announcedMs: announces && Number.isFinite(idleMs) ? Math.floor(idleMs / 1000) * 1000 : undefined,
      maxRequests: this.#most(`${keepAlive}.downstream.maxRequests`),
      maxAgeMs: this.#ms(`${keepAlive}.downstream.maxAge`) ?? Number.POSITIVE_INFINITY,
      tcpKeepAliveMs: this.#tcpKeepAliveMs(direction, "downstream", ""),
      closedHere: callers?.closedByUs,
      notes: callers === undefined ? [] : callerNotes(callers),
    });
  }

  #upstream(route: SidecarRoute): Upstream {
    const { direction, upstream } = route;
    const keepAlive = this.#plugin("keep-alive", direction);
    const idle = this.#plugin("idle-timeout", direction);
    const ownMs = this.#ms(`${idle}.upstream`) ?? UPSTREAM_IDLE_TIMEOUT_MS;
    const configuredMs = idle === undefined ? ownMs : (this.#ms(`backends.${upstream}.keepaliveTime`) ?? ownMs);
    const origin = this.#origin(route);
    const seen = origin === undefined ? undefined : leaves(origin, this.#values.get(`${idle}.learn`) !== false);
    return upstreamOf({
      keepAlive: this.#values.get(`${keepAlive}.upstream.enabled`) !== false,
      idleMs: Math.min(configuredMs, seen?.idleMs ?? Number.POSITIVE_INFINITY),
      idleEvidence: seen?.evidence,
      notes: origin === undefined ? [] : upstreamNotes(origin, seen?.evidence, configuredMs),
      maxRequests: this.#most(`${keepAlive}.upstream.maxRequests`),
      maxAgeMs: this.#ms(`${keepAlive}.upstream.maxAge`) ?? Number.POSITIVE_INFINITY,
      tcpKeepAliveMs: this.#tcpKeepAliveMs(direction, "upstream", upstream),
      // What an open connection was told is in its limit already.
      readsHint: idle !== undefined && (origin === undefined || origin.idleLimit === null),
      asksForHint: true,
      hintMarginMs: this.#ms(`${idle}.margin`) ?? HINT_MARGIN_MS,
    });
  }

  #origin(route: SidecarRoute): OriginState | undefined {
    return this.#seen.origins.find((each) => isOf(each, route));
  }

  #callers(direction: Direction): CallerState | undefined {
    return this.#seen.callers.find((each) => each.direction === direction);
  }

  #tcpKeepAliveMs(direction: Direction, side: "downstream" | "upstream", upstream: string): number {
    const plugin = this.#plugin("tcp-keepalive", direction);
    if (plugin === undefined) return Number.POSITIVE_INFINITY;
    const backend = `backends.${upstream}.tcpKeepalive`;
    const own = this.#values.get(`${backend}.enable`);
    const isOn = typeof own === "boolean" ? own : this.#values.get(`${plugin}.${side}.enable`) === true;
    if (!isOn) return Number.POSITIVE_INFINITY;
    return this.#ms(`${backend}.time`) ?? this.#ms(`${plugin}.${side}.time`) ?? Number.POSITIVE_INFINITY;
  }

  #settings(upstream: string): Templates {
    const isBackend = this.#text(`backends.${upstream}.address`) !== undefined;
    const at = (plugin: string): string => `sidecar.json: { "use": "${plugin}", "config": `;
    return {
      downstreamIdle: `${at("idle-timeout")}{ "downstream": "{d}" } }`,
      downstreamMaxRequests: `${at("keep-alive")}{ "downstream": { "maxRequests": {n} } } }`,
      downstreamTcpKeepAlive: `${at("tcp-keepalive")}{ "downstream": { "time": "{d}" } } }`,
      downstreamKeepAlive: `${at("keep-alive")}{ "downstream": { "enabled": true } } }`,
      upstreamIdle: isBackend
        ? `sidecar.json: "backends": { "${upstream}": { "keepaliveTime": "{d}" } }`
        : `${at("idle-timeout")}{ "upstream": "{d}" } }`,
      upstreamMaxRequests: `${at("keep-alive")}{ "upstream": { "maxRequests": {n} } } }`,
      upstreamMaxAge: `${at("keep-alive")}{ "upstream": { "maxAge": "{d}" } } }`,
      upstreamTcpKeepAlive: isBackend
        ? `sidecar.json: "backends": { "${upstream}": { "tcpKeepalive": { "enable": true, "time": "{d}" } } }`
        : `${at("tcp-keepalive")}{ "upstream": { "time": "{d}" } } }`,
      upstreamKeepAlive: `${at("keep-alive")}{ "upstream": { "enabled": true } } }`,
      drain: 'sidecar.json: "drain": { "deadline": "{d}" }',
    };
  }

  /** Where the configuration of a plugin stands, `plugins[2].config`, when it runs in this direction. */
  #plugin(name: string, direction: Direction): string | undefined {
    for (let index = 0; this.#values.has(`plugins[${index}].use`); index++) {
      if (this.#values.get(`plugins[${index}].use`) !== name) continue;
      const directions = this.#values.get(`plugins[${index}].directions`);
      if (!Array.isArray(directions) || directions.includes(direction)) return `plugins[${index}].config`;
    }
    return undefined;
  }

  #text(key: string): string | undefined {
    const value = this.#values.get(key);
    return typeof value === "string" ? value : undefined;
  }

  #ms(key: string): number | undefined {
    const text = this.#text(key);
    return text === undefined ? undefined : parseDuration(text);
  }

  /** A number where 0 is no limit. */
  #most(key: string): number {
    const value = this.#values.get(key);
    return typeof value === "number" && value > 0 ? value : Number.POSITIVE_INFINITY;
  }
}
