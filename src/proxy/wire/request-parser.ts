/**
 * Text of a request head → a head that may be forwarded.
 *
 * @module
 */
import type { Limits } from "../../config/sidecar-config.ts";
import { HoldfastError } from "../../errors.ts";
import { METHOD, TARGET } from "../grammar/characters.ts";
import { HeadScan, scanFields, takeApart } from "../grammar/head-scanner.ts";
import { FieldList, type HopFields } from "../headers.ts";
import { CheckedHead, checkRequestHead, type Framing, isAuthority } from "../request-rules.ts";

/** A {@link CheckedHead} that may still be text. */
export class WireHead extends CheckedHead {
  declare readonly version: "1.0" | "1.1";
  /** The fields are as they came and may be sent as text: `Host` is among them, nobody forwarded it before us. */
  declare readonly plain: boolean;
  /** {@link authority} as it came. */
  readonly receivedAuthority: string;

  constructor(checked: Omit<CheckedHead, "plain">, plain: boolean) {
    super(checked, plain);
    this.receivedAuthority = checked.authority;
  }
}

const NO_FRAMING: Framing = { kind: "none" };
const CHUNKED: Framing = { kind: "chunked" };
const PLAIN_HOP: HopFields = hop(false, false);
const KEEP_ALIVE_HOP: HopFields = hop(false, true);
const CLOSE_HOP: HopFields = hop(true, false);
const scan = new HeadScan();

function hop(close: boolean, keepAlive: boolean): HopFields {
  return { close, keepAlive, hint: undefined, trailers: false, upgrade: undefined, transferCodings: [], trailer: [] };
}

/**
 * Parses one request head.
 *
 * @param text - from the first byte of the request line to the end of the empty line, as latin1
 * @throws HoldfastError with a downstream code
 */
export function parseRequestHead(text: string, limits: Limits, secure: boolean): WireHead {
  let at = 0;
  while (METHOD[text.charCodeAt(at)] === 1) at++;
  const methodEnd = at;
  if (at === 0 || text.charCodeAt(at) !== 0x20) throw bad("the request line does not begin with a method");
  const targetStart = ++at;
  while (TARGET[text.charCodeAt(at)] === 1) at++;
  const targetEnd = at;
  if (text.charCodeAt(at) !== 0x20) {
    // Also what is no request line of HTTP/1.x at all, such as HTTP/0.9's.
    throw new HoldfastError("HF_BAD_TARGET", "the request target is missing or holds what may not stand there");
  }
  const version = requestVersion(text, targetEnd + 1);
  const fieldsStart = targetEnd + 11;
  const fieldsEnd = text.length - 2;
  const method = methodOf(text, methodEnd);
  const target = text.slice(targetStart, targetEnd);

  scanFields(text, fieldsStart, fieldsEnd, scan);
  if (scan.fault !== undefined) throw bad(scan.fault);
  const ordinary =
    !scan.unusual &&
    scan.host !== -1 &&
    !scan.hasForwarding &&
    !(scan.chunked && (scan.contentLength !== -1 || version === "1.0")) &&
    scan.hintStart === 0 &&
    !(scan.close && scan.keepAlive) &&
    text.charCodeAt(targetStart) === 0x2f &&
    method !== "CONNECT" &&
    target.length <= limits.targetBytes &&
    scan.lines <= limits.fields &&
    text.length <= limits.headBytes;
  if (!ordinary) {
    const fields = takeApart(text, fieldsStart, fieldsEnd);
    return new WireHead(checkRequestHead({ method, target, version, fields, secure }, limits), false);
  }
  const { offsets, host } = scan;
  const authority = text.slice(offsets[host + 2]!, offsets[host + 3]!);
  if (!isKnownHost(authority)) throw new HoldfastError("HF_BAD_HOST", "Host is not a host with an optional port");
  const headers = FieldList.ofText(text, offsets);
  return new WireHead(
    {
      method,
      target,
      scheme: secure ? "https" : "http",
      authority,
      version,
      headers,
      hop: scan.close ? CLOSE_HOP : scan.keepAlive ? KEEP_ALIVE_HOP : PLAIN_HOP,
      framing: scan.chunked
        ? CHUNKED
        : scan.contentLength === -1
          ? NO_FRAMING
          : { kind: "length", bytes: scan.contentLength },
      form: "origin",
      expectsContinue: false,
    },
    true,
  );
}

function requestVersion(text: string, at: number): "1.0" | "1.1" {
  if (text.startsWith("HTTP/1.1\r\n", at)) return "1.1";
  if (text.startsWith("HTTP/1.0\r\n", at)) return "1.0";
  if (/^HTTP\/\d+\.\d+\r\n/.test(text.slice(at, at + 16))) {
    throw new HoldfastError("HF_VERSION_NOT_SUPPORTED", "not HTTP/1.0 or HTTP/1.1");
  }
  throw bad("the request line does not end in HTTP/1.0 or HTTP/1.1");
}

// Peers say the same host in every request: the last one that was found valid is kept.
let lastHost = "";

function isKnownHost(host: string): boolean {
  if (host === lastHost) return true;
  if (!isAuthority(host)) return host === "";
  // A copy: a slice would keep the whole head alive.
  lastHost = Buffer.from(host, "latin1").toString("latin1");
  return true;
}

/** The method without a slice of the head where it is a usual one. */
function methodOf(text: string, end: number): string {
  switch (end) {
    case 3:
      if (text.startsWith("GET")) return "GET";
      if (text.startsWith("PUT")) return "PUT";
      break;
    case 4:
      if (text.startsWith("POST")) return "POST";
      if (text.startsWith("HEAD")) return "HEAD";
      break;
    case 6:
      if (text.startsWith("DELETE")) return "DELETE";
      break;
  }
  return text.slice(0, end);
}

function bad(what: string): HoldfastError {
  return new HoldfastError("HF_BAD_REQUEST", what);
}
