/**
 * Heads as text, as they go on the wire.
 *
 * @module
 */
import { http } from "../../node-http.ts";
import type { ProxyConnection } from "../connection.ts";
import type { LocalResponse, ProxyExchange } from "../exchange.ts";
import { type ForwardingFields, hostOf, keepAliveValue } from "../forwarding.ts";
import { takeApart } from "../grammar/head-scanner.ts";
import { allowedTrailers, isFieldValue, isToken, linesOf } from "../headers.ts";
import type { WireHead } from "./request-parser.ts";
import type { WireResponseHead } from "./response-parser.ts";

/** Text of the request head for the current attempt. */
export function requestText(exchange: ProxyExchange, head: WireHead, forwarding: ForwardingFields): string {
  if (!head.plain || pluginForwarded(head, forwarding)) {
    return `${requestLine(head)}${linesOf(exchange.upstreamFields())}\r\n`;
  }

  if (head.authority === "") head.headers.write("Host", hostOf(exchange.upstream!.origin!));
  else if (head.authority !== head.receivedAuthority) head.headers.write("Host", head.authority);
  const isAsReceived = head.target === head.receivedTarget && head.version === "1.1";
  let text = head.headers.toText(isAsReceived ? null : requestLine(head));
  if (head.framing.kind === "chunked") text += "Transfer-Encoding: chunked\r\n";
  if (forwarding.xForwarded || forwarding.forwarded) text += forwardedText(exchange, head, forwarding);
  if (forwarding.via !== undefined) text += `Via: ${head.version} ${forwarding.via}\r\n`;
  return text + connectionText(exchange.upstream!, exchange.upstream!.reasonToClose() !== undefined);
}

function requestLine(head: WireHead): string {
  return `${head.method} ${head.target} HTTP/1.1\r\n`;
}

/**
 * Text of a response head.
 *
 * @param framing - how the body is delimited downstream, where it is not as the upstream did it
 */
export function responseText(
  head: WireResponseHead,
  downstream: ProxyConnection,
  forwarding: ForwardingFields,
  closes: boolean,
  chunked: boolean,
): string {
  let text = head.headers.toText(statusLine(head));
  if (chunked) {
    text += "Transfer-Encoding: chunked\r\n";
    if (head.hop.trailer.length > 0) text += `Trailer: ${head.hop.trailer.join(", ")}\r\n`;
  }
  if (!head.headers.has("date")) text += `Date: ${httpDate()}\r\n`;
  if (forwarding.via !== undefined) text += `Via: ${head.version} ${forwarding.via}\r\n`;
  return text + connectionText(downstream, closes);
}

/** Text of a response that Holdfast itself gives. */
export function localText(local: LocalResponse, downstream: ProxyConnection): string {
  const { status, headers } = local.head;
  const start = `HTTP/1.1 ${status} ${local.head.reason || (http.STATUS_CODES[status] ?? "")}\r\n`;
  return start + linesOf(headers.flat) + connectionText(downstream, local.closes);
}

/** Text of an interim response. It has no body, so nothing in it may tell of one (RFC 9110 §8.6). */
export function interimText(head: WireResponseHead): string {
  head.headers.remove("content-length");
  return `${head.headers.toText(statusLine(head))}\r\n`;
}

/** `null`: the one that was received. Without a reason it may lack the space that must stand there. */
function statusLine({ version, status, reason, headers }: WireResponseHead): string | null {
  return headers.hasStartLine && version === "1.1" && reason !== "" ? null : `HTTP/1.1 ${status} ${reason}\r\n`;
}

/** The last chunk with those trailer lines that may be forwarded. */
export function lastChunk(trailer: string): string {
  if (trailer === "") return "0\r\n\r\n";
  const flat = takeApart(trailer, 0, trailer.length).map(String);
  const valid: string[] = [];
  for (let at = 0; at < flat.length; at += 2) {
    if (isToken(flat[at]!) && isFieldValue(flat[at + 1]!)) valid.push(flat[at]!, flat[at + 1]!);
  }
  return `0\r\n${linesOf(allowedTrailers(valid))}\r\n`;
}

/** `Connection` and `Keep-Alive`, and the empty line. */
function connectionText(connection: ProxyConnection, closes: boolean): string {
  if (closes) return "Connection: close\r\n\r\n";
  const value = connection.keepAlive.advertise ? keepAliveValue(connection) : undefined;
  if (value === undefined) return "Connection: keep-alive\r\n\r\n";
  if (value !== lastKeepAlive) {
    lastKeepAlive = value;
    lastKeepAliveText = flat(`Connection: keep-alive\r\nKeep-Alive: ${value}\r\n\r\n`);
  }
  return lastKeepAliveText;
}

// Without a limit of requests all connections say the same.
let lastKeepAlive = "";
let lastKeepAliveText = "";

/** The same text in one piece: one that is put together is written piece by piece, each time. */
function flat(text: string): string {
  return Buffer.from(text, "latin1").toString("latin1");
}

/** Whether a plugin wrote one of the fields that we are about to write: then ours must be merged with it. */
function pluginForwarded({ headers }: WireHead, { xForwarded, forwarded }: ForwardingFields): boolean {
  if (
    xForwarded &&
    (headers.has("x-forwarded-for") || headers.has("x-forwarded-proto") || headers.has("x-forwarded-host"))
  ) {
    return true;
  }
  return forwarded && headers.has("forwarded");
}

/** What was said last of the requests from one address: nearly always the same. */
interface Forwarded {
  readonly forwarding: ForwardingFields;
  readonly scheme: string;
  readonly authority: string;
  readonly text: string;
}

const forwardedByAddress = new Map<string, Forwarded>();
const MAX_FORWARDED = 256;
/** Texts with longer authorities are made anew: a peer chooses them. */
const MAX_KEPT_AUTHORITY = 256;

/** For a head that nobody forwarded before us. */
function forwardedText(exchange: ProxyExchange, head: WireHead, forwarding: ForwardingFields): string {
  const address = exchange.downstream.remoteAddress;
  const { authority, scheme } = head;
  const kept = forwardedByAddress.get(address);
  if (kept?.authority === authority && kept.forwarding === forwarding && kept.scheme === scheme) return kept.text;
  const text = flat(newForwardedText(address, head, forwarding));
  if (authority.length <= MAX_KEPT_AUTHORITY) {
    if (kept === undefined && forwardedByAddress.size >= MAX_FORWARDED) forwardedByAddress.clear();
    forwardedByAddress.set(address, { forwarding, scheme, authority: flat(authority), text });
  }
  return text;
}

function newForwardedText(address: string, head: WireHead, forwarding: ForwardingFields): string {
  let text = "";
  if (forwarding.xForwarded) {
    text = `X-Forwarded-For: ${address}\r\nX-Forwarded-Proto: ${head.scheme}\r\nX-Forwarded-Host: ${head.authority}\r\n`;
  }
  if (forwarding.forwarded) {
    const node = address.includes(":") ? `"[${address}]"` : address;
    text += `Forwarded: for=${node};proto=${head.scheme};host="${head.authority}"\r\n`;
  }
  return text;
}

let dateText = "";
let dateAtMs = 0;

/** The date for `Date`, made anew once a second. */
function httpDate(): string {
  const nowMs = Date.now();
  // The clock may have been set back.
  if (nowMs - dateAtMs >= 1000 || nowMs < dateAtMs) {
    dateAtMs = nowMs - (nowMs % 1000);
    dateText = new Date(nowMs).toUTCString();
  }
  return dateText;
}
