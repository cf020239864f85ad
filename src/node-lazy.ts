/**
 * Modules of Node.js that not every sidecar needs, loaded at their first use: a sidecar that speaks neither TLS nor
 * HTTP/2 is 10 MB smaller without them. The first use takes some milliseconds; whoever knows at the start that it will
 * come calls these then.
 *
 * @module
 */
import type Http2 from "node:http2";
import { createRequire } from "node:module";
import type Tls from "node:tls";

const require = createRequire(import.meta.url);

/** The module node:http2. */
export function nodeHttp2(): typeof Http2 {
  return require("node:http2");
}

/** The module node:tls. */
export function nodeTls(): typeof Tls {
  return require("node:tls");
}
