/**
 * node:http by `require`. An `import` of it reads every one of its exports, and some of them (`http.WebSocket`) load
 * the whole of undici: some 10 MB and 30 ms for what nobody here uses.
 *
 * @module
 */

import type Http from "node:http";
import { createRequire } from "node:module";

/** The module node:http. */
export const http: typeof Http = createRequire(import.meta.url)("node:http");
