/**
 * The chunked coding (RFC 9112 §7.1), followed byte by byte while the bytes pass through as they are.
 *
 * @module
 */

import { VALUE } from "./characters.ts";
import { HeadScan, scanFields } from "./head-scanner.ts";

/** Digits of a chunk size: more would not be a safe integer. */
const MAX_SIZE_DIGITS = 13;
/** Size line with its extensions; RFC 9112 §7.1.1 asks for a limit. */
const MAX_LINE_BYTES = 4096;
const MAX_TRAILER_BYTES = 16_384;

type State = "size" | "extension" | "size-lf" | "payload" | "payload-cr" | "payload-lf" | "trailer";

const CR = 0x0d;
const LF = 0x0a;
const SEMICOLON = 0x3b;

/**
 * Follows one chunked body. After each {@link feed}, what may be sent on is {@link prefix}, then the bytes from
 * {@link start} to {@link end}. The last chunk and the trailer section are held back: the sender writes its own.
 */
export class ChunkedBody {
  /** Text to send before the bytes: the part of a size line that came with earlier bytes. */
  prefix = "";
  start = 0;
  end = 0;
  /** Where the body ends in the bytes fed, once {@link done}. */
  consumed = 0;
  /** Payload bytes so far, without framing. */
  payloadBytes = 0;
  done = false;
  /** Why it is not a chunked body. */
  fault: string | undefined;
  /** Trailer lines, each with its CRLF, once {@link done}. */
  trailer = "";
  /** Called with each piece of payload; for a peer that is not to get the framing. */
  onPayload: ((start: number, end: number) => void) | undefined;

  #state: State = "size";
  #size = 0;
  #digits = 0;
  #lineBytes = 0;
  /** Bytes of the current size line that came in earlier feeds. */
  #held = "";
  /** The last byte of the trailer section. */
  #lastCode = 0;
  /** The current trailer line. */
  #line = "";

  /** Follows the next bytes. Nothing is kept of them but an incomplete size line or trailer. */
  feed(bytes: Uint8Array, from: number, to: number): void {
    this.prefix = "";
    this.start = from;
    this.end = from;
    let lineStart = from;
    let at = from;
    while (at < to) {
      switch (this.#state) {
        case "size": {
          const code = bytes[at]!;
          const digit = hexDigit(code);
          if (digit !== -1) {
            if (++this.#digits > MAX_SIZE_DIGITS) {
              this.fault = "a chunk size is too large";
              return;
            }
            this.#size = this.#size * 16 + digit;
          } else if (this.#digits === 0) {
            this.fault = "a chunk does not begin with its size";
            return;
          } else if (code === SEMICOLON) {
            this.#state = "extension";
          } else if (code === CR) {
            this.#state = "size-lf";
          } else {
            this.fault = "a chunk size is followed by something else";
            return;
          }
          at++;
          break;
        }
        case "extension": {
          const code = bytes[at]!;
          if (code === CR) this.#state = "size-lf";
          else if (VALUE[code] !== 1) {
            this.fault = "a chunk extension holds control characters";
            return;
          }
          if (++this.#lineBytes > MAX_LINE_BYTES) {
            this.fault = "a chunk extension is too long";
            return;
          }
          at++;
          break;
        }
        case "size-lf":
          if (bytes[at] !== LF) {
            this.fault = "a chunk size line does not end in CRLF";
            return;
          }
          at++;
          if (this.#size === 0) {
            this.#state = "trailer";
            this.#held = "";
            break;
          }
          // The line is whole: what came earlier goes first, the rest stands in these bytes.
          if (this.#held !== "") {
            this.prefix = this.#held;
            this.#held = "";
          }
          this.end = at;
          this.#state = "payload";
          break;
        case "payload": {
          const piece = Math.min(this.#size, to - at);
          this.onPayload?.(at, at + piece);
          this.payloadBytes += piece;
          this.#size -= piece;
          at += piece;
          this.end = at;
          if (this.#size === 0) this.#state = "payload-cr";
          break;
        }
        case "payload-cr":
          if (bytes[at] !== CR) {
            this.fault = "a chunk is longer than its size";
            return;
          }
          this.end = ++at;
          this.#state = "payload-lf";
          break;
        case "payload-lf":
          if (bytes[at] !== LF) {
            this.fault = "a chunk is longer than its size";
            return;
          }
          this.end = ++at;
          lineStart = at;
          this.#state = "size";
          this.#digits = 0;
          this.#lineBytes = 0;
          break;
        case "trailer": {
          const line = this.#takeTrailerByte(bytes[at]!);
          if (line === undefined) {
            this.fault = "the trailer section is not valid or too long";
            return;
          }
          at++;
          if (!line) break;
          this.done = true;
          this.consumed = at;
          return;
        }
      }
    }
    // A size line that is not whole waits: it may turn out to be the last chunk's.
    if (this.#state === "size" || this.#state === "extension" || this.#state === "size-lf") {
      const begin = this.end > lineStart ? this.end : lineStart;
      for (let index = begin; index < to; index++) this.#held += String.fromCharCode(bytes[index]!);
    }
  }

  /** @returns whether the section is over; `undefined` when it is not valid */
  #takeTrailerByte(code: number): boolean | undefined {
    if (this.trailer.length + this.#line.length >= MAX_TRAILER_BYTES) return undefined;
    const isLineEnd = this.#lastCode === CR;
    if (isLineEnd !== (code === LF) || (VALUE[code] !== 1 && code !== CR && code !== LF)) return undefined;
    this.#lastCode = code;
    this.#line += String.fromCharCode(code);
    if (!isLineEnd) return false;
    const line = this.#line;
    if (line.length === 2) return true;
    this.#line = "";
    scanFields(Buffer.from(`${line}\r\n`, "latin1"), 0, line.length + 2, 0, scan);
    this.trailer += line;
    return scan.fault === undefined ? false : undefined;
  }
}

const scan = new HeadScan();

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
