/**
 * Authentication that belongs to a connection instead of a request: NTLM, and Negotiate as many servers implement it
 * (RFC 4559 §6). Whoever uses such a connection next would be taken for the one who authenticated.
 *
 * @module
 */
import type { HeaderList } from "../plugin/api.ts";

/** Schemes whose credentials stay with the connection. */
const SCHEME = /^[ \t]*(?:ntlm|negotiate|nego2)(?:[ \t]|$)/i;

/** Whether a request authenticates the connection that it is sent on. */
export function authenticatesConnection(headers: HeaderList): boolean {
  // Most requests have none.
  return headers.has("authorization") && headers.getAll("authorization").some(namesScheme);
}

/** Whether a response offers, or continues, a handshake that authenticates the connection that it came on. */
export function challengesConnection(status: number, headers: HeaderList): boolean {
  if (status !== 401 && status !== 407) return false;
  return [...headers.getAll("www-authenticate"), ...headers.getAll("proxy-authenticate")].some((value) =>
    // A comma in a quoted string cuts it in two; what is then found too often costs a connection's reuse, no more.
    value.split(",").some(namesScheme),
  );
}

function namesScheme(text: string): boolean {
  return SCHEME.test(text);
}
