/**
 * Who may call what. Without a token the admin API relies on being called from this machine; with one, on the token.
 * In both cases not by a web page of somebody else's.
 *
 * @module
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { isLoopback } from "../config/address.ts";
import { AdminError } from "./route.ts";

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
      `only /healthz and /readyz are served to other machines; call this route from the machine itself (you are ${peer}), or set admin.token`,
    );
  }
  const host = hostname(hostField);
  if (host === undefined || !(isLoopback(host) || host === listenHost.toLowerCase())) {
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
 * Refuses a request that does not carry the token (RFC 6750 §2.1). How long it takes tells nothing about the token.
 *
 * @throws AdminError 401
 */
export function assertToken(authorization: string | undefined, token: string): void {
  const [, given] = /^Bearer +([\w.~+/=-]+) *$/i.exec(authorization ?? "") ?? [];
  // Digests have one length, whatever was given.
  if (given !== undefined && timingSafeEqual(digest(given), digest(token))) return;
  const wrong = authorization === undefined ? "there is no Authorization" : "this is not the token";
  throw new AdminError(401, `${wrong}; send Authorization: Bearer with the value of admin.token`, {
    field: "Authorization",
    headers: { "WWW-Authenticate": 'Bearer realm="holdfast"' },
  });
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/**
 * Refuses what a browser sends on behalf of another site's page. Following a link to a page of ours changes nothing
 * and is not refused.
 *
 * @throws AdminError 403
 */
export function assertSameOrigin(method: string, headers: IncomingHttpHeaders): void {
  const { origin, host, "sec-fetch-site": site, "sec-fetch-mode": mode } = headers;
  const crossOrigin = origin !== undefined && origin.toLowerCase() !== `http://${host?.toLowerCase()}`;
  const crossSite = site !== undefined && site !== "same-origin" && site !== "none";
  const isLink = method === "GET" && mode === "navigate" && headers["sec-fetch-dest"] === "document";
  if (crossOrigin || (crossSite && !isLink)) {
    throw new AdminError(403, "a page of another origin may not call this process", {
      field: crossOrigin ? "Origin" : "Sec-Fetch-Site",
    });
  }
}

/** Host name or address of a `Host` value in lower case, without port and brackets; `undefined` if it is not one. */
function hostname(value: string | undefined): string | undefined {
  if (value === undefined || !/^[\w.:[\]-]+$/.test(value)) return undefined;
  return URL.parse(`http://${value}`)?.hostname.replace(/^\[(.*)\]$/, "$1");
}
