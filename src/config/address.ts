/**
 * Addresses as configuration writes them: `host:port`, origins and the hosts of routes.
 *
 * @module
 */
import { BlockList, isIP, isIPv6 } from "node:net";
import type { Origin } from "../plugin/api.ts";
import type { HostPort } from "./sidecar-config.ts";

const NAME = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/i;
const DIGITS_AND_DOTS = /^[\d.]+$/;

/** Whether this is a host name or an IP address (IPv6 without brackets). */
export function isHost(text: string): boolean {
  if (isIP(text) !== 0) return true;
  // "999.1.1.1" and "1.2.3" look like names to the grammar, and are mistyped addresses.
  return NAME.test(text) && !DIGITS_AND_DOTS.test(text);
}

function parsePort(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65_535 ? port : undefined;
}

/** Host, without brackets, and port of `host`, `host:port` or `[ipv6]:port`; `undefined` if it is none of them. */
function splitHost(text: string): { host: string; port: number | undefined } | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d+))?$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, plain, portText] = match;
  const host = bracketed ?? plain ?? "";
  if (bracketed !== undefined ? !isIPv6(bracketed) : !isHost(host)) return undefined;
  if (portText === undefined) return { host, port: undefined };
  const port = parsePort(portText);
  return port === undefined ? undefined : { host, port };
}

/**
 * An address to listen on: `"127.0.0.1:15001"`, `"[::1]:80"`, `"localhost:0"`. Port 0 lets the kernel choose.
 *
 * @throws TypeError that says what is allowed
 */
export function parseHostPort(text: string): HostPort {
  const parts = splitHost(text);
  if (parts?.port === undefined) {
    throw new TypeError('must be host:port with a port from 0 to 65535: "127.0.0.1:15001" or "[::1]:15001"');
  }
  return { host: parts.host, port: parts.port };
}

/** The text of an address, `"[::1]:80"`. */
export function formatHostPort({ host, port }: HostPort): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/** Whether a configuration value means an origin URL, right or wrong, and not the name of a backend. */
export function looksLikeUrl(text: string): boolean {
  return /[:/]/.test(text);
}

/**
 * An origin: `"http://127.0.0.1:8080"`, `"https://inventory.internal"`. Without a port it is 80 or 443.
 *
 * @throws TypeError that says what is allowed; it never repeats credentials
 */
export function parseOrigin(text: string): Origin {
  const match = /^(https?):\/\/([^/?#]*)\/?$/i.exec(text);
  const authority = match?.[2] ?? "";
  if (authority.includes("@")) throw new TypeError("must not carry credentials");
  const parts = splitHost(authority);
  if (match === null || parts === undefined || parts.port === 0) {
    throw new TypeError('must be an origin without a path: "http://127.0.0.1:8080" or "https://host"');
  }
  const scheme = match[1]?.toLowerCase() === "https" ? "https" : "http";
  return { scheme, host: parts.host.toLowerCase(), port: parts.port ?? (scheme === "https" ? 443 : 80) };
}

/**
 * The host of a route: `"inventory.internal"`, `"inventory.internal:8080"`, `"[::1]:80"` or `"*.example.com"`, which
 * stands for every name under it. The host comes back in lower case.
 *
 * @throws TypeError that says what is allowed
 */
export function parseRouteHost(text: string): { host: string; port: number | undefined } {
  const wildcard = text.startsWith("*.");
  const parts = splitHost(wildcard ? text.slice(2) : text);
  if (parts === undefined || parts.port === 0 || (wildcard && isIP(parts.host) !== 0)) {
    throw new TypeError(
      'must be a host, with or without a port: "inventory.internal", "inventory.internal:8080" or "*.example.com"',
    );
  }
  return { host: (wildcard ? "*." : "") + parts.host.toLowerCase(), port: parts.port };
}

/** Addresses with the same beginning. */
export interface AddressRange {
  readonly address: string;
  /** How many bits of the address count. */
  readonly prefix: number;
  readonly family: "ipv4" | "ipv6";
}

/**
 * A range of addresses, `"10.0.0.0/8"` or `"fd00::/8"`, or a single one, `"192.0.2.1"`.
 *
 * @throws TypeError that says what is allowed
 */
export function parseRange(text: string): AddressRange {
  const [, address = "", prefixText] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const version = isIP(address);
  const bits = version === 6 ? 128 : 32;
  const prefix = prefixText === undefined ? bits : Number(prefixText);
  if (version === 0 || prefix > bits || address.includes("%")) {
    throw new TypeError(
      'must be a list of addresses or ranges in CIDR notation: "10.0.0.0/8", "fd00::/8", "192.0.2.1"',
    );
  }
  return { address, prefix, family: version === 6 ? "ipv6" : "ipv4" };
}

/** Whether both listen on the same address of this machine, wildcard addresses included. */
export function overlaps(one: HostPort, other: HostPort): boolean {
  if (one.port !== other.port || one.port === 0) return false;
  const everyAddress = (host: string): boolean => host === "0.0.0.0" || host === "::";
  return one.host === other.host || everyAddress(one.host) || everyAddress(other.host);
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Whether a host is this machine by its loopback interface: `localhost`, `127.0.0.0/8`, `::1`, `::ffff:127.0.0.1`. */
export function isLoopback(host: string): boolean {
  const family = isIP(host);
  return family === 0 ? host.toLowerCase() === "localhost" : LOOPBACK.check(host, family === 6 ? "ipv6" : "ipv4");
}

/** Whether an upstream at `origin` would be our own listener. */
export function isOwnListener(listen: HostPort, origin: Origin): boolean {
  if (listen.port !== origin.port || listen.port === 0) return false;
  if (listen.host === origin.host) return true;
  return isLoopback(origin.host) && (listen.host === "0.0.0.0" || listen.host === "::" || listen.host === "localhost");
}
