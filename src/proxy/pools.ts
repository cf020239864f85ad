/**
 * All pools of one direction.
 *
 * @module
 */
import { lookup as systemLookup } from "node:dns";
import { readFileSync } from "node:fs";
import type { LookupFunction } from "node:net";
import tls from "node:tls";
import type { UpstreamTls } from "../config/sidecar-config.ts";
import type { Learning } from "../learning/learning.ts";
import type { Direction, Route } from "../plugin/api.ts";
import type { Chain } from "../plugin/chain.ts";
import type { OwnPorts, TlsOrigin } from "./connect.ts";
import type { ProxyConnection } from "./connection.ts";
import { OriginPool } from "./pool.ts";
import { NameWatch } from "./resolve.ts";
import { originName } from "./route.ts";

/** How long a pool that holds nothing is remembered, in milliseconds. */
const FORGET_AFTER_MS = 600_000;

/** What all pools of a direction share. */
export interface PoolsOptions {
  readonly direction: Direction;
  readonly chain: Chain;
  readonly connectTimeoutMs: number;
  /** Default idle limit of upstream connections, in milliseconds. */
  readonly idleTimeoutMs: number;
  /** TLS settings of origins that have some, by {@link originName}. */
  readonly tls: ReadonlyMap<string, UpstreamTls>;
  /** How often the name of an origin in use is looked up again, in milliseconds; `Infinity`: never. */
  readonly dnsRefreshMs: number;
  /** How names are looked up. Default: as the system does it. */
  readonly lookup?: LookupFunction | undefined;
  /** See `ConnectOptions`. */
  readonly ownPorts?: OwnPorts | undefined;
  /** What is known of every origin. */
  readonly learning: Learning;
  readonly onOpen: (connection: ProxyConnection) => void;
}

interface Entry {
  readonly pool: OriginPool;
  /** `undefined` where nothing can move, or nobody wants to know. */
  readonly name: NameWatch | undefined;
  usedAtMs: number;
}

/** Pools by origin, made as they are needed. */
export class Pools implements Iterable<OriginPool> {
  readonly #options: PoolsOptions;
  readonly #pools = new Map<string, Entry>();
  /** Name of a route's pool, so that it is built once per route. */
  readonly #keys = new WeakMap<Route, string>();

  constructor(options: PoolsOptions) {
    this.#options = options;
  }

  /** The pool that a route leads to. A backend has a pool of its own, even at an origin that others use too. */
  of(route: Route): OriginPool {
    let key = this.#keys.get(route);
    if (key === undefined) {
      key = route.backend === undefined ? originName(route.origin) : `${route.name} ${originName(route.origin)}`;
      this.#keys.set(route, key);
    }
    let entry = this.#pools.get(key);
    if (entry === undefined) {
      entry = { pool: this.#create(route), name: this.#watchName(route), usedAtMs: 0 };
      this.#pools.set(key, entry);
    }
    entry.usedAtMs = performance.now();
    return entry.pool;
  }

  *[Symbol.iterator](): Iterator<OriginPool> {
    for (const { pool } of this.#pools.values()) yield pool;
  }

  /** Looks at limits that pass with time, and forgets pools that hold nothing. */
  sweep(nowMs: number): void {
    for (const [key, { pool, name, usedAtMs }] of this.#pools) {
      pool.sweep(nowMs);
      name?.sweep(nowMs, pool.open);
      if (pool.connections === 0 && pool.queued === 0 && nowMs - usedAtMs > FORGET_AFTER_MS) this.#pools.delete(key);
    }
  }

  /** Closes idle connections now and the others as they finish. */
  drain(): void {
    for (const pool of this) pool.drain();
  }

  #create(route: Route): OriginPool {
    const { direction, chain, connectTimeoutMs, idleTimeoutMs, lookup, ownPorts, learning, onOpen } = this.#options;
    return new OriginPool({
      origin: route.origin,
      backend: route.backend,
      tls: route.origin.scheme === "https" ? this.#tls(route) : undefined,
      chain,
      connectTimeoutMs,
      idleTimeoutMs,
      direction,
      lookup,
      ownPorts,
      learned: learning.of(originName(route.origin), performance.now()),
      onOpen,
    });
  }

  #watchName({ origin: { host } }: Route): NameWatch | undefined {
    const { dnsRefreshMs, lookup = systemLookup } = this.#options;
    if (dnsRefreshMs === Number.POSITIVE_INFINITY || !NameWatch.canMove(host)) return undefined;
    return new NameWatch(host, dnsRefreshMs, lookup);
  }

  #tls(route: Route): TlsOrigin {
    const settings = this.#options.tls.get(route.name) ?? this.#options.tls.get(originName(route.origin));
    const read = (file: string | undefined) => (file === undefined ? undefined : readFileSync(file));
    const [ca, cert, key] = [read(settings?.ca), read(settings?.cert), read(settings?.key)];
    return {
      context: tls.createSecureContext({
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined ? {} : { cert }),
        ...(key === undefined ? {} : { key }),
        minVersion: "TLSv1.2",
      }),
      serverName: settings?.serverName,
      session: undefined,
    };
  }
}
