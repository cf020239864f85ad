/**
 * What one configuration means to a direction: whatever a new exchange must find all of one piece.
 *
 * @module
 */
import type { HostPort, Limits, ListenerTls } from "../config/sidecar-config.ts";
import type { Chain } from "../plugin/chain.ts";
import type { ForwardingFields } from "./forwarding.ts";
import type { Router } from "./route.ts";
import type { UpstreamTlsMaterial } from "./tls/upstream-material.ts";

/**
 * One configuration at work. Each exchange takes the current one when it begins and keeps it to its end; a reload puts
 * another in its place.
 */
export interface Generation {
  /** The same object as before when nothing of the direction's plugins is different. */
  readonly chain: Chain;
  readonly router: Router;
  readonly limits: Limits;
  readonly forwarding: ForwardingFields;
  readonly listen: HostPort;
  /** TLS that ends at the listener; `undefined`: it is plain. */
  readonly listenerTls: ListenerTls | undefined;
  /** Whether HTTP/2 is taken from downstream. */
  readonly http2: boolean;
  readonly connectTimeoutMs: number;
  readonly responseTimeoutMs: number;
  readonly tunnelIdleTimeoutMs: number;
  /** How often the name of an upstream in use is looked up again, in milliseconds; `Infinity`: never. */
  readonly dnsRefreshMs: number;
  /** TLS towards backends and origins, by name. */
  readonly upstreamTls: ReadonlyMap<string, UpstreamTlsMaterial>;
}
