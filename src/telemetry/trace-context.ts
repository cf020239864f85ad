/**
 * W3C Trace Context: `traceparent`, read strictly and written.
 *
 * @module
 */
import { randomFillSync } from "node:crypto";
import type { Filter, HeaderList } from "../plugin/api.ts";

/** What a valid `traceparent` says. */
export interface RemoteParent {
  /** 32 lower-case hexadecimal digits, not all zero. */
  readonly traceId: string;
  /** 16 lower-case hexadecimal digits, not all zero. */
  readonly spanId: string;
  /** `trace-flags`, 0 to 255. */
  readonly flags: number;
}

export const FLAG_SAMPLED = 0x01;
/** The trace id is random (Trace Context level 2); kept as received. */
const FLAG_RANDOM = 0x02;

const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/;
/** Of version 00, which has nothing after the flags. */
const LENGTH = 55;
const NO_TRACE = "0".repeat(32);
const NO_SPAN = "0".repeat(16);

/**
 * The parent that a request names. `undefined` when there is no `traceparent`, more than one, or one that is not valid:
 * such a request starts a new trace (W3C Trace Context §3.2).
 */
export function readParent(headers: HeaderList): RemoteParent | undefined {
  if (!headers.has("traceparent")) return undefined;
  const values = headers.getAll("traceparent");
  return values.length === 1 ? parseTraceparent(values[0]!) : undefined;
}

/** Reads one `traceparent` value. A version above 00 may have more parts after the flags; they are ignored. */
export function parseTraceparent(value: string): RemoteParent | undefined {
  if (!TRACEPARENT.test(value)) return undefined;
  const version = value.slice(0, 2);
  if (version === "ff" || (version === "00" && value.length !== LENGTH)) return undefined;
  const traceId = traceIdIn(value);
  const spanId = spanIdIn(value);
  if (traceId === NO_TRACE || spanId === NO_SPAN) return undefined;
  return { traceId, spanId, flags: Number.parseInt(value.slice(53, 55), 16) };
}

/** `traceparent`, version 00. The flags are `sampled` and, when the parent had it, `random`; others are not ours to set. */
export function formatTraceparent(traceId: string, spanId: string, sampled: boolean, parentFlags = 0): string {
  return `00-${traceId}-${spanId}-0${(parentFlags & FLAG_RANDOM) | (sampled ? FLAG_SAMPLED : 0)}`;
}

const random = Buffer.allocUnsafe(4096);
let usedBytes = random.length;
/** Some of the random bytes as text, a piece at a time: an id keeps alive the whole piece that it was cut from. */
let digits = "";
let usedDigits = 0;
const PIECE_BYTES = 256;

function randomDigits(count: number): string {
  if (usedDigits + count > digits.length) {
    if (usedBytes === random.length) {
      randomFillSync(random);
      usedBytes = 0;
    }
    digits = random.toString("hex", usedBytes, usedBytes + PIECE_BYTES);
    usedBytes += PIECE_BYTES;
    usedDigits = 0;
  }
  usedDigits += count;
  return digits.slice(usedDigits - count, usedDigits);
}

const VALUES = 16;
const bytes = Buffer.from(`00-${NO_TRACE}-${NO_SPAN}-00`.repeat(VALUES), "latin1");
const DIGITS = Buffer.from("0123456789abcdef", "latin1");
const DIGITS_PER_WORD = 8;
const WORDS_PER_VALUE = 48 / DIGITS_PER_WORD;
const words = new Uint32Array(VALUES * WORDS_PER_VALUE * 10);
let usedWords = words.length;
let values = "";
let usedValues = 0;

/**
 * `traceparent` of a trace that begins here and is not recorded. Cut from a text of many: put together from its parts,
 * each would be copied once more as it is checked or written.
 */
export function newUnsampledTraceparent(): string {
  if (usedValues === values.length) {
    if (usedWords === words.length) {
      randomFillSync(words);
      usedWords = 0;
    }
    for (let at = 0; at < bytes.length; at += LENGTH) {
      for (let word = 0; word < 4; word++) writeDigits(at + 3 + word * DIGITS_PER_WORD);
      for (let word = 0; word < 2; word++) writeDigits(at + 36 + word * DIGITS_PER_WORD);
    }
    values = bytes.toString("latin1");
    usedValues = 0;
  }
  usedValues += LENGTH;
  return values.slice(usedValues - LENGTH, usedValues);
}

function writeDigits(from: number): void {
  let word = words[usedWords++]!;
  for (let at = from; at < from + DIGITS_PER_WORD; at++) {
    bytes[at] = DIGITS[word & 15]!;
    word >>>= 4;
  }
}

/** The trace id in a `traceparent` of version 00. */
export function traceIdIn(traceparent: string): string {
  return traceparent.slice(3, 35);
}

/** The id of the parent, in a `traceparent` of version 00. */
export function spanIdIn(traceparent: string): string {
  return traceparent.slice(36, 52);
}

/** A new trace id. */
export function newTraceId(): string {
  return randomDigits(32);
}

/** A new span id. */
export function newSpanId(): string {
  return randomDigits(16);
}

/** Tells the filters after it which trace a request belongs to, and changes nothing: what runs while nothing is recorded. */
export const passiveTraceFilter: Filter = {
  exchange(exchange) {
    const parent = readParent(exchange.request.headers);
    if (parent === undefined) return;
    const { traceId, spanId, flags } = parent;
    exchange.trace = { traceId, spanId, sampled: (flags & FLAG_SAMPLED) !== 0 };
  },
};
