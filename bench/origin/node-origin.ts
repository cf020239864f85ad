/**
 * Node.js as an origin, where nginx is missing or bodies are to be checked. A process of its own.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { buffer } from "node:stream/consumers";
import { LARGE, receipt, SMALL } from "./answers.ts";
import type { OriginSettings } from "./origin.ts";

const { port, tls } = JSON.parse(process.argv[2]!) as OriginSettings;
const KEPT = { keepAliveTimeout: 3_600_000 };

/** Not `async`: a GET is to cost no more than it must. */
function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
  if (request.method === "POST") {
    void buffer(request).then((body) => reply(response, "application/json", receipt(body)));
  } else if (request.url === "/large") {
    reply(response, "application/octet-stream", LARGE);
  } else {
    reply(response, "application/json", SMALL);
  }
}

function reply(response: http.ServerResponse, type: string, body: Uint8Array): void {
  response.writeHead(200, { "Content-Type": type, "Content-Length": body.length });
  response.end(body);
}

http.createServer(KEPT, answer).listen({ port, host: "127.0.0.1", backlog: 4096 });
if (tls !== undefined) {
  https
    .createServer({ ...KEPT, key: readFileSync(tls.key), cert: readFileSync(tls.cert), minVersion: "TLSv1.3" }, answer)
    .listen({ port: tls.port, host: "127.0.0.1", backlog: 4096 });
}
