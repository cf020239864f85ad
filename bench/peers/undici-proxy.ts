/**
 * node:http in front, undici behind. A process of its own.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import http from "node:http";
import { Pool } from "undici";
import { SERVER_NAME } from "../origin/origin.ts";
import type { NodeProxySettings } from "./node-proxies.ts";

const { port, upstream } = JSON.parse(process.argv[2]!) as NodeProxySettings;

const pool = new Pool(`${upstream.scheme}://${upstream.host}:${upstream.port}`, {
  keepAliveTimeout: 55_000,
  keepAliveMaxTimeout: 3_600_000,
  ...(upstream.ca !== undefined && { connect: { ca: readFileSync(upstream.ca), servername: SERVER_NAME } }),
});

/** Fields of one hop that the requests and responses of the bench have. */
const ONE_HOP = new Set(["connection", "keep-alive", "transfer-encoding"]);

function endToEnd(headers: http.IncomingHttpHeaders): http.OutgoingHttpHeaders {
  const kept: http.OutgoingHttpHeaders = {};
  for (const name in headers) if (!ONE_HOP.has(name)) kept[name] = headers[name];
  return kept;
}

function forward(request: http.IncomingMessage, response: http.ServerResponse): void {
  const { method = "GET", url = "/", headers } = request;
  const options = {
    method,
    path: url,
    headers: endToEnd(headers),
    body: method === "GET" ? null : request,
  };
  pool
    .stream(options, ({ statusCode, headers: answered }) => response.writeHead(statusCode, endToEnd(answered)))
    .catch((error: Error) => {
      process.stderr.write(`${error.message}\n`);
      if (response.headersSent) response.destroy();
      else response.writeHead(502).end();
    });
}

http.createServer({ keepAliveTimeout: 65_000 }, forward).listen({ port, host: "127.0.0.1", backlog: 4096 });
