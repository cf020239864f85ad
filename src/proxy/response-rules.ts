/**
 * What a response head from an upstream must be before any of it goes downstream (RFC 9112 §6.3).
 *
 * @module
 */
import { HoldfastError } from "../errors.ts";
import { FieldList, hasEmptyElement, isFieldValue, isToken, listElements } from "./headers.ts";

/** 1xx heads of one response may together be this many times `limits.head`: an upstream could send them for ever. */
export const INTERIM_ROOM = 16;

/** Whether a response with this status to this method has a body at all (RFC 9112 §6.3). */
export function hasBody(method: string, status: number): boolean {
  return method !== "HEAD" && status >= 200 && status !== 204 && status !== 304;
}

/**
 * Checks a response head, and tells how its body ends.
 *
 * @param fields - names and values in turn, as received
 * @param version - as received
 * @returns `"close"` when only the end of the connection delimits it
 * @throws HoldfastError `HF_UPSTREAM_BAD_RESPONSE`
 */
export function checkResponseHead(
  method: string,
  status: number,
  fields: readonly string[],
  version = "1.1",
): "none" | "length" | "chunked" | "close" {
  if (version !== "1.0" && version !== "1.1") throw bad(`HTTP/${version} was not asked for`);
  if (status < 100) throw bad(`${status} is not a status`);
  for (let at = 0; at < fields.length; at += 2) {
    if (!isToken(fields[at]!) || !isFieldValue(fields[at + 1]!)) throw bad("a field name or value is not valid");
  }
  const list = new FieldList(fields as string[]);
  const lengths = list.getAll("content-length");
  const codingLines = list.getAll("transfer-encoding");
  if (codingLines.some(hasEmptyElement)) throw bad("Transfer-Encoding is empty or has an empty element");
  const codings = codingLines.flatMap(listElements);
  if (codings.length > 0 && version === "1.0") throw bad("Transfer-Encoding in an HTTP/1.0 response");
  if (lengths.length > 0 && codings.length > 0) throw bad("Content-Length and Transfer-Encoding stand together");
  if (lengths.length > 1) throw bad("Content-Length stands more than once");
  if (lengths.length === 1 && !/^\d{1,15}$/.test(lengths[0]!)) throw bad("Content-Length is not a number of bytes");
  if (codings.length > 0 && (codings.at(-1) !== "chunked" || codings.length > 1)) {
    throw bad("a transfer coding other than one chunked");
  }
  if (!hasBody(method, status)) return "none";
  if (codings.length > 0) return "chunked";
  return lengths.length === 1 ? "length" : "close";
}

function bad(what: string): HoldfastError {
  return new HoldfastError("HF_UPSTREAM_BAD_RESPONSE", `the upstream's response head is not valid: ${what}`);
}
