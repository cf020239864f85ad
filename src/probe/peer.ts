/**
 * Whom `holdfast probe` measures, and what it may do to it.
 *
 * @module
 */
import type { Origin } from "../plugin/api.ts";

/** Methods that change nothing (RFC 9110 §9.2.1), and so may be sent many times to anybody. */
export const METHODS = ["GET", "HEAD", "OPTIONS"] as const;

/** Method of the requests that are sent. */
export type ProbeMethod = (typeof METHODS)[number];

/** Whom to ask for what. */
export interface Peer {
  /** As it was given. */
  readonly url: string;
  readonly origin: Origin;
  /** Path and query. */
  readonly path: string;
  /** What to ask for in `Host`, and in TLS, instead of the URL's host: `name` or `name:port`. */
  readonly host: string | undefined;
}

/** The peer that a URL names. */
export type ParsedPeer = { readonly peer: Peer } | { readonly wrong: string };

/**
 * Reads a URL such as `https://inventory.internal:8443/health?x=1`.
 *
 * @param name - see {@link Peer.host}
 * @returns the peer, or one line that says what is wrong
 */
export function parsePeer(text: string, name?: string): ParsedPeer {
  const url = URL.parse(text);
  if (url === null || !/^https?:\/\//i.test(text)) {
    return { wrong: `${JSON.stringify(text)} is not a URL such as "http://127.0.0.1:8080/health"` };
  }
  // The URL is printed again, and credentials would be with it.
  if (url.username !== "" || url.password !== "") return { wrong: "a URL must not carry credentials" };
  const scheme = url.protocol === "https:" ? "https" : "http";
  const port = url.port === "" ? (scheme === "https" ? 443 : 80) : Number(url.port);
  if (port === 0) return { wrong: `${JSON.stringify(text)}: nothing listens on port 0` };
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return { peer: { url: url.href, origin: { scheme, host, port }, path: url.pathname + url.search, host: name } };
}

/** Whether it can be a {@link Peer.host}. */
export function isHostName(text: string): boolean {
  return /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(?::[1-9]\d{0,4})?$/.test(text);
}

/** The name that TLS asks for and verifies; `undefined`: the URL's host. */
export function serverName({ host }: Peer): string | undefined {
  return host?.replace(/:\d+$/, "");
}

/** The value of `Host`. */
export function hostField({ origin: { scheme, host, port }, host: name }: Peer): string {
  if (name !== undefined) return name;
  const written = host.includes(":") ? `[${host}]` : host;
  return port === (scheme === "https" ? 443 : 80) ? written : `${written}:${port}`;
}
