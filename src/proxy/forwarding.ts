/**
 * The fields that Holdfast itself writes on each hop: `Connection`, `Keep-Alive`, framing, `TE`, `Via`,
 * `X-Forwarded-*`, `Forwarded`.
 *
 * @module
 */
import type { Origin } from "../plugin/api.ts";
import type { ProxyConnection } from "./connection.ts";
import { FieldList, isForwardingField } from "./headers.ts";
import type { CheckedHead } from "./request-rules.ts";
import type { TrustedPeers } from "./trusted-peers.ts";

/** Which forwarding fields to write, and as whom. */
export interface ForwardingFields {
  /** Whose word on earlier hops is taken; `undefined`: everybody's, because it is our own service that speaks. */
  readonly trusted: TrustedPeers | undefined;
  readonly xForwarded: boolean;
  readonly forwarded: boolean;
  /** `received-by` pseudonym for `Via` (RFC 9110 §7.6.3); `undefined`: none is written. */
  readonly via: string | undefined;
}

/** Removes what a peer that is not trusted says of hops before it. Ours takes its place. */
export function dropUntrusted(head: CheckedHead, downstream: ProxyConnection, { trusted }: ForwardingFields): void {
  if (trusted === undefined || head.plain || trusted.has(downstream.remoteAddress)) return;
  head.headers.removeWhere(isForwardingField);
}

/**
 * Field lines of the request for one attempt, name and value in turn.
 *
 * @param upgrade - the protocol asked for, when the request is an upgrade that is passed on
 */
export function upstreamFields(
  head: CheckedHead,
  downstream: ProxyConnection,
  upstream: ProxyConnection,
  forwarding: ForwardingFields,
  upgrade: string | undefined,
): string[] {
  const fields = new FieldList(["Host", head.authority === "" ? hostOf(upstream.origin!) : head.authority]);
  const { flat } = fields;
  const source = head.headers.flat;
  for (let at = 0; at < source.length; at += 2) {
    const name = source[at]!;
    if (name.length === 4 && name.toLowerCase() === "host") continue;
    flat.push(name, source[at + 1]!);
  }
  if (head.framing.kind === "chunked") {
    flat.push("Transfer-Encoding", "chunked");
    if (head.hop.trailer.length > 0) flat.push("Trailer", head.hop.trailer.join(", "));
  }

  if (forwarding.xForwarded) addXForwarded(fields, head, downstream);
  if (forwarding.forwarded) addForwarded(fields, head, downstream);
  if (forwarding.via !== undefined) addVia(fields, head.version, forwarding.via);

  const closes = upstream.reasonToClose() !== undefined;
  const options = [upgrade !== undefined ? "Upgrade" : closes ? "close" : "keep-alive"];
  if (upgrade !== undefined) flat.push("Upgrade", upgrade);
  if (head.hop.trailers) {
    options.push("TE");
    flat.push("TE", "trailers");
  }
  flat.push("Connection", options.join(", "));
  if (!closes && upgrade === undefined) addKeepAlive(flat, upstream);
  return flat;
}

/**
 * Adds the fields of this hop to a response that goes downstream.
 *
 * @param flat - end-to-end field lines, name and value in turn; changed
 * @param closes - whether the connection closes after it
 */
export function addDownstreamFields(flat: string[], downstream: ProxyConnection, closes: boolean): void {
  if (downstream.protocol === "h2") return;
  flat.push("Connection", closes ? "close" : "keep-alive");
  if (!closes) addKeepAlive(flat, downstream);
}

/**
 * `Host` for an upstream, for a request that named none: HTTP/1.0 may leave it out, HTTP/1.1 upstream may not, and an
 * empty one is refused by many.
 */
export function hostOf(origin: Origin): string {
  const host = origin.host.includes(":") ? `[${origin.host}]` : origin.host;
  return origin.port === (origin.scheme === "https" ? 443 : 80) ? host : `${host}:${origin.port}`;
}

/** Adds our element to `Via` (RFC 9110 §7.6.3). */
export function addVia(fields: FieldList, version: string, pseudonym: string): void {
  const element = `${version} ${pseudonym}`;
  const before = fields.getAll("via");
  fields.write("Via", before.length === 0 ? element : `${before.join(", ")}, ${element}`);
}

/** Tells the peer what we keep, and only that: what is not limited is not named. */
function addKeepAlive(flat: string[], connection: ProxyConnection): void {
  const { keepAlive } = connection;
  if (!keepAlive.advertise) return;
  const value = keepAliveValue(connection);
  if (value !== undefined) flat.push("Keep-Alive", value);
}

/**
 * Value of `Keep-Alive`: whole seconds rounded down, so that what is promised is kept, and requests that are left.
 *
 * @returns `undefined` when there is nothing to tell
 */
export function keepAliveValue(
  connection: Pick<ProxyConnection, "keepAlive" | "exchanges" | "ageMs">,
): string | undefined {
  const { idleTimeoutMs, agreedTimeoutMs, maxRequests, maxAgeMs } = connection.keepAlive;
  let keptMs = Math.min(idleTimeoutMs, agreedTimeoutMs);
  // Past its age an upstream connection closes; downstream, who leaves by itself before then spares the close.
  if (maxAgeMs !== Number.POSITIVE_INFINITY) keptMs = Math.min(keptMs, maxAgeMs - connection.ageMs);
  const seconds = Number.isFinite(keptMs) ? Math.floor(keptMs / 1000) : 0;
  const timeout = seconds >= 1 ? timeoutText(seconds) : undefined;
  if (maxRequests === Number.POSITIVE_INFINITY) return timeout;
  const max = `max=${Math.max(0, maxRequests - connection.exchanges)}`;
  return timeout === undefined ? max : `${timeout}, ${max}`;
}

// Nearly every connection says the same.
let lastSeconds = 0;
let lastTimeoutText = "timeout=0";

function timeoutText(seconds: number): string {
  if (seconds !== lastSeconds) {
    lastSeconds = seconds;
    lastTimeoutText = `timeout=${seconds}`;
  }
  return lastTimeoutText;
}

function addXForwarded(fields: FieldList, head: CheckedHead, downstream: ProxyConnection): void {
  const before = fields.getAll("x-forwarded-for");
  fields.write("X-Forwarded-For", [...before, downstream.remoteAddress].join(", "));
  if (!fields.has("x-forwarded-proto")) fields.write("X-Forwarded-Proto", head.scheme);
  if (!fields.has("x-forwarded-host") && head.authority !== "") fields.write("X-Forwarded-Host", head.authority);
}

/** RFC 7239. */
function addForwarded(fields: FieldList, head: CheckedHead, downstream: ProxyConnection): void {
  const node = downstream.remoteAddress.includes(":") ? `"[${downstream.remoteAddress}]"` : downstream.remoteAddress;
  const host = head.authority === "" ? "" : `;host="${head.authority.replace(/["\\]/g, "\\$&")}"`;
  const element = `for=${node};proto=${head.scheme}${host}`;
  fields.write("Forwarded", [...fields.getAll("forwarded"), element].join(", "));
}
