/**
 * Field lines of a head, and the rules for the fields that belong to one hop.
 *
 * @module
 */
import type { HeaderField, HeaderList, KeepAliveHint } from "../plugin/api.ts";
import { TOKEN, VALUE } from "./grammar/characters.ts";

/** Fields that Holdfast alone writes; plugins state intent instead. */
const CORE_OWNED: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "content-length",
  "transfer-encoding",
  "te",
  "trailer",
  "upgrade",
  "via",
]);

/** Removed on each hop whether or not `Connection` names them (RFC 9110 §7.6.1, RFC 9112 App. C.2.2). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  // For the proxy that asked for it: credentials for us are not for an upstream (RFC 9110 §11.7.2).
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/**
 * A `Connection` token never deletes these, nor what {@link isForwardingField}: doing so would let a peer switch off
 * framing, routing or authentication, or hide where it came from behind a proxy that passes the token on.
 */
const CONNECTION_PROOF: ReadonlySet<string> = new Set(["host", "content-length", "authorization", "cookie"]);

/** Whether a field, its name in lower case, says what was before the hop that it came over. */
export function isForwardingField(name: string): boolean {
  return name.startsWith("x-forwarded") || name === "forwarded" || name === "x-real-ip";
}

/** Never merged from a trailer section (RFC 9110 §6.5.1): framing, routing, request modifiers, authentication, payload processing. */
const FORBIDDEN_TRAILERS: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  "content-length",
  "host",
  "cache-control",
  "expect",
  "max-forwards",
  "pragma",
  "range",
  "authorization",
  "proxy-authorization",
  "proxy-authenticate",
  "www-authenticate",
  "cookie",
  "set-cookie",
  "content-encoding",
  "content-type",
  "content-range",
  "via",
  "traceparent",
  "tracestate",
]);

/** Whether Holdfast alone writes this field. */
export function isCoreOwned(name: string): boolean {
  return CORE_OWNED.has(name.toLowerCase());
}

/** Whether the text is a `token` (RFC 9110 §5.6.2): a method or a field name. */
export function isToken(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (TOKEN[text.charCodeAt(at)] !== 1) return false;
  return text !== "";
}

/**
 * Whether the text may be a field value: bytes (as latin1), no control characters but HTAB (RFC 9110 §5.5). What does
 * not fit a byte is refused, because written as latin1 it turns into another byte: U+010A into a line feed.
 */
export function isFieldValue(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (VALUE[text.charCodeAt(at)] !== 1) return false;
  return true;
}

/** Of lines that are still text, four numbers each: where the name begins and ends, where the value begins and ends. */
export type Offsets = number[];

const NO_OFFSETS: Offsets = [];
/** What may stand in the text behind the lines, of a body for one, and stay there when a value is read. */
const MAX_REST = 1024;

/** Field lines in a flat array, name and value in turn, as they stand on the wire. */
export class FieldList implements HeaderList {
  /** `null` while the lines are still text. */
  #flat: string[] | null;
  #text: string;
  readonly #offsets: Offsets;
  /** Where in the text the lines begin: before them stands the start line. */
  readonly #linesFrom: number;
  /** What was added behind the text, name and value in turn; `null`: nothing. */
  #added: string[] | null = null;

  /** @param flat - names and values in turn; used, not copied. `null`: the lines are text */
  constructor(flat: string[] | null = [], text = "", offsets: Offsets = NO_OFFSETS, linesFrom = 0) {
    this.#flat = flat;
    this.#text = text;
    this.#offsets = offsets;
    this.#linesFrom = linesFrom;
  }

  /**
   * Lines that are still text: look-ups read it, and only a change in the middle of it takes it apart.
   *
   * @param text - a head, or its lines only
   * @param offsets - used, not copied
   * @param linesFrom - where the lines begin
   */
  static ofText(text: string, offsets: Offsets, linesFrom = 0): FieldList {
    return new FieldList(null, text, offsets, linesFrom);
  }

  /** Name, value, name, value, …; core may use and change it directly. */
  get flat(): string[] {
    return this.#flat ?? this.#takeApart();
  }

  /**
   * Every line with its CRLF, as it goes on the wire.
   *
   * @param startLine - goes before them; `null`: the one that stands before the lines in the text they came in
   */
  toText(startLine: string | null = ""): string {
    if (this.#flat !== null) return (startLine ?? this.#startLine()) + linesOf(this.#flat);
    const text = this.#text;
    const offsets = this.#offsets;
    let out = startLine ?? "";
    // Neighbouring lines go as one piece, and so does what stands before them.
    let isFirst = startLine === null;
    if (isFirst && offsets[0] !== this.#linesFrom) {
      out = this.#startLine();
      isFirst = false;
    }
    for (let at = 0; at < offsets.length; ) {
      const start = isFirst ? 0 : offsets[at]!;
      isFirst = false;
      let end = lineEnd(text, offsets[at + 3]!);
      at += 4;
      while (at < offsets.length && offsets[at] === end) {
        end = lineEnd(text, offsets[at + 3]!);
        at += 4;
      }
      out += text.slice(start, end);
    }
    return this.#added === null ? out : out + linesOf(this.#added);
  }

  /** Whether the text that the lines came in has a start line. */
  get hasStartLine(): boolean {
    return this.#linesFrom > 0;
  }

  /** What stands before the lines in the text that they came in. */
  #startLine(): string {
    return this.#text.slice(0, this.#linesFrom);
  }

  get size(): number {
    if (this.#flat !== null) return this.#flat.length / 2;
    return this.#offsets.length / 4 + (this.#added === null ? 0 : this.#added.length / 2);
  }

  get(name: string): string | undefined {
    if (this.#flat !== null) return valueIn(this.#flat, name);
    const at = this.#seek(name);
    if (at !== -1) return this.#valueAt(at);
    return this.#added === null ? undefined : valueIn(this.#added, name);
  }

  getAll(name: string): string[] {
    const values: string[] = [];
    if (this.#flat === null) {
      for (let at = this.#seek(name); at !== -1; at = this.#seek(name, at + 4)) values.push(this.#valueAt(at));
    }
    const rest = this.#flat ?? this.#added;
    if (rest === null) return values;
    for (let at = find(rest, name); at !== -1; at = find(rest, name, at + 2)) values.push(rest[at + 1]!);
    return values;
  }

  has(name: string): boolean {
    if (this.#flat !== null) return find(this.#flat, name) !== -1;
    return this.#seek(name) !== -1 || (this.#added !== null && find(this.#added, name) !== -1);
  }

  set(name: string, value: string): void {
    assertWritable(name, value);
    this.write(name, value);
  }

  append(name: string, value: string): void {
    assertWritable(name, value);
    this.#add(name, value);
  }

  delete(name: string): boolean {
    assertWritable(name, "");
    return this.remove(name);
  }

  /** `set` for core: no field is reserved, nothing is checked. */
  write(name: string, value: string): void {
    if (this.#flat === null && this.#writeText(name, value)) return;
    const { flat } = this;
    const at = find(flat, name);
    if (at === -1) {
      flat.push(name, value);
      return;
    }
    flat[at + 1] = value;
    removeFrom(flat, name, at + 2);
  }

  /** `delete` for core. */
  remove(name: string): boolean {
    if (this.#flat !== null) return removeFrom(this.#flat, name, 0);
    let removed = false;
    for (let at = this.#seek(name); at !== -1; at = this.#seek(name, at)) {
      this.#offsets.splice(at, 4);
      removed = true;
    }
    return (this.#added !== null && removeFrom(this.#added, name, 0)) || removed;
  }

  /** Removes every line whose name, in lower case, passes. */
  removeWhere(test: (name: string) => boolean): void {
    const { flat } = this;
    let kept = 0;
    for (let at = 0; at < flat.length; at += 2) {
      if (test(flat[at]!.toLowerCase())) continue;
      flat[kept++] = flat[at]!;
      flat[kept++] = flat[at + 1]!;
    }
    flat.length = kept;
  }

  *[Symbol.iterator](): Iterator<HeaderField> {
    for (let at = 0; at < this.flat.length; at += 2) yield [this.flat[at]!, this.flat[at + 1]!];
  }

  #takeApart(): string[] {
    this.#leaveRest();
    const flat: string[] = [];
    const text = this.#text;
    const offsets = this.#offsets;
    for (let at = 0; at < offsets.length; at += 4) {
      flat.push(text.slice(offsets[at]!, offsets[at + 1]!), text.slice(offsets[at + 2]!, offsets[at + 3]!));
    }
    if (this.#added !== null) flat.push(...this.#added);
    this.#flat = flat;
    return flat;
  }

  #add(name: string, value: string): void {
    if (this.#flat !== null) this.#flat.push(name, value);
    else if (this.#added === null) this.#added = [name, value];
    else this.#added.push(name, value);
  }

  /** `write` without taking the text apart; tells whether it could be done. */
  #writeText(name: string, value: string): boolean {
    const at = this.#seek(name);
    if (at === -1) {
      const added = this.#added === null ? -1 : find(this.#added, name);
      if (added === -1) {
        this.#add(name, value);
      } else {
        this.#added![added + 1] = value;
        removeFrom(this.#added!, name, added + 2);
      }
      return true;
    }
    const start = this.#offsets[at + 2]!;
    const end = this.#offsets[at + 3]!;
    // A value of another length would move all that follows.
    if (end - start !== value.length || this.#seek(name, at + 4) !== -1) return false;
    if (this.#added !== null) removeFrom(this.#added, name, 0);
    this.#text = this.#text.slice(0, start) + value + this.#text.slice(end);
    return true;
  }

  /** Whoever keeps a value keeps the text that it is cut from: that is not to hold a body too. */
  #leaveRest(): void {
    const text = this.#text;
    const { length } = this.#offsets;
    if (length === 0 || text.length - this.#offsets[length - 1]! < MAX_REST) return;
    const end = lineEnd(text, this.#offsets[length - 1]!);
    this.#text = Buffer.from(text.slice(0, end), "latin1").toString("latin1");
  }

  #valueAt(at: number): string {
    this.#leaveRest();
    return this.#text.slice(this.#offsets[at + 2]!, this.#offsets[at + 3]!);
  }

  /** Index in the offsets of the first line with this name at or after `from`, −1 if there is none. */
  #seek(name: string, from = 0): number {
    const { length } = name;
    const offsets = this.#offsets;
    for (let at = from; at < offsets.length; at += 4) {
      const start = offsets[at]!;
      if (offsets[at + 1]! - start === length && sameName(this.#text, start, name)) return at;
    }
    return -1;
  }
}

/** Lines as they go on the wire, of names and values in turn. */
export function linesOf(flat: readonly string[]): string {
  let text = "";
  for (let at = 0; at < flat.length; at += 2) text += `${flat[at]}: ${flat[at + 1]}\r\n`;
  return text;
}

/** Index of the first name in any case at or after `from`, −1 if there is none. */
function find(flat: readonly string[], wanted: string, from = 0): number {
  for (let at = from; at < flat.length; at += 2) {
    const name = flat[at]!;
    if (name === wanted || (name.length === wanted.length && sameName(name, 0, wanted))) return at;
  }
  return -1;
}

function valueIn(flat: readonly string[], name: string): string | undefined {
  const at = find(flat, name);
  return at === -1 ? undefined : flat[at + 1];
}

function removeFrom(flat: string[], name: string, from: number): boolean {
  let removed = false;
  for (let at = find(flat, name, from); at !== -1; at = find(flat, name, at)) {
    flat.splice(at, 2);
    removed = true;
  }
  return removed;
}

/** Names that plugins were found to be allowed to write: nearly always the same few. */
const writable = new Set<string>();
const MAX_WRITABLE = 64;

function assertWritable(name: string, value: string): void {
  if (!writable.has(name)) {
    if (isCoreOwned(name)) {
      throw new TypeError(`${name} is written by Holdfast alone; state intent through connection.keepAlive or drain()`);
    }
    if (name.length === 4 && name.toLowerCase() === "host") {
      throw new TypeError("Host is sent from the authority of the request head; assign that");
    }
    if (!isToken(name)) throw new TypeError(`not a field name: ${JSON.stringify(name)}`);
    if (writable.size < MAX_WRITABLE) writable.add(name);
  }
  if (!isFieldValue(value)) {
    throw new TypeError(
      `not a field value for ${name}: it holds control characters, or some beyond latin1; encode them`,
    );
  }
}

/** What the fields that belong to one hop said. */
export interface HopFields {
  /** `Connection: close`. */
  readonly close: boolean;
  /** `Connection: keep-alive`, or its old form `Proxy-Connection: keep-alive`. */
  readonly keepAlive: boolean;
  readonly hint: KeepAliveHint | undefined;
  /** `TE: trailers`. */
  readonly trailers: boolean;
  /** Value of `Upgrade`, when `Connection: upgrade` stands beside it. */
  readonly upgrade: string | undefined;
  /** Transfer codings in order, in lower case; empty when there is no `Transfer-Encoding`. */
  readonly transferCodings: readonly string[];
  /** Names that `Trailer` announced and that may be forwarded. */
  readonly trailer: readonly string[];
}

/**
 * Splits field lines into those that travel on (`end`) and those of this hop (`hop`): `Connection` and every field it
 * names, and the ones that are hop-by-hop in themselves (RFC 9110 §7.6.1).
 *
 * @param flat - name and value in turn; not changed
 */
export function splitHopByHop(flat: readonly string[]): { end: FieldList; hop: HopFields } {
  const named = new Set<string>();
  let close = false;
  let keepAlive = false;
  let hint: KeepAliveHint | undefined;
  let trailers = false;
  let upgrade: string | undefined;
  const transferCodings: string[] = [];
  const trailer: string[] = [];

  for (let at = 0; at < flat.length; at += 2) {
    const name = flat[at]!.toLowerCase();
    if (!HOP_BY_HOP.has(name)) continue;
    const value = flat[at + 1]!;
    switch (name) {
      case "connection":
      case "proxy-connection":
        for (const token of listElements(value)) {
          if (token === "close") close = true;
          else if (token === "keep-alive") keepAlive = true;
          else if (name === "connection") named.add(token);
        }
        break;
      case "keep-alive":
        hint = mergeHints(hint, parseKeepAlive(value));
        break;
      case "te":
        for (const element of listElements(value)) if (trimOws(element.split(";")[0]!) === "trailers") trailers = true;
        break;
      case "upgrade":
        upgrade = upgrade === undefined ? value : `${upgrade}, ${value}`;
        break;
      case "transfer-encoding":
        for (const element of listElements(value)) transferCodings.push(element);
        break;
      case "trailer":
        for (const part of value.split(",")) if (mayBeTrailer(trimOws(part))) trailer.push(trimOws(part));
        break;
    }
  }

  const end: string[] = [];
  for (let at = 0; at < flat.length; at += 2) {
    const name = flat[at]!.toLowerCase();
    if (HOP_BY_HOP.has(name)) continue;
    if (named.has(name) && !CONNECTION_PROOF.has(name) && !isForwardingField(name)) continue;
    end.push(flat[at]!, flat[at + 1]!);
  }
  return {
    end: new FieldList(end),
    hop: {
      close,
      keepAlive,
      hint,
      trailers,
      upgrade: named.has("upgrade") ? upgrade : undefined,
      transferCodings,
      trailer,
    },
  };
}

/** Whether a field may travel in a trailer section (RFC 9110 §6.5.1). */
export function mayBeTrailer(name: string): boolean {
  const lower = name.toLowerCase();
  return isToken(name) && !FORBIDDEN_TRAILERS.has(lower) && !isForwardingField(lower);
}

/** Trailer lines that may be forwarded, name and value in turn. */
export function allowedTrailers(flat: readonly string[]): string[] {
  const allowed: string[] = [];
  for (let at = 0; at < flat.length; at += 2) {
    if (mayBeTrailer(flat[at]!)) allowed.push(flat[at]!, flat[at + 1]!);
  }
  return allowed;
}

/** Without the white space that HTTP knows around values: `trim()` takes away more, such as U+00A0. */
function trimOws(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, "");
}

/** Elements of a comma-separated list in lower case, empty ones left out (RFC 9110 §5.6.1). */
export function listElements(value: string): string[] {
  const elements: string[] = [];
  for (const part of value.split(",")) {
    const element = trimOws(part).toLowerCase();
    if (element !== "") elements.push(element);
  }
  return elements;
}

/**
 * Whether a comma-separated list is empty or has an empty element. That is valid (RFC 9110 §5.6.1), but parsers
 * disagree on what it means, so it may not stand where the end of a message depends on it.
 */
export function hasEmptyElement(value: string): boolean {
  return /(?:^|,)[ \t]*(?:,|$)/.test(value);
}

/**
 * Reads `Keep-Alive: timeout=60, max=100` in any order, case and quoting; what is not a whole number is ignored.
 * The unit is seconds on the wire, milliseconds here.
 */
export function parseKeepAlive(value: string): KeepAliveHint {
  let timeoutMs: number | undefined;
  let maxRequests: number | undefined;
  for (const part of value.split(/[,;]/)) {
    const equals = part.indexOf("=");
    if (equals === -1) continue;
    const name = part.slice(0, equals).trim().toLowerCase();
    const text = part
      .slice(equals + 1)
      .trim()
      .replace(/^"(.*)"$/, "$1")
      .trim();
    if (!/^\d{1,10}$/.test(text)) continue;
    if (name === "timeout") timeoutMs ??= Number(text) * 1000;
    else if (name === "max") maxRequests ??= Number(text);
  }
  return { timeoutMs, maxRequests };
}

function mergeHints(first: KeepAliveHint | undefined, second: KeepAliveHint): KeepAliveHint {
  return {
    timeoutMs: first?.timeoutMs ?? second.timeoutMs,
    maxRequests: first?.maxRequests ?? second.maxRequests,
  };
}

/** Whether the text at `start` is this field name, in any case. */
function sameName(text: string, start: number, name: string): boolean {
  for (let at = 0; at < name.length; at++) {
    const a = text.charCodeAt(start + at);
    const b = name.charCodeAt(at);
    if (a === b) continue;
    // Only letters have a case.
    const letter = a | 0x20;
    if (letter !== (b | 0x20) || letter < 0x61 || letter > 0x7a) return false;
  }
  return true;
}

/** Where the line ends, CRLF included: white space may stand between a value and it. */
function lineEnd(text: string, valueEnd: number): number {
  return text.charCodeAt(valueEnd) === 0x0d ? valueEnd + 2 : text.indexOf("\r\n", valueEnd) + 2;
}
