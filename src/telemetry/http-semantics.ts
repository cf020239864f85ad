/**
 * How requests are written into telemetry: known methods, server address, query values that must not be shown.
 *
 * @module
 */
import type { Origin, Protocol } from "../plugin/api.ts";
import { OTHER } from "./names.ts";

/** Methods that telemetry names; every other one is `_OTHER` (RFC 9110 §9, RFC 5789, QUERY). */
export const KNOWN_METHODS: ReadonlySet<string> = new Set([
  "CONNECT",
  "DELETE",
  "GET",
  "HEAD",
  "OPTIONS",
  "PATCH",
  "POST",
  "PUT",
  "QUERY",
  "TRACE",
]);

/** The method, or `_OTHER` when it is not in the list: a peer cannot make up values without end. */
export function normaliseMethod(method: string, known: ReadonlySet<string>): string {
  return known.has(method) ? method : OTHER;
}

// The list of the semantic conventions for url.query and url.full; case-sensitive by their word.
const SENSITIVE_QUERY =
  /(^|&)(X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|AWSAccessKeyId|Signature|sig|X-Goog-Signature)=[^&]*/g;

/** A query with the values of signatures and keys replaced by `REDACTED`. */
export function redactQuery(query: string): string {
  return query.replace(SENSITIVE_QUERY, "$1$2=REDACTED");
}

/** A query with every value taken out: `a=1&b=2` is `a&b`. */
export function queryNames(query: string): string {
  return query.replace(/=[^&]*/g, "");
}

/** Path and query of a request target; `query` is `undefined` when there is no `?`. */
export function splitTarget(target: string): { path: string; query: string | undefined } {
  const mark = target.indexOf("?");
  if (mark === -1) return { path: target, query: undefined };
  return { path: target.slice(0, mark), query: target.slice(mark + 1) };
}

/** URL of a request as it goes to its origin, query redacted. */
export function fullUrl(origin: Origin, target: string): string {
  const host = origin.host.includes(":") ? `[${origin.host}]` : origin.host;
  const { path, query } = splitTarget(target);
  // `OPTIONS *` asks for the server as a whole: RFC 9112 §3.2.4 writes its URL without a path.
  const shownPath = path === "*" ? "" : path;
  return `${origin.scheme}://${host}:${origin.port}${shownPath}${query === undefined ? "" : `?${redactQuery(query)}`}`;
}

/** Host and port that a request named. The port is the scheme's own when it was left out; IPv6 loses its brackets. */
export function serverOf(authority: string, scheme: "http" | "https"): { host: string; port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d{1,5}))?$/.exec(authority);
  const host = match?.[1] ?? match?.[2] ?? authority;
  const port = match?.[3] === undefined ? (scheme === "https" ? 443 : 80) : Number(match[3]);
  return { host, port };
}

/** Value of `network.protocol.version`; `undefined` for opaque bytes. */
export function protocolVersion(protocol: Protocol): string | undefined {
  switch (protocol) {
    case "http/1.0":
      return "1.0";
    case "http/1.1":
      return "1.1";
    case "h2":
      return "2";
    case "tunnel":
      return undefined;
  }
}
