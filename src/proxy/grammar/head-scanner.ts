/**
 * Finds the lines of a head in one pass, checks every byte of them, and tells the ordinary from the rest.
 *
 * An ordinary head goes on as text. Whatever is out of the ordinary is taken apart and judged by the same rules as in
 * the other forwarder (`request-rules.ts`, `response-rules.ts`), so that there is one set of rules.
 *
 * @module
 */

import type { Offsets } from "../headers.ts";
import { TOKEN, VALUE } from "./characters.ts";

/** What a head's lines said, as far as it matters to the path. One object is used again for every head. */
export class HeadScan {
  /** Numbers in the {@link scannedOffsets}. */
  count = 0;
  /** Number of lines, those of this hop included. */
  lines = 0;
  /** Something that the ordinary path does not judge: take the head apart. */
  unusual = false;
  /** Behind the empty line that ends the head. */
  end = 0;
  /** Why it is not a head at all, or not a whole one; `undefined` when it is one. */
  fault: string | undefined;
  /** Index in the offsets of the only `Host`; −1 if there is none. */
  host = -1;
  /** Value of the only `Content-Length`; −1 if there is none. */
  contentLength = -1;
  /** `Transfer-Encoding: chunked`. */
  chunked = false;
  close = false;
  keepAlive = false;
  /** Where the value of `Keep-Alive` begins and ends; 0 if there is none. */
  hintStart = 0;
  hintEnd = 0;
  /** A field that names who forwarded the request before us. */
  hasForwarding = false;
}

const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
const TAB = 0x09;
const COLON = 0x3a;
const X = 0x78;

/**
 * Scans field lines up to the empty line. In the bytes and not in their text: V8 asks at every character of a string
 * anew what kind of string it is, which makes it three times as much work.
 *
 * @param bytes - what was received, and what stood there before: never looked at as part of a head
 * @param from - where the first field line begins
 * @param to - where what was received ends
 * @param base - where the head begins: offsets count from here
 * @param scan - filled anew
 */
export function scanFields(bytes: Uint8Array, from: number, to: number, base: number, scan: HeadScan): void {
  const offsets = scratch;
  let count = 0;
  scan.unusual = false;
  scan.fault = undefined;
  scan.host = -1;
  scan.contentLength = -1;
  scan.chunked = false;
  scan.close = false;
  scan.keepAlive = false;
  scan.hintStart = 0;
  scan.hintEnd = 0;
  scan.hasForwarding = false;
  let lines = 0;
  let at = from;
  while (at < to) {
    const nameStart = at;
    let code = bytes[at]!;
    if (code === CR && bytes[at + 1] === LF && at + 2 <= to) {
      scan.end = at + 2;
      scan.lines = lines;
      scan.count = count;
      return;
    }
    while (TOKEN[code] === 1) code = bytes[++at]!;
    const nameEnd = at;
    if (code !== COLON || nameEnd === nameStart) {
      scan.fault = nameStart === nameEnd ? "a line that is no field" : "a field name is not a token";
      return;
    }
    code = bytes[++at]!;
    while (code === SPACE || code === TAB) code = bytes[++at]!;
    const valueStart = at;
    while (VALUE[code] === 1) code = bytes[++at]!;
    if (code !== CR || bytes[at + 1] !== LF) {
      scan.fault = "a field value holds control characters";
      return;
    }
    let valueEnd = at;
    while (valueEnd > valueStart && isBlank(bytes[valueEnd - 1]!)) valueEnd--;
    at += 2;
    lines++;
    if (isOrdinary(bytes, nameStart, nameEnd, valueStart, valueEnd, base, count, scan)) {
      offsets[count++] = nameStart - base;
      offsets[count++] = nameEnd - base;
      offsets[count++] = valueStart - base;
      offsets[count++] = valueEnd - base;
    }
  }
  scan.fault = "its end is missing";
}

/** Lines that travel on, of the head that was scanned last. */
export function scannedOffsets({ count }: HeadScan): Offsets {
  // One exact copy instead of an array that grows line by line.
  return scratch.slice(0, count);
}

/** Never emptied: it would have to grow again for the next head. */
const scratch: Offsets = [];

/** Names and values in turn of every line; for a head that {@link scanFields} found no fault in. */
export function takeApart(text: string, from: number, end: number): string[] {
  const flat: string[] = [];
  for (let at = from; at < end; ) {
    const lineEnd = text.indexOf("\r\n", at);
    const colon = text.indexOf(":", at);
    flat.push(text.slice(at, colon), text.slice(colon + 1, lineEnd).replace(/^[ \t]+|[ \t]+$/g, ""));
    at = lineEnd + 2;
  }
  return flat;
}

/** Whether the bytes at `from` are this text. */
export function isAt(bytes: Uint8Array, from: number, text: string): boolean {
  for (let at = 0; at < text.length; at++) if (bytes[from + at] !== text.charCodeAt(at)) return false;
  return true;
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}

/**
 * Notes what a line means for the path.
 *
 * @param place - index in the offsets that it gets if it travels on
 * @returns whether it travels on
 */
function isOrdinary(
  bytes: Uint8Array,
  nameStart: number,
  nameEnd: number,
  valueStart: number,
  valueEnd: number,
  base: number,
  place: number,
  scan: HeadScan,
): boolean {
  if ((bytes[nameStart]! | 0x20) === X && namesEarlierHop(bytes, nameStart, nameEnd)) scan.hasForwarding = true;
  // By length first: most fields have a length of their own.
  switch (nameEnd - nameStart) {
    case 2:
      if (is(bytes, nameStart, "te")) scan.unusual = true;
      return true;
    case 3:
      if (is(bytes, nameStart, "via")) scan.hasForwarding = true;
      return true;
    case 4:
      if (is(bytes, nameStart, "host")) {
        if (scan.host !== -1) scan.unusual = true;
        scan.host = place;
      }
      return true;
    case 6:
      if (is(bytes, nameStart, "expect")) scan.unusual = true;
      return true;
    case 7:
      if (is(bytes, nameStart, "trailer") || is(bytes, nameStart, "upgrade")) scan.unusual = true;
      return true;
    case 9:
      if (is(bytes, nameStart, "forwarded")) scan.hasForwarding = true;
      return true;
    case 10:
      if (is(bytes, nameStart, "connection")) {
        const length = valueEnd - valueStart;
        if (length === 10 && is(bytes, valueStart, "keep-alive")) scan.keepAlive = true;
        else if (length === 5 && is(bytes, valueStart, "close")) scan.close = true;
        else scan.unusual = true;
        return false;
      }
      if (is(bytes, nameStart, "keep-alive")) {
        if (scan.hintStart !== 0) scan.unusual = true;
        scan.hintStart = valueStart - base;
        scan.hintEnd = valueEnd - base;
        return false;
      }
      return true;
    case 14:
      if (is(bytes, nameStart, "content-length")) {
        if (scan.contentLength !== -1) scan.unusual = true;
        else scan.contentLength = decimal(bytes, valueStart, valueEnd);
        if (scan.contentLength === -1) scan.unusual = true;
      } else if (is(bytes, nameStart, "http2-settings")) scan.unusual = true;
      return true;
    case 16:
      if (is(bytes, nameStart, "proxy-connection")) scan.unusual = true;
      return true;
    case 17:
      if (is(bytes, nameStart, "transfer-encoding")) {
        if (scan.chunked || valueEnd - valueStart !== 7 || !is(bytes, valueStart, "chunked")) scan.unusual = true;
        scan.chunked = true;
        return false;
      }
      return true;
    case 19:
      if (is(bytes, nameStart, "proxy-authorization")) scan.unusual = true;
      return true;
    default:
      return true;
  }
}

/** As `isForwardingField`, for names that begin with X. */
function namesEarlierHop(bytes: Uint8Array, start: number, end: number): boolean {
  return end - start === 9 ? is(bytes, start, "x-real-ip") : end - start >= 11 && is(bytes, start, "x-forwarded");
}

/** Whether the bytes at `start` are `word`, which is in lower case, in any case. */
function is(bytes: Uint8Array, start: number, word: string): boolean {
  for (let at = 0; at < word.length; at++) {
    const code = bytes[start + at]!;
    const wanted = word.charCodeAt(at);
    if (code !== wanted && (code | 0x20) !== wanted) return false;
    // `|0x20` makes a letter of some other characters only if the wanted one is no letter itself.
    if (code !== wanted && (wanted < 0x61 || wanted > 0x7a)) return false;
  }
  return true;
}

/** A whole number of at most 15 digits; −1 when it is none. */
function decimal(bytes: Uint8Array, start: number, end: number): number {
  if (end === start || end - start > 15) return -1;
  let value = 0;
  for (let at = start; at < end; at++) {
    const digit = bytes[at]! - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}
