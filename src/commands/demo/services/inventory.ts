/**
 * The service `inventory` of the demo: a stock Node.js server, which announces that it keeps idle connections for 5 s.
 *
 * @module
 */
import http from "node:http";
import { serve } from "./serve.ts";

let reserved = 0;

const inventory = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    if (request.method === "POST") reserved++;
    response.writeHead(request.method === "POST" ? 201 : 200, { "Content-Type": "application/json" });
    response.end(`${JSON.stringify({ item: "rope", stock: 1_000_000 - reserved })}\n`);
  });
});

serve(inventory);
