/**
 * Text of a request head → a head that may be forwarded.
 *
 * @module
 */
import type { Limits } from "../../config/sidecar-config.ts";
import { HoldfastError } from "../../errors.ts";
import { METHOD, TARGET } from "../grammar/characters.ts";
import { HeadScan, isAt, scanFields, scannedOffsets, takeApart } from "../grammar/head-scanner.ts";
import { FieldList, type HopFields } from "../headers.ts";
import { CheckedHead, checkRequestHead, type Framing, isAuthority } from "../request-rules.ts";

/** A {@link CheckedHead} that may still be text. */
export class WireHead extends CheckedHead {
  declare readonly version: "1.0" | "1.1";
  /** The fields are as they came and may be sent as text: `Host` is among them, nobody forwarded it before us. */
  declare readonly plain: boolean;
  /** {@link authority} as it came. */
  readonly receivedAuthority: string;
  /** {@link target} as it came. */
  readonly receivedTarget: string;

  constructor(checked: Omit<CheckedHead, "plain">, plain: boolean) {
    super(checked, plain);
    this.receivedAuthority = checked.authority;
    this.receivedTarget = checked.target;
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
 * @param bytes - what was received
 * @param from - where the request line begins
 * @param to - behind the empty line that ends the head
 * @throws HoldfastError with a downstream code
 */
export function parseRequestHead(bytes: Buffer, from: number, to: number, limits: Limits, secure: boolean): WireHead {
  let at = from;
  while (METHOD[bytes[at]!] === 1) at++;
  const methodEnd = at;
  if (at === from || bytes[at] !== 0x20) throw bad("the request line does not begin with a method");
  const targetStart = ++at;
  while (TARGET[bytes[at]!] === 1) at++;
  const targetEnd = at;
  if (bytes[at] !== 0x20) {
    // Also what is no request line of HTTP/1.x at all, such as HTTP/0.9's.
    throw new HoldfastError("HF_BAD_TARGET", "the request target is missing or holds what may not stand there");
  }
  const version = requestVersion(bytes, targetEnd + 1, to);
  const text = bytes.toString("latin1", from, to);
  const fieldsStart = targetEnd + 11;
  const method = methodOf(bytes, from, methodEnd) ?? text.slice(0, methodEnd - from);
  const target = text.slice(targetStart - from, targetEnd - from);

  scanFields(bytes, fieldsStart, to, from, scan);
  if (scan.fault !== undefined) throw bad(scan.fault);
  if (scan.end !== to) throw bad("a line that is no field");
  const ordinary =
    !scan.unusual &&
    scan.host !== -1 &&
    !scan.hasForwarding &&
    !(scan.chunked && (scan.contentLength !== -1 || version === "1.0")) &&
    scan.hintStart === 0 &&
    !(scan.close && scan.keepAlive) &&
    bytes[targetStart] === 0x2f &&
    method !== "CONNECT" &&
    target.length <= limits.targetBytes &&
    scan.lines <= limits.fields &&
    text.length <= limits.headBytes;
  if (!ordinary) {
    const fields = takeApart(text, fieldsStart - from, text.length - 2);
    const head = new WireHead(checkRequestHead({ method, target, version, fields, secure }, limits), false);
    // With the white space around values, which is gone from the fields.
    if (text.length > limits.headBytes) {
      throw new HoldfastError("HF_HEAD_TOO_LARGE", `head larger than limits.head (${limits.headBytes} bytes)`);
    }
    return head;
  }
  const offsets = scannedOffsets(scan);
  const { host } = scan;
  const authority = hostIn(bytes, from, text, offsets[host + 2]!, offsets[host + 3]!);
  if (authority === undefined) throw new HoldfastError("HF_BAD_HOST", "Host is not a host with an optional port");
  const headers = FieldList.ofText(text, offsets, fieldsStart - from);
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

function requestVersion(bytes: Buffer, at: number, end: number): "1.0" | "1.1" {
  if (isAt(bytes, at, "HTTP/1.") && bytes[at + 8] === 0x0d && bytes[at + 9] === 0x0a) {
    if (bytes[at + 7] === 0x31) return "1.1";
    if (bytes[at + 7] === 0x30) return "1.0";
  }
  if (/^HTTP\/\d+\.\d+\r\n/.test(bytes.toString("latin1", at, Math.min(end, at + 16)))) {
    throw new HoldfastError("HF_VERSION_NOT_SUPPORTED", "not HTTP/1.0 or HTTP/1.1");
  }
  throw bad("the request line does not end in HTTP/1.0 or HTTP/1.1");
}

// Peers say the same host in every request: the last one that was found valid is kept.
let lastHost = "";

/** The host, if it is one; the text of the last one where it is the same, for that is no part of a longer one. */
function hostIn(bytes: Uint8Array, from: number, text: string, start: number, end: number): string | undefined {
  // Before it is a text: comparing a part of one is a call into V8's runtime.
  if (end - start === lastHost.length && isAt(bytes, from + start, lastHost)) return lastHost;
  const host = text.slice(start, end);
  if (host === "") return host;
  if (!isAuthority(host)) return undefined;
  // A copy: a slice would keep the whole head alive.
  lastHost = Buffer.from(host, "latin1").toString("latin1");
  return lastHost;
}

/** The method if it is a usual one, without a slice of the head. */
function methodOf(bytes: Uint8Array, from: number, end: number): string | undefined {
  for (let at = 0; at < USUAL_METHODS.length; at++) {
    const method = USUAL_METHODS[at]!;
    if (method.length === end - from && isAt(bytes, from, method)) return method;
  }
  return undefined;
}

const USUAL_METHODS = ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS"] as const;

function bad(what: string): HoldfastError {
  return new HoldfastError("HF_BAD_REQUEST", what);
}
