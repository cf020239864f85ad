/**
 * Request → upstream.
 *
 * @module
 */

import type { OutboundConfig, Upstream } from "../config/sidecar-config.ts";
import { HoldfastError } from "../errors.ts";
import type { Origin, Route } from "../plugin/api.ts";
import type { Backends } from "./backends.ts";
import type { CheckedHead } from "./request-rules.ts";

/** Finds where a request goes. */
export interface Router {
  /** @throws HoldfastError `HF_NO_ROUTE`, `HF_BAD_HOST`, `HF_METHOD_NOT_ALLOWED` */
  route(head: CheckedHead): Route;
  /** The routes of the configuration. */
  readonly configured: readonly Route[];
  /** Whether requests can also go elsewhere: to the origin that they name. */
  readonly passes: boolean;
}

/** Where routes find the live object of a backend. */
type NamedBackends = Pick<Backends, "get">;

/** Inbound: everything goes to the service beside us. */
export function inboundRouter(upstream: Upstream, backends: NamedBackends): Router {
  const only = routeTo(upstream, backends);
  return {
    configured: [only],
    passes: false,
    route(head) {
      if (head.form === "authority") {
        throw new HoldfastError("HF_METHOD_NOT_ALLOWED", "CONNECT is not allowed inbound");
      }
      return only;
    },
  };
}

/** Outbound: by what the request names: the first matching route, else the name itself or 403. */
export function outboundRouter(config: OutboundConfig, backends: NamedBackends): Router {
  const routes = config.routes.map((entry) => ({ ...entry, route: routeTo(entry.upstream, backends) }));
  // A route without a port is found by name at once; the rest are looked through in order.
  const simple = routes.every((entry) => entry.port === undefined && !entry.host.startsWith("*."));
  const byHost = new Map(routes.toReversed().map((entry) => [entry.host, entry.route]));

  function find(host: string, port: number): Route | undefined {
    if (simple) return byHost.get(host);
    return routes.find((entry) => matchesHost(entry.host, host) && (entry.port ?? port) === port)?.route;
  }

  return {
    configured: routes.map(({ route }) => route),
    passes: config.unmatched === "pass",
    route(head) {
      const { host, port } = hostAndPort(head);
      const found = find(host, port);
      if (found !== undefined) return found;
      if (config.unmatched === "deny") {
        throw new HoldfastError("HF_NO_ROUTE", `no route for ${host}:${port}, and outbound.unmatched is "deny"`);
      }
      const origin: Origin = { scheme: head.scheme, host, port };
      return { name: originName(origin), origin, backend: undefined };
    },
  };
}

/** `http://host:port`, the form in logs, traces and as a key. */
export function originName(origin: Origin): string {
  const host = origin.host.includes(":") ? `[${origin.host}]` : origin.host;
  return `${origin.scheme}://${host}:${origin.port}`;
}

function routeTo(upstream: Upstream, backends: NamedBackends): Route {
  const backend = upstream.backend === undefined ? undefined : backends.get(upstream.backend);
  return { name: upstream.backend ?? originName(upstream.origin), origin: upstream.origin, backend };
}

function matchesHost(pattern: string, host: string): boolean {
  return pattern.startsWith("*.")
    ? host.endsWith(pattern.slice(1)) && host.length > pattern.length - 1
    : pattern === host;
}

function hostAndPort(head: CheckedHead): { host: string; port: number } {
  const { authority } = head;
  if (authority === "") throw new HoldfastError("HF_BAD_HOST", "the request names no host");
  const colon = authority.lastIndexOf(":");
  const hasPort = colon > authority.lastIndexOf("]") && colon !== authority.length - 1;
  const name = colon > authority.lastIndexOf("]") ? authority.slice(0, colon) : authority;
  const port = hasPort ? Number(authority.slice(colon + 1)) : head.scheme === "https" ? 443 : 80;
  return { host: name.replace(/^\[(.*)\]$/, "$1").toLowerCase(), port };
}
