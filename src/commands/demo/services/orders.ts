/**
 * The service `orders` of the demo: each request asks `inventory`, through the sidecar that stands beside it.
 *
 * @module
 */
import http from "node:http";
import { serve } from "./serve.ts";

let agent = new http.Agent({ keepAlive: true });

const orders = http.createServer((request, response) => {
  if (request.url === "/logout") {
    request.resume();
    response.writeHead(204).end();
    return;
  }
  // Passing the trace context on is what joins both halves of a trace.
  const { traceparent, tracestate } = request.headers;
  const upstream = http.request(
    "http://inventory.internal/stock",
    {
      agent,
      method: request.method ?? "GET",
      headers: {
        ...(typeof traceparent === "string" && { traceparent }),
        ...(typeof tracestate === "string" && { tracestate }),
      },
    },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, { "Content-Type": "application/json" });
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    },
  );
  // Node.js's agent forgets it for connections to a proxy, and each body would wait 40 ms for an acknowledgement.
  upstream.setNoDelay();
  upstream.on("error", (error) => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502).end(`${error.message}\n`);
  });
  request.pipe(upstream);
});

serve(orders, (proxy) => {
  agent = new http.Agent({ keepAlive: true, proxyEnv: { HTTP_PROXY: proxy } });
});
