/**
 * The origin, a process of its own on the far host: `origin.ts FOLDER`. Keeps connections on its plain and TLS ports
 * for as long as the caller likes, and closes them after every response on a third.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import http, { type RequestListener, type Server } from "node:http";
import https from "node:https";
import path from "node:path";
import { partAt } from "./page.ts";

/** Ports of the origin. */
export const ORIGIN_PORTS = { http: 8080, https: 8443, closing: 8081 } as const;

/** What it answers under `/after/MS`. */
export const LATE_BODY = "at last\n";

function main(folder: string): void {
  const tls = { cert: readFileSync(path.join(folder, "cert.pem")), key: readFileSync(path.join(folder, "key.pem")) };
  keep(http.createServer(answer)).listen(ORIGIN_PORTS.http, "0.0.0.0");
  keep(https.createServer(tls, answer)).listen(ORIGIN_PORTS.https, "0.0.0.0");
  const closing = http.createServer((request, response) => {
    response.setHeader("Connection", "close");
    answer(request, response);
  });
  closing.listen(ORIGIN_PORTS.closing, "127.0.0.1", () => process.stdout.write("ready\n"));
}

function keep<S extends Server>(server: S): S {
  server.keepAliveTimeout = 0;
  return server;
}

const answer: RequestListener = (request, response) => {
  const url = request.url ?? "";
  const [, wait] = /^\/after\/(\d{1,5})$/.exec(url) ?? [];
  const body = wait === undefined ? partAt(url) : LATE_BODY;
  if (body === undefined) {
    response.writeHead(404).end();
    return;
  }
  const send = () => response.writeHead(200, { "Content-Length": Buffer.byteLength(body) }).end(body);
  if (wait === undefined) send();
  else setTimeout(send, Number(wait));
};

if (import.meta.main) main(process.argv[2]!);
