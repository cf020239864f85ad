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

/** One value of a configuration. */
export interface Value {
  readonly key: string;
  readonly value: unknown;
}

/** What is read of an origin in `GET /origins`. */
export interface OriginState {
  readonly direction: string;
  readonly origin: string;
  readonly backend: string | null;
  readonly learned: { readonly idle: { readonly leaveAfterMs: number } | null };
}

/** A direction of a sidecar, with one of its upstreams. */
export interface SidecarRoute {
  readonly direction: Direction;
  /** The upstream as configuration names it. */
  readonly upstream: string;
}

/** A sidecar's configuration, for looking up. */
export class SidecarValues {
  readonly #values: ReadonlyMap<string, unknown>;
  readonly #origins: readonly OriginState[];

  /** @param origins - what one that runs knows of whom it calls */
  constructor(values: readonly Value[], origins: readonly OriginState[] = []) {
    this.#values = new Map(values.map(({ key, value }) => [key, value]));
    this.#origins = origins;
  }

  /** Name of the service. */
  get service(): string {
    return this.#text("service") ?? "service";
  }

  /** Every way through the sidecar: inbound first, then each upstream of a route once. */
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
    return [...found.values()].sort((one, other) => one.direction.localeCompare(other.direction));
  }

  /** What stands in front of inbound, if the configuration says. */
  get loadBalancer(): HttpHop | undefined {
    const idleMs = this.#ms("inbound.loadBalancer.idleTimeout");
    if (idleMs === undefined) return undefined;
    const name = this.#text("inbound.loadBalancer.name") ?? "load balancer";
    const hop = hopOf({ name, title: name, sources: [], upstream: { idleMs }, settings: {} });
    return hop.kind === "http" ? hop : undefined;
  }

  /** The sidecar as a hop. */
  hop({ direction, upstream }: SidecarRoute): HttpHop {
    return {
      kind: "http",
      name: `holdfast (${this.service}, ${direction})`,
      product: "holdfast",
      downstream: this.#downstream(direction),
      upstream: this.#upstream(direction, upstream),
      drainMs: this.#ms("drain.deadline"),
      deregistrationMs: undefined,
      rttMs: undefined,
      tls: false,
      settings: this.#settings(upstream),
      symptom: "502 with HF_UPSTREAM_CLOSED for requests that must not be repeated; the others are sent again",
    };
  }

  #downstream(direction: Direction): Downstream {
    const keepAlive = this.#plugin("keep-alive", direction);
    const idle = this.#plugin("idle-timeout", direction);
    const idleMs = this.#ms(`${idle}.downstream`) ?? DOWNSTREAM_IDLE_TIMEOUT_MS;
    const announces = this.#values.get(`${keepAlive}.downstream.advertise`) === true;
    return downstreamOf({
      keepAlive: this.#values.get(`${keepAlive}.downstream.enabled`) !== false,
      idleMs,
      // In whole seconds, rounded down.
      announcedMs: announces && Number.isFinite(idleMs) ? Math.floor(idleMs / 1000) * 1000 : undefined,
      maxRequests: this.#most(`${keepAlive}.downstream.maxRequests`),
      maxAgeMs: this.#ms(`${keepAlive}.downstream.maxAge`) ?? Number.POSITIVE_INFINITY,
      tcpKeepAliveMs: this.#tcpKeepAliveMs(direction, "downstream", ""),
    });
  }

  #upstream(direction: Direction, upstream: string): Upstream {
    const keepAlive = this.#plugin("keep-alive", direction);
    const idle = this.#plugin("idle-timeout", direction);
    const ownMs = this.#ms(`${idle}.upstream`) ?? UPSTREAM_IDLE_TIMEOUT_MS;
    return upstreamOf({
      keepAlive: this.#values.get(`${keepAlive}.upstream.enabled`) !== false,
      idleMs: Math.min(
        idle === undefined ? ownMs : (this.#ms(`backends.${upstream}.keepaliveTime`) ?? ownMs),
        this.#values.get(`${idle}.learn`) === false ? Number.POSITIVE_INFINITY : this.#learnedMs(direction, upstream),
      ),
      maxRequests: this.#most(`${keepAlive}.upstream.maxRequests`),
      maxAgeMs: this.#ms(`${keepAlive}.upstream.maxAge`) ?? Number.POSITIVE_INFINITY,
      tcpKeepAliveMs: this.#tcpKeepAliveMs(direction, "upstream", upstream),
      readsHint: idle !== undefined,
      hintMarginMs: this.#ms(`${idle}.margin`) ?? 5000,
    });
  }

  /** When idle connections are left because of what was learned; `Infinity` when nothing was. */
  #learnedMs(direction: Direction, upstream: string): number {
    const origin = this.#origins.find((each) => {
      if (each.direction !== direction) return false;
      if (each.backend !== null) return each.backend === upstream;
      return URL.parse(each.origin)?.href === URL.parse(upstream)?.href;
    });
    return origin?.learned.idle?.leaveAfterMs ?? Number.POSITIVE_INFINITY;
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
