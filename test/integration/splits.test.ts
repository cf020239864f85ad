/** Any sequence of valid messages over real sockets, in whatever segments it comes, gives the same result. */
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo, Socket } from "node:net";
import test from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import {
  assertArrived,
  lines,
  type Pair,
  pair,
  requestBytes,
  responseBytes,
  type SeenRequest,
} from "../support/http-messages.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

/** Segments after which the rest goes as one. */
const MAX_SEGMENTS = 60;
/** Turns of the event loop that a reader has to take a segment before the next one follows: it may be paused. */
const TURNS = 10;

/** Sends bytes in segments of these sizes, each once the one before has been read. */
async function send(socket: Socket, bytes: Buffer, sizes: readonly number[], read: () => number): Promise<void> {
  const before = read();
  for (let at = 0, segment = 0; at < bytes.length && socket.writable; segment++) {
    const end = segment < MAX_SEGMENTS ? at + sizes[segment % sizes.length]! : bytes.length;
    await new Promise((resolve) => socket.write(bytes.subarray(at, end), resolve));
    at = end;
    for (let turns = 0; turns < TURNS && read() < before + Math.min(at, bytes.length); turns++) await turn();
  }
}

const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 3000 })), {
  minLength: 1,
  maxLength: 8,
});

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: any pipeline in any segments arrives as it was sent`, async (t) => {
    let pairs: readonly Pair[] = [];
    let answerSizes: readonly number[] = [];
    let seen: SeenRequest[] = [];
    const watch = observer();
    const server = http.createServer({ keepAliveTimeout: 0 }, (request) => {
      const pieces: Buffer[] = [];
      request.on("data", (piece: Buffer) => pieces.push(piece));
      request.on("end", async () => {
        const { socket } = request;
        const pair = pairs[Number(request.headers["x-index"])]!;
        const payload = Buffer.concat(pieces).toString("latin1");
        const { method, url, rawHeaders, rawTrailers } = request;
        seen.push({ method: method!, target: url!, fields: lines(rawHeaders), payload, trailers: lines(rawTrailers) });
        const upstream = watch.opened.findLast(
          (connection) => connection.side === "upstream" && connection.localPort === socket.remotePort,
        )!;
        await send(socket, responseBytes(pair), answerSizes, () => upstream.bytesRead);
        if (pair.originCloses) socket.end();
      });
    });
    server.on("connection", (socket: Socket) => {
      socket.setNoDelay(true);
      socket.on("error", () => {});
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    const sidecar = await testSidecar(t, {
      upstream: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, forwarding: { xForwarded: false, via: false } },
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(pair, { minLength: 1, maxLength: 4 }),
        sizes,
        sizes,
        async (some, requests, answers) => {
          pairs = some;
          answerSizes = answers;
          seen = [];
          const peer = await RawPeer.connect(t, sidecar.inbound);
          peer.socket.setNoDelay(true);
          await watch.until(({ opened }) => opened.some(({ remotePort }) => remotePort === peer.socket.localPort));
          const downstream = watch.opened.findLast(({ remotePort }) => remotePort === peer.socket.localPort)!;
          // The last one closes: that is how the end of the last response is known.
          const last = some.length - 1;
          const closing = some.map((pair, index) =>
            index === last ? { ...pair, fields: [...pair.fields, "Connection: close"] } : pair,
          );
          await send(peer.socket, Buffer.concat(closing.map(requestBytes)), requests, () => downstream.bytesRead);
          assertArrived(some, seen, await peer.untilEnd());
          peer.socket.destroy();
        },
      ),
      { numRuns: 60, includeErrorInReport: true },
    );
  });
}
