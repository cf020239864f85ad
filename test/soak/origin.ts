/** An origin that answers, and errs, as the target says. */
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";

/** What a target stands for, and what a caller must get for it: a status, or a response that is cut. */
export const TARGETS: Readonly<Record<string, number | "cut">> = {
  "/small": 200,
  "/large": 200,
  "/chunked": 200,
  "/slow": 200,
  "/missing": 404,
  "/close": 200,
  "/reset": 502,
  "/garbage": 502,
  "/cut": "cut",
};

const LARGE = Buffer.alloc(100_000, "l");

/** Starts it. */
export async function soakOrigin(): Promise<{ readonly url: string; close(): void }> {
  const server = http.createServer((request, response) => {
    const { socket } = request;
    request.resume();
    switch (request.url) {
      case "/reset":
        socket.resetAndDestroy();
        return;
      case "/garbage":
        socket.end("I am not HTTP\r\n\r\n");
        return;
      case "/cut":
        response.writeHead(200, { "Content-Length": 1000 });
        response.write("begun", () => socket.destroy());
        return;
    }
    request.on("end", () => {
      switch (request.url) {
        case "/large":
          response.end(LARGE);
          return;
        case "/chunked":
          response.write("one");
          setImmediate(() => response.end("two"));
          return;
        case "/slow":
          setTimeout(() => response.end("slow"), 5);
          return;
        case "/missing":
          response.writeHead(404).end("missing");
          return;
        case "/close":
          response.setHeader("Connection", "close");
          response.end("last");
          return;
        default:
          response.end("ok");
      }
    });
  });
  // Short, so that connections come and go.
  server.keepAliveTimeout = 2000;
  server.listen(0, "127.0.0.1", 4096);
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
