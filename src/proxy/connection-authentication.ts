/**
 * Authentication that belongs to a connection instead of a request: NTLM, and Negotiate as many servers implement it
 * (RFC 4559 §6). Whoever uses such a connection next would be taken for the one who authenticated.
 *
 * @module
 */
import type { HeaderList } from "../plugin/api.ts";

/** Schemes whose credentials stay with the connection, in lower case. */
const SCHEMES: ReadonlySet<string> = new Set(["ntlm", "negotiate", "nego2"]);

/** Whether a request authenticates the connection that it is sent on. */
export function authenticatesConnection(headers: HeaderList): boolean {
  const credentials = headers.get("authorization");
  if (credentials === undefined) return false;
  // Nearly all credentials are of another kind.
  const initial = credentials.charCodeAt(0) | 0x20;
  return initial === N && headers.getAll("authorization").some(namesScheme);
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
  const [scheme = ""] = text.trim().split(/[ \t]/, 1);
  return SCHEMES.has(scheme.toLowerCase());
}

const N = 0x6e;
