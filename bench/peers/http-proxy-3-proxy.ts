/**
 * A bare http-proxy-3 with a keep-alive agent. A process of its own.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { createProxyServer } from "http-proxy-3";
import { SERVER_NAME } from "../origin/origin.ts";
import type { NodeProxySettings } from "./node-proxies.ts";

const { port, upstream } = JSON.parse(process.argv[2]!) as NodeProxySettings;

const agent =
  upstream.ca === undefined
    ? new http.Agent({ keepAlive: true, maxFreeSockets: 2048 })
    : new https.Agent({
        keepAlive: true,
        maxFreeSockets: 2048,
        ca: readFileSync(upstream.ca),
        servername: SERVER_NAME,
      });
const proxy = createProxyServer({ target: `${upstream.scheme}://${upstream.host}:${upstream.port}`, agent });
proxy.on("error", (error, _request, response) => {
  process.stderr.write(`${error.message}\n`);
  if ("writeHead" in response) response.writeHead(502).end();
  else response.destroy();
});

http
  .createServer({ keepAliveTimeout: 65_000 }, (request, response) => void proxy.web(request, response))
  .listen({ port, host: "127.0.0.1", backlog: 4096 });
