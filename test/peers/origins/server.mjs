// node:http with the settings of the environment.
import http from "node:http";

const server = http.createServer((_request, response) => {
  response.setHeader("Content-Length", 2);
  response.end("ok");
});
const { PORT, KEEP_ALIVE_MS, MOST } = process.env;
if (KEEP_ALIVE_MS !== undefined) server.keepAliveTimeout = Number(KEEP_ALIVE_MS);
if (MOST !== undefined) server.maxRequestsPerSocket = Number(MOST);
server.listen(Number(PORT), "127.0.0.1");
