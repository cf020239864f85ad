/**
 * What a request head must be before anything of it may reach an upstream (RFC 9110, RFC 9112), for every forwarder.
 *
 * @module
 */
import { isIPv6 } from "node:net";
import type { Limits } from "../config/sidecar-config.ts";
import { HoldfastError } from "../errors.ts";
import type { RequestHead } from "../plugin/api.ts";
import { FieldList, type HopFields, hasEmptyElement, isFieldValue, isToken, splitHopByHop } from "./headers.ts";

/** How long a body waits for the upstream's word on `Expect: 100-continue` (RFC 9110 §10.1.1). */
export const CONTINUE_TIMEOUT_MS = 1000;

/** A head as a parser found it. */
export interface ReceivedHead {
  readonly method: string;
  readonly target: string;
  /** As the request line said it: `"1.1"`. */
  readonly version: string;
  /** Names and values in turn. */
  readonly fields: readonly string[];
  /** Whether the connection it came on is TLS. */
  readonly secure: boolean;
  /** HTTP/2, where frames tell the end of a body: whether there is one. */
  readonly bodyFollows?: boolean;
}

/** How a message's body is delimited (RFC 9112 §6). */
export type Framing =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" };

/** A head that may be forwarded. */
export class CheckedHead implements RequestHead {
  readonly method: string;
  readonly scheme: "http" | "https";
  readonly version: "1.0" | "1.1" | "2";
  readonly headers: FieldList;
  readonly hop: HopFields;
  framing: Framing;
  /** `authority`: for CONNECT. `absolute`: the request names its upstream itself, as to a forward proxy. */
  readonly form: "origin" | "absolute" | "authority" | "asterisk";
  /** `Expect: 100-continue`. */
  readonly expectsContinue: boolean;
  /** Whether it is known to say nothing of hops before the peer. */
  readonly plain: boolean;
  #target: string;
  #authority: string;

  constructor(parts: Omit<CheckedHead, "plain">, plain = false) {
    this.plain = plain;
    this.method = parts.method;
    this.#target = parts.target;
    this.scheme = parts.scheme;
    this.#authority = parts.authority;
    this.version = parts.version;
    this.headers = parts.headers;
    this.hop = parts.hop;
    this.framing = parts.framing;
    this.form = parts.form;
    this.expectsContinue = parts.expectsContinue;
  }

  get target(): string {
    return this.#target;
  }

  // Plugins assign it: what they write must not become a second request.
  set target(value: string) {
    if (this.form === "authority") throw new TypeError("the target of CONNECT cannot be changed");
    const isPath = typeof value === "string" && value.startsWith("/") && !BAD_TARGET.test(value);
    if (!isPath && !(value === "*" && this.method === "OPTIONS")) {
      throw new TypeError(
        `not a request target: ${shown(value, /\?.*/s)}; it must be a path, encoded, without fragment`,
      );
    }
    this.#target = value;
  }

  get authority(): string {
    return this.#authority;
  }

  set authority(value: string) {
    if (typeof value !== "string" || !isAuthority(value)) {
      throw new TypeError(`not a host with an optional port: ${shown(value, /.*@/s)}`);
    }
    this.#authority = value;
  }
}

/** A name or [IPv6], with or without a port; no user information (RFC 9110 §4.2.4, §7.2). */
const AUTHORITY = /^(?:\[([0-9A-Fa-f:.]+)(?:%25[\w.~-]+)?\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::(\d{0,5}))?$/;
const ABSOLUTE = /^(https?):\/\/([^/?#]*)(.*)$/i;
/** Outside of ASCII's visible characters, or a fragment (RFC 9112 §3.2). */
const BAD_TARGET = /[^!-"$-~]/;

/**
 * Checks a request head against the grammar and the limits.
 *
 * @throws HoldfastError with a downstream code; the connection must be closed after the response
 */
export function checkRequestHead(received: ReceivedHead, limits: Limits): CheckedHead {
  const { method, target, fields } = received;
  const version = checkVersion(received.version);
  if (!isToken(method)) throw new HoldfastError("HF_BAD_REQUEST", "the method is not a token");
  if (target.length > limits.targetBytes) {
    throw new HoldfastError(
      "HF_TARGET_TOO_LONG",
      `request target longer than limits.target (${limits.targetBytes} bytes)`,
    );
  }
  checkSize(received, limits);
  for (let at = 0; at < fields.length; at += 2) {
    if (!isToken(fields[at]!)) throw new HoldfastError("HF_BAD_REQUEST", "a field name is not a token");
    if (!isFieldValue(fields[at + 1]!)) {
      throw new HoldfastError("HF_BAD_REQUEST", `the value of ${fields[at]} holds control characters`);
    }
  }

  const all = new FieldList(fields as string[]);
  const { end, hop } = splitHopByHop(fields);
  const framing = requestFraming(all, hop, version, received.bodyFollows ?? false);
  const host = checkHost(all, version);
  const { form, path, scheme, authority } = checkTarget(method, target, host, received.secure);
  const expectsContinue = checkExpect(all, version);
  return new CheckedHead({
    method,
    target: path,
    scheme,
    authority,
    version,
    headers: end,
    hop,
    framing,
    form,
    expectsContinue,
  });
}

/** What a plugin wrote, for an error that is logged: short, and without the part that may be secret. */
function shown(value: unknown, secret: RegExp): string {
  return typeof value === "string" ? JSON.stringify(value.replace(secret, "…").slice(0, 80)) : typeof value;
}

function checkVersion(version: string): "1.0" | "1.1" | "2" {
  if (version === "1.1" || version === "1.0" || version === "2") return version;
  throw new HoldfastError("HF_VERSION_NOT_SUPPORTED", "not HTTP/1.0 or HTTP/1.1");
}

/** `METHOD SP target SP HTTP/1.1 CRLF … CRLF` without method and target. */
const LINE_OVERHEAD_BYTES = 14;

function checkSize({ method, target, fields }: ReceivedHead, limits: Limits): void {
  if (fields.length / 2 > limits.fields) {
    throw new HoldfastError("HF_HEAD_TOO_LARGE", `more field lines than limits.fields (${limits.fields})`);
  }
  let bytes = method.length + target.length + LINE_OVERHEAD_BYTES;
  for (let at = 0; at < fields.length; at += 2) bytes += fields[at]!.length + fields[at + 1]!.length + 4;
  if (bytes > limits.headBytes) {
    throw new HoldfastError("HF_HEAD_TOO_LARGE", `head larger than limits.head (${limits.headBytes} bytes)`);
  }
}

/** RFC 9112 §6.3; stricter where leniency has let requests be smuggled. */
function requestFraming(fields: FieldList, hop: HopFields, version: string, bodyFollows: boolean): Framing {
  const lengths = fields.getAll("content-length");
  const hasCoding = fields.has("transfer-encoding");
  if (hasCoding && lengths.length > 0) {
    throw new HoldfastError("HF_BAD_FRAMING", "Content-Length and Transfer-Encoding stand together");
  }
  if (hasCoding) {
    if (version !== "1.1") throw new HoldfastError("HF_BAD_FRAMING", `Transfer-Encoding in an HTTP/${version} request`);
    if (fields.getAll("transfer-encoding").some(hasEmptyElement)) {
      throw new HoldfastError("HF_BAD_FRAMING", "Transfer-Encoding is empty or has an empty element");
    }
    if (hop.transferCodings.length !== 1 || hop.transferCodings[0] !== "chunked") {
      const last = hop.transferCodings.at(-1);
      const count = hop.transferCodings.filter((coding) => coding === "chunked").length;
      // A body whose end cannot be told is refused; one whose end can be told but not decoded is not implemented.
      if (last !== "chunked" || count !== 1) {
        throw new HoldfastError("HF_BAD_FRAMING", "Transfer-Encoding does not end in one chunked");
      }
      throw new HoldfastError("HF_CODING_NOT_SUPPORTED", "only the transfer coding chunked is supported");
    }
    return { kind: "chunked" };
  }
  if (lengths.length === 0) return { kind: bodyFollows ? "chunked" : "none" };
  const text = lengths[0]!;
  if (lengths.length > 1) throw new HoldfastError("HF_BAD_FRAMING", "Content-Length stands more than once");
  if (!/^\d+$/.test(text)) throw new HoldfastError("HF_BAD_FRAMING", "Content-Length is not a number of bytes");
  const bytes = Number(text);
  if (!Number.isSafeInteger(bytes)) {
    throw new HoldfastError("HF_BODY_TOO_LARGE", "Content-Length is larger than can be counted");
  }
  return { kind: "length", bytes };
}

/** RFC 9112 §3.2: exactly one Host on HTTP/1.1, and a valid one. */
function checkHost(fields: FieldList, version: string): string {
  const hosts = fields.getAll("host");
  if (hosts.length === 0) {
    if (version !== "1.0") throw new HoldfastError("HF_BAD_HOST", "Host is missing");
    return "";
  }
  if (hosts.length > 1) throw new HoldfastError("HF_BAD_HOST", "Host stands more than once");
  const host = hosts[0]!;
  if (host !== "" && !isAuthority(host))
    throw new HoldfastError("HF_BAD_HOST", "Host is not a host with an optional port");
  return host;
}

/** RFC 9112 §3.2: the four forms of a request target. */
function checkTarget(
  method: string,
  target: string,
  host: string,
  secure: boolean,
): Pick<CheckedHead, "form" | "scheme" | "authority"> & { path: string } {
  const scheme = secure ? "https" : "http";
  if (target === "" || BAD_TARGET.test(target)) {
    throw new HoldfastError(
      "HF_BAD_TARGET",
      "the request target is empty or holds control characters, spaces, a fragment or bytes beyond ASCII",
    );
  }
  if (method === "CONNECT") {
    if (!isAuthority(target) || !/:0*[1-9]\d*$/.test(target)) {
      throw new HoldfastError("HF_BAD_TARGET", "CONNECT takes host:port, and the port must not be 0");
    }
    return { form: "authority", path: target, scheme: "http", authority: target };
  }
  if (target.startsWith("/")) return { form: "origin", path: target, scheme, authority: host };
  if (target === "*") {
    if (method !== "OPTIONS") throw new HoldfastError("HF_BAD_TARGET", "only OPTIONS takes the target *");
    return { form: "asterisk", path: target, scheme, authority: host };
  }
  const absolute = ABSOLUTE.exec(target);
  if (absolute === null || !isAuthority(absolute[2]!)) {
    throw new HoldfastError("HF_BAD_TARGET", "the request target is neither a path, an http(s) URI nor *");
  }
  const rest = absolute[3]!;
  // OPTIONS with an absolute form without path means the upstream itself (RFC 9112 §3.2.4).
  const path = rest === "" ? (method === "OPTIONS" ? "*" : "/") : rest.startsWith("?") ? `/${rest}` : rest;
  return {
    form: "absolute",
    path,
    scheme: absolute[1]!.toLowerCase() as "http" | "https",
    authority: absolute[2]!,
  };
}

/** RFC 9110 §10.1.1. HTTP/1.0 knows no expectations: they are ignored. */
function checkExpect(fields: FieldList, version: string): boolean {
  const expected = fields.getAll("expect");
  if (expected.length === 0 || version === "1.0") return false;
  if (expected.some((value) => value.toLowerCase() !== "100-continue")) {
    throw new HoldfastError("HF_EXPECTATION_FAILED", "only the expectation 100-continue is known");
  }
  return true;
}

/** Whether the text is a host with an optional port (RFC 9110 §7.2). */
export function isAuthority(text: string): boolean {
  const parts = AUTHORITY.exec(text);
  if (parts === null) return false;
  const [, address, port] = parts;
  return (address === undefined || isIPv6(address)) && (port === undefined || Number(port) <= 65_535);
}
