// The service `orders`: each request asks `inventory` for the stock. It listens on loopback only: callers come through
// the sidecar's inbound listener, and HTTP_PROXY takes its own requests through the outbound one.
import { createServer, get } from "node:http";

const server = createServer((request, response) => {
  if (request.url === "/healthz") {
    response.end("ok\n");
    return;
  }
  // Passing the trace context on is what joins both halves of a trace.
  const { traceparent, tracestate } = request.headers;
  const headers = Object.fromEntries(Object.entries({ traceparent, tracestate }).filter(([, value]) => value));
  const stock = get("http://inventory.internal/stock", { headers }, (answer) => {
    response.writeHead(answer.statusCode, { "Content-Type": "application/json" });
    answer.pipe(response);
  });
  stock.on("error", (error) => response.writeHead(502).end(`${error.message}\n`));
});
server.listen(8080, "127.0.0.1");

process.on("SIGTERM", () => server.close());
