// The service `inventory`: a stock Node server, which closes idle connections after 5 s.
import { createServer } from "node:http";

const server = createServer((request, response) => {
  if (request.url === "/healthz") {
    response.end("ok\n");
    return;
  }
  response.writeHead(200, { "Content-Type": "application/json" });
  response.end(`${JSON.stringify({ item: "rope", stock: 42 })}\n`);
});
server.listen(8080, "127.0.0.1");

process.on("SIGTERM", () => server.close());
