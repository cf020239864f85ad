/** An origin that reads requests as node:http does, strictly, and counts what it was made to see. */
import { EventEmitter, once } from "node:events";
import http from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { TestContext } from "node:test";

/** A request that the origin began to read. */
export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  /** Names and values in turn, as received. */
  readonly fields: readonly string[];
  /** Latin-1. */
  body: string;
  trailers: readonly string[];
  /** Whether it came to its end. */
  complete: boolean;
  /** The connection it came on. */
  readonly socket: Socket;
}

/** What it saw. */
export interface HttpOrigin {
  readonly url: string;
  readonly requests: readonly SeenRequest[];
  /** Sockets accepted so far. */
  readonly sockets: readonly Socket[];
  /** Resolves once the condition holds; looked at whenever something arrives or closes. */
  until(condition: () => boolean): Promise<void>;
}

/** Starts it; it closes when the test ends. Answers `200 ok` to each whole request unless told otherwise. */
export async function httpOrigin(
  t: TestContext,
  answer: (request: http.IncomingMessage, response: http.ServerResponse, seen: SeenRequest) => void = (_, response) => {
    response.end("ok");
  },
): Promise<HttpOrigin> {
  const requests: SeenRequest[] = [];
  const sockets: Socket[] = [];
  const changes = new EventEmitter();
  const changed = (): boolean => changes.emit("change");
  const options = { keepAliveTimeout: 0, requireHostHeader: false, maxHeaderSize: 1 << 20 };
  const server = http.createServer(options, (request, response) => {
    const seen: SeenRequest = {
      method: request.method!,
      target: request.url!,
      fields: request.rawHeaders,
      body: "",
      trailers: [],
      complete: false,
      socket: request.socket,
    };
    requests.push(seen);
    changed();
    request.on("data", (bytes: Buffer) => {
      seen.body += bytes.toString("latin1");
      changed();
    });
    request.on("end", () => {
      seen.complete = request.complete;
      seen.trailers = request.rawTrailers;
      answer(request, response, seen);
      changed();
    });
    request.on("error", changed);
  });
  server.maxHeadersCount = 0;
  server.on("connection", (socket: Socket) => {
    sockets.push(socket);
    changed();
    socket.on("close", changed);
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    sockets,
    async until(condition) {
      while (!condition()) await once(changes, "change");
    },
  };
}

/** Values of a field in a flat list of names and values. */
export function valuesOf(fields: readonly string[], name: string): string[] {
  return fields.filter((_, at) => at % 2 === 1 && fields[at - 1]!.toLowerCase() === name.toLowerCase());
}
