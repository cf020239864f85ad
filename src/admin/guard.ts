/**
 * Who may call what. The admin API has no password: it relies on being called from this machine, by something that
 * is not a web page of somebody else's.
 *
 * @module
 */
import type { IncomingHttpHeaders } from "node:http";
import { BlockList, isIP } from "node:net";
import { AdminError } from "./route.ts";

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/**
 * Refuses a request for a route that is not open, unless it comes from this machine and names it.
 *
 * A web page can make a browser on this machine call us under the page's own name, by pointing that name at
 * 127.0.0.1 (DNS rebinding): `Host` gives it away.
 *
 * @param peer - address of the other end of the socket
 * @param hostField - value of `Host`
 * @param listenHost - `admin.listen`'s host, which is a good `Host` too
 * @throws AdminError 403
 */
export function assertLocal(peer: string, hostField: string | undefined, listenHost: string): void {
  if (!isLoopback(peer)) {
    throw new AdminError(
      403,
      `only /healthz, /readyz and /metrics are served to other machines; call this route from the machine itself (you are ${peer})`,
    );
  }
  const host = hostname(hostField);
  if (host === undefined || !(host === "localhost" || isLoopback(host) || host === listenHost.toLowerCase())) {
    throw new AdminError(
      403,
      "the Host header names another machine; call this route as http://127.0.0.1 or localhost",
      {
        field: "Host",
        allowed: ["localhost", "127.0.0.1", "[::1]"],
      },
    );
  }
}

/**
 * Refuses a change that a browser sends on behalf of another site's page.
 *
 * @throws AdminError 403
 */
export function assertSameOrigin(headers: IncomingHttpHeaders): void {
  const { origin, host, "sec-fetch-site": site } = headers;
  const crossOrigin = origin !== undefined && origin.toLowerCase() !== `http://${host?.toLowerCase()}`;
  const crossSite = site !== undefined && site !== "same-origin" && site !== "none";
  if (crossOrigin || crossSite) {
    throw new AdminError(403, "a page of another origin may not change this process", {
      field: crossOrigin ? "Origin" : "Sec-Fetch-Site",
    });
  }
}

function isLoopback(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && LOOPBACK.check(address, family === 6 ? "ipv6" : "ipv4");
}

/** Host name or address of a `Host` value in lower case, without port and brackets; `undefined` if it is not one. */
function hostname(value: string | undefined): string | undefined {
  if (value === undefined || !/^[\w.:[\]-]+$/.test(value)) return undefined;
  return URL.parse(`http://${value}`)?.hostname.replace(/^\[(.*)\]$/, "$1");
}
