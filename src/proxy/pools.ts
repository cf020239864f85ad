/**
 * All pools of one direction.
 *
 * @module
 */
import { lookup as systemLookup } from "node:dns";
import type { LookupFunction } from "node:net";
import { isDeepStrictEqual } from "node:util";
import type { Learning } from "../learning/learning.ts";
import type { Direction, Route } from "../plugin/api.ts";
import { lastClock } from "./clock.ts";
import type { OwnPorts } from "./connect.ts";
import type { ProxyConnection } from "./connection.ts";
import type { Generation } from "./generation.ts";
import { OriginPool } from "./pool.ts";
import { NameWatch } from "./resolve.ts";
import { originName } from "./route.ts";
import { NO_MATERIAL, tlsOrigin, type UpstreamTlsMaterial } from "./tls/upstream-material.ts";

/** How long a pool that holds nothing is remembered, in milliseconds. */
const FORGET_AFTER_MS = 600_000;

/** What all pools of a direction share. */
export interface PoolsOptions {
  readonly direction: Direction;
  readonly generation: Generation;
  /** Default idle limit of upstream connections, in milliseconds. */
  readonly idleTimeoutMs: number;
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
  readonly route: Route;
  /** `undefined`: it is plain. */
  readonly material: UpstreamTlsMaterial | undefined;
  /** `undefined` where nothing can move, or nobody wants to know. */
  name: NameWatch | undefined;
  usedAtMs: number;
}

/** Pools by origin, made as they are needed. */
export class Pools implements Iterable<OriginPool> {
  readonly #options: PoolsOptions;
  readonly #pools = new Map<string, Entry>();
  /** Name of a route's pool, so that it is built once per route. */
  readonly #keys = new WeakMap<Route, string>();
  /** Pools that a reload made useless, until they are empty. */
  readonly #retired = new Set<OriginPool>();
  #generation: Generation;

  constructor(options: PoolsOptions) {
    this.#options = options;
    this.#generation = options.generation;
  }

  /**
   * Another configuration holds from now on. Pools of origins to which nothing changed stay as warm as they are; the
   * others close idle connections now and the rest as they finish.
   */
  renew(generation: Generation): void {
    const before = this.#generation;
    this.#generation = generation;
    for (const [key, entry] of this.#pools) {
      if (!this.#isWanted(entry)) {
        this.#retire(key, entry);
        continue;
      }
      try {
        entry.pool.renew(generation.chain, generation.connectTimeoutMs);
      } catch {
        // It is reported already; the next exchange makes the pool anew, and fails as it would have.
        this.#retire(key, entry);
        continue;
      }
      if (generation.dnsRefreshMs !== before.dnsRefreshMs) entry.name = this.#watchName(entry.route);
    }
  }

  #isConfigured(route: Route): boolean {
    const key = this.#keyOf(route);
    const { configured } = this.#generation.router;
    return configured.some((other) => this.#keyOf(other) === key && other.backend === route.backend);
  }

  #isWanted({ route, material }: Entry): boolean {
    const passes = this.#generation.router.passes && route.backend === undefined;
    if (!passes && !this.#isConfigured(route)) return false;
    return isDeepStrictEqual(material, this.#material(route));
  }

  #retire(key: string, { pool }: Entry): void {
    this.#pools.delete(key);
    this.#retired.add(pool);
    pool.drain();
  }

  /** The pool that a route leads to. A backend has a pool of its own, even at an origin that others use too. */
  of(route: Route): OriginPool {
    const key = this.#keyOf(route);
    let entry = this.#pools.get(key);
    if (entry === undefined) {
      const material = this.#material(route);
      entry = { pool: this.#create(route, material), route, material, name: this.#watchName(route), usedAtMs: 0 };
      this.#pools.set(key, entry);
    }
    entry.usedAtMs = lastClock();
    return entry.pool;
  }

  #keyOf(route: Route): string {
    let key = this.#keys.get(route);
    if (key === undefined) {
      key = route.backend === undefined ? originName(route.origin) : `${route.name} ${originName(route.origin)}`;
      this.#keys.set(route, key);
    }
    return key;
  }

  *[Symbol.iterator](): Iterator<OriginPool> {
    for (const { pool } of this.#pools.values()) yield pool;
    yield* this.#retired;
  }

  /** Looks at limits that pass with time, and forgets pools that hold nothing. */
  sweep(nowMs: number): void {
    for (const [key, { pool, name, usedAtMs }] of this.#pools) {
      pool.sweep(nowMs);
      name?.sweep(nowMs, pool.open);
      if (pool.connections === 0 && pool.queued === 0 && nowMs - usedAtMs > FORGET_AFTER_MS) this.#pools.delete(key);
    }
    for (const pool of this.#retired) {
      pool.sweep(nowMs);
      if (pool.connections === 0 && pool.queued === 0) this.#retired.delete(pool);
    }
  }

  /** Closes idle connections now and the others as they finish. */
  drain(): void {
    for (const pool of this) pool.drain();
  }

  #create(route: Route, material: UpstreamTlsMaterial | undefined): OriginPool {
    const { direction, idleTimeoutMs, lookup, ownPorts, learning, onOpen } = this.#options;
    const { chain, connectTimeoutMs } = this.#generation;
    return new OriginPool({
      origin: route.origin,
      backend: route.backend,
      tls: material === undefined ? undefined : tlsOrigin(material),
      chain,
      connectTimeoutMs,
      idleTimeoutMs,
      direction,
      lookup,
      ownPorts,
      isConfigured: () => this.#isConfigured(route),
      learned: learning.of(originName(route.origin), performance.now()),
      onOpen,
    });
  }

  #watchName({ origin: { host } }: Route): NameWatch | undefined {
    const { lookup = systemLookup } = this.#options;
    const { dnsRefreshMs } = this.#generation;
    if (dnsRefreshMs === Number.POSITIVE_INFINITY || !NameWatch.canMove(host)) return undefined;
    return new NameWatch(host, dnsRefreshMs, lookup);
  }

  #material(route: Route): UpstreamTlsMaterial | undefined {
    if (route.origin.scheme !== "https") return undefined;
    const { upstreamTls } = this.#generation;
    return upstreamTls.get(route.name) ?? upstreamTls.get(originName(route.origin)) ?? NO_MATERIAL;
  }
}
