/**
 * From a configuration to what a direction works with.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { Limits, SidecarConfig, Upstream } from "./config/sidecar-config.ts";
import { HoldfastError } from "./errors.ts";
import type { Filters } from "./filters.ts";
import type { Loaded } from "./load.ts";
import type { Direction } from "./plugin/api.ts";
import type { PlannedBackends } from "./proxy/backends.ts";
import type { Generation } from "./proxy/generation.ts";
import { inboundRouter, originName, outboundRouter, type Router } from "./proxy/route.ts";
import { readUpstreamMaterial, type UpstreamTlsMaterial } from "./proxy/tls/upstream-material.ts";
import { TrustedPeers } from "./proxy/trusted-peers.ts";

/** What a generation is built with, besides its configuration. */
export interface GenerationOptions {
  readonly backends: PlannedBackends;
  readonly filters: Filters;
  /** Tells this process from others of the same service, to recognise a loop. */
  readonly instance: string;
  /** Gets what cannot be used; the generation is then only good to be discarded. */
  readonly failures: unknown[];
  /** The configuration before, and what it meant: what is not different is taken over. */
  readonly inForce?: { readonly from: Loaded; readonly generation: Generation };
}

/**
 * What a configuration means to a direction.
 *
 * @returns `undefined` when the configuration does not have this direction
 */
export async function buildGeneration(
  name: Direction,
  loaded: Loaded,
  { backends, filters, instance, failures, inForce }: GenerationOptions,
): Promise<Generation | undefined> {
  const { config } = loaded.loaded;
  const { service, forwarding } = config;
  const settings = config[name];
  if (settings === undefined) return undefined;
  const pseudonym = `holdfast-${service.replace(/[^A-Za-z0-9_-]/g, "-")}-${name}-${instance}`;
  const chainInForce = inForce && { from: inForce.from, chain: inForce.generation.chain };
  return {
    chain: await filters.chain(loaded, chainInForce, failures),
    router: routerOf(name, config, backends),
    limits: sameLimits(inForce?.generation.limits, config.limits),
    forwarding: {
      trusted: name === "inbound" ? new TrustedPeers(forwarding.trusted) : undefined,
      // Outbound requests start at our own service: there is nobody before it to name.
      xForwarded: forwarding.xForwarded && name === "inbound",
      forwarded: forwarding.forwarded && name === "inbound",
      via: forwarding.via ? pseudonym : undefined,
    },
    listen: settings.listen,
    listenerTls: settings.tls,
    http2: settings.http2,
    connectTimeoutMs: settings.connectTimeoutMs,
    responseTimeoutMs: settings.responseTimeoutMs,
    tunnelIdleTimeoutMs: settings.tunnelIdleTimeoutMs,
    dnsRefreshMs: settings.dnsRefreshMs,
    upstreamTls: readUpstreamTls(upstreamsOf(name, config), failures),
  };
}

function routerOf(name: Direction, { inbound, outbound }: SidecarConfig, backends: PlannedBackends): Router {
  return name === "inbound" ? inboundRouter(inbound!.upstream, backends) : outboundRouter(outbound!, backends);
}

function upstreamsOf(name: Direction, { inbound, outbound }: SidecarConfig): Upstream[] {
  return name === "inbound" ? [inbound!.upstream] : outbound!.routes.map(({ upstream }) => upstream);
}

/** The same object where nothing is different: forwarders keep what they made for it. */
function sameLimits(before: Limits | undefined, limits: Limits): Limits {
  return before !== undefined && isDeepStrictEqual(before, limits) ? before : limits;
}

/** By name of the backend, or of the origin. */
function readUpstreamTls(upstreams: readonly Upstream[], failures: unknown[]): Map<string, UpstreamTlsMaterial> {
  const materials = new Map<string, UpstreamTlsMaterial>();
  for (const { origin, backend, tls } of upstreams) {
    if (tls === undefined) continue;
    const name = backend ?? originName(origin);
    try {
      materials.set(name, readUpstreamMaterial(tls));
    } catch (error) {
      failures.push(
        new HoldfastError("HF_CONFIG", `TLS towards ${name}: ${(error as Error).message}`, { cause: error }),
      );
    }
  }
  return materials;
}
