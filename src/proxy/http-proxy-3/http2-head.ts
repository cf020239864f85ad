/**
 * A request head of HTTP/2 as HTTP/1.1 would have it (RFC 9113 §8.3.1): what remains to be checked, and what must not
 * become something else on the way down (request smuggling).
 *
 * @module
 */
import { HoldfastError } from "../../errors.ts";
import { isAuthority, type ReceivedHead } from "../request-rules.ts";

/** What the pseudo-header fields say, empty where there is none. */
interface Pseudo {
  method: string;
  scheme: string;
  authority: string;
  path: string;
}

/**
 * Turns the fields of a HEADERS frame into a head that can be checked as any other: `:authority` becomes `Host`, cookies
 * that came apart are one field again (RFC 9113 §8.2.3).
 *
 * @param raw - names and values in turn
 * @param secure - whether the connection is TLS; that, and not `:scheme`, is what happened
 * @param bodyFollows - whether the stream goes on after the head
 * @throws HoldfastError with a downstream code
 */
export function headOfStream(raw: readonly string[], secure: boolean, bodyFollows: boolean): ReceivedHead {
  const pseudo: Pseudo = { method: "", scheme: "", authority: "", path: "" };
  const fields: string[] = [];
  const hosts: string[] = [];
  let cookieAt = -1;
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at]!;
    const value = raw[at + 1]!;
    if (name.startsWith(":")) {
      readPseudo(pseudo, name, value);
      continue;
    }
    if (value !== value.trim()) {
      throw new HoldfastError("HF_BAD_REQUEST", `the value of ${name} begins or ends with white space`);
    }
    if (name === "host") {
      hosts.push(value);
    } else if (name === "cookie" && cookieAt !== -1) {
      fields[cookieAt] += `; ${value}`;
    } else {
      if (name === "cookie") cookieAt = fields.length + 1;
      fields.push(name, value);
    }
  }
  const { method, path } = pseudo;
  if (method === "CONNECT") {
    throw new HoldfastError("HF_METHOD_NOT_ALLOWED", "CONNECT over HTTP/2 is not supported; use HTTP/1.1");
  }
  if (pseudo.scheme !== "http" && pseudo.scheme !== "https") {
    throw new HoldfastError("HF_BAD_REQUEST", ":scheme is neither http nor https");
  }
  if (!path.startsWith("/") && path !== "*") {
    throw new HoldfastError("HF_BAD_TARGET", ":path is neither a path nor *");
  }
  fields.unshift("host", hostOf(pseudo.authority, hosts));
  return { method, target: path, version: "2", fields, secure, bodyFollows };
}

function readPseudo(pseudo: Pseudo, name: string, value: string): void {
  switch (name) {
    case ":method":
    case ":scheme":
    case ":authority":
    case ":path": {
      const key = name.slice(1) as keyof Pseudo;
      if (pseudo[key] !== "") throw new HoldfastError("HF_BAD_REQUEST", `${name} stands more than once`);
      pseudo[key] = value;
      return;
    }
    default:
      throw new HoldfastError("HF_BAD_REQUEST", `unknown pseudo-header field ${JSON.stringify(name)}`);
  }
}

/** RFC 9113 §8.3.1: `:authority` is it; a `Host` beside it must not name another. */
function hostOf(authority: string, hosts: readonly string[]): string {
  if (hosts.length > 1) throw new HoldfastError("HF_BAD_HOST", "Host stands more than once");
  const [host] = hosts;
  const named = authority === "" ? host : authority;
  if (named === undefined || !isAuthority(named)) {
    throw new HoldfastError("HF_BAD_HOST", "neither :authority nor Host is a host with an optional port");
  }
  if (host !== undefined && host.toLowerCase() !== named.toLowerCase()) {
    throw new HoldfastError("HF_BAD_HOST", ":authority and Host differ");
  }
  return named;
}
