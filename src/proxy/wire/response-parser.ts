/**
 * Text of a response head → a head that may go downstream.
 *
 * @module
 */
import { HoldfastError } from "../../errors.ts";
import type { KeepAliveHint, ResponseHead } from "../../plugin/api.ts";
import { VALUE } from "../grammar/characters.ts";
import { HeadScan, isAt, scanFields, scannedOffsets, takeApart } from "../grammar/head-scanner.ts";
import { FieldList, type HopFields, parseKeepAlive, splitHopByHop } from "../headers.ts";
import { checkResponseHead, hasBody } from "../response-rules.ts";

/** How a response body ends. */
export type BodyEnd = "none" | "length" | "chunked" | "close";

/** A response head from an upstream. */
export class WireResponseHead implements ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly version: "1.0" | "1.1";
  readonly headers: FieldList;
  readonly hop: HopFields;
  readonly ends: BodyEnd;
  /** Body bytes when {@link ends} is `length`. */
  readonly bodyBytes: number;
  /** Bytes of the head itself. */
  readonly size: number;
  /** The head, and its whole body if that came with it and both are little. */
  readonly text: string;

  constructor(parts: Omit<WireResponseHead, never>) {
    this.status = parts.status;
    this.reason = parts.reason;
    this.version = parts.version;
    this.headers = parts.headers;
    this.hop = parts.hop;
    this.ends = parts.ends;
    this.bodyBytes = parts.bodyBytes;
    this.size = parts.size;
    this.text = parts.text;
  }
}

const scan = new HeadScan();

/** Up to here, a head and its whole body are read as one text, so that they can be written as one. */
export const SMALL_BYTES = 16_384;

/**
 * Parses one response head, interim ones included.
 *
 * @param bytes - what was received
 * @param from - where the status line begins
 * @param to - where what was received ends: at the end of the head or behind it
 * @param method - of the request it answers
 * @throws HoldfastError `HF_UPSTREAM_BAD_RESPONSE`
 */
export function parseResponseHead(
  bytes: Buffer,
  from: number,
  to: number,
  method: string,
  maxFields: number,
): WireResponseHead {
  const version = responseVersion(bytes, from);
  const status = statusCode(bytes, from);
  let at = from + 12;
  if (bytes[at] === 0x20) at++;
  else if (bytes[at] !== 0x0d) throw bad("the status line is not one");
  const reasonStart = at;
  while (VALUE[bytes[at]!] === 1) at++;
  if (bytes[at] !== 0x0d || bytes[at + 1] !== 0x0a) throw bad("the status line is not one");
  const reasonEnd = at;
  const fieldsStart = at + 2;

  scanFields(bytes, fieldsStart, to, from, scan);
  if (scan.fault !== undefined) throw bad(scan.fault);
  if (scan.lines > maxFields) {
    throw new HoldfastError("HF_UPSTREAM_HEAD_TOO_LARGE", `more response fields than limits.fields (${maxFields})`);
  }
  const size = scan.end - from;
  const whole = size + Math.max(scan.contentLength, 0);
  const text = bytes.toString("latin1", from, from + (whole <= to - from && whole <= SMALL_BYTES ? whole : size));
  const reason = reasonIn(bytes, from, text, reasonStart, reasonEnd);
  if (
    scan.unusual ||
    (scan.chunked && (scan.contentLength !== -1 || version === "1.0")) ||
    (scan.close && scan.keepAlive)
  ) {
    const flat = takeApart(text, fieldsStart - from, size - 2);
    const ends = checkResponseHead(method, status, flat, version);
    const { end: headers, hop } = splitHopByHop(flat);
    const bodyBytes = ends === "length" ? Number(headers.get("content-length")) : 0;
    return new WireResponseHead({ status, reason, version, headers, hop, ends, bodyBytes, size, text });
  }
  const headers = FieldList.ofText(text, scannedOffsets(scan), fieldsStart - from);
  const bodied = hasBody(method, status);
  const ends = !bodied ? "none" : scan.chunked ? "chunked" : scan.contentLength !== -1 ? "length" : "close";
  return new WireResponseHead({
    status,
    reason,
    version,
    headers,
    hop: hopOf(text),
    ends,
    bodyBytes: ends === "length" ? scan.contentLength : 0,
    size,
    text,
  });
}

let lastReason = "";

/** The reason, and the text of the last one where it is the same. */
function reasonIn(bytes: Uint8Array, from: number, text: string, start: number, end: number): string {
  if (end - start !== lastReason.length || !isAt(bytes, start, lastReason)) {
    // No copy: upstreams change between reasons, and it keeps one head alive at most.
    lastReason = text.slice(start - from, end - from);
  }
  return lastReason;
}

function responseVersion(bytes: Uint8Array, at: number): "1.0" | "1.1" {
  if (isAt(bytes, at, "HTTP/1.") && bytes[at + 8] === 0x20) {
    if (bytes[at + 7] === 0x31) return "1.1";
    if (bytes[at + 7] === 0x30) return "1.0";
  }
  throw bad("the status line does not begin with HTTP/1.0 or HTTP/1.1");
}

function statusCode(bytes: Uint8Array, at: number): number {
  const hundreds = bytes[at + 9]! - 0x30;
  const tens = bytes[at + 10]! - 0x30;
  const ones = bytes[at + 11]! - 0x30;
  if (!(hundreds >= 1 && hundreds <= 9 && tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9)) {
    throw bad("the status is not a number from 100 to 999");
  }
  return hundreds * 100 + tens * 10 + ones;
}

// An upstream says the same in every response: the last answer is kept.
let lastHint = "";
let lastClose = false;
let lastKeepAlive = false;
let lastHop: HopFields = makeHop("", false, false);

function hopOf(text: string): HopFields {
  const hint = scan.hintStart === 0 ? "" : text.slice(scan.hintStart, scan.hintEnd);
  if (hint !== lastHint || scan.close !== lastClose || scan.keepAlive !== lastKeepAlive) {
    // A copy: a slice would keep the whole head alive.
    lastHint = Buffer.from(hint, "latin1").toString("latin1");
    lastClose = scan.close;
    lastKeepAlive = scan.keepAlive;
    lastHop = makeHop(lastHint, lastClose, lastKeepAlive);
  }
  return lastHop;
}

function makeHop(hintText: string, close: boolean, keepAlive: boolean): HopFields {
  const hint: KeepAliveHint | undefined = hintText === "" ? undefined : parseKeepAlive(hintText);
  return { close, keepAlive, hint, trailers: false, upgrade: undefined, transferCodings: [], trailer: [] };
}

function bad(what: string): HoldfastError {
  return new HoldfastError("HF_UPSTREAM_BAD_RESPONSE", `the upstream's response head is not valid: ${what}`);
}
