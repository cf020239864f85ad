import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import test from "node:test";
import type { Connection } from "../../src/plugin/api.ts";
import type { ProxyConnection } from "../../src/proxy/connection.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, testSidecar } from "../support/peers.ts";

/** What is sent in all; and what the sidecar may hold of it in its own memory, beside what kernels buffer. */
const TOTAL = 96 * 1024 * 1024;
const MAY_HOLD = 4 * 1024 * 1024;
const PIECE = Buffer.alloc(256 * 1024, "x");

/** Writes TOTAL bytes as fast as the socket takes them. */
async function pour(socket: net.Socket, chunked: boolean): Promise<void> {
  const piece = chunked ? Buffer.concat([Buffer.from("40000\r\n"), PIECE, Buffer.from("\r\n")]) : PIECE;
  for (let sent = 0; sent < TOTAL; sent += PIECE.length) {
    if (!socket.write(piece)) await once(socket, "drain");
  }
  if (chunked) socket.write("0\r\n\r\n");
}

/** Resolves once the number has stayed the same for a while: what flowed is now held up. */
async function standstill(read: () => number): Promise<void> {
  for (let before = -1, same = 0; same < 10; ) {
    const now = read();
    same = now === before && now > 0 ? same + 1 : 0;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Bytes that the sidecar has read on one side and not yet given to the kernel on the other, but for framing. */
function held(from: Connection, to: Connection): number {
  const { socket } = to as ProxyConnection;
  return from.bytesRead - (socket.bytesWritten - socket.writableLength);
}

for (const forwarder of FORWARDERS) {
  for (const kind of ["Content-Length", "chunked", "tunnel"] as const) {
    for (const way of ["response", "upload"] as const) {
      test(`${forwarder}: a ${way} (${kind}) that nobody reads stops its sender and stays out of memory`, async (t) => {
        const head =
          kind === "tunnel"
            ? "Connection: Upgrade\r\nUpgrade: x\r\n\r\n"
            : kind === "chunked"
              ? "Transfer-Encoding: chunked\r\n\r\n"
              : `Content-Length: ${TOTAL}\r\n\r\n`;
        const chunked = kind === "chunked";
        let taken = 0;
        let poured: Promise<void> | undefined;
        const origin = net.createServer((socket) => {
          socket.on("error", () => {});
          t.after(() => socket.destroy());
          socket.once("data", (first) => {
            taken += first.length;
            if (kind === "tunnel") socket.write(`HTTP/1.1 101 Switching Protocols\r\n${head}`);
            if (way === "response") {
              if (kind !== "tunnel") socket.write(`HTTP/1.1 200 OK\r\n${head}`);
              poured = pour(socket, chunked);
            } else {
              socket.pause();
              socket.on("data", (bytes) => {
                taken += bytes.length;
              });
              far = socket;
            }
          });
        });
        let far: net.Socket | undefined;
        origin.listen(0, "127.0.0.1");
        await once(origin, "listening");
        t.after(() => void origin.close());
        const watch = observer();
        const sidecar = await testSidecar(t, {
          upstream: `http://127.0.0.1:${(origin.address() as AddressInfo).port}`,
          plugins: [{ plugin: watch.plugin }],
          config: { forwarder },
        });
        const near = net.connect({ host: "127.0.0.1", port: Number(new URL(sidecar.inbound).port) });
        t.after(() => near.destroy());
        near.on("error", () => {});
        await once(near, "connect");
        if (way === "response") {
          const ask = kind === "tunnel" ? head : "\r\n";
          near.write(`GET / HTTP/1.1\r\nHost: h\r\n${ask}`);
          near.pause();
          near.on("data", (bytes) => {
            taken += bytes.length;
          });
        } else if (kind === "tunnel") {
          near.write(`GET / HTTP/1.1\r\nHost: h\r\n${head}`);
          await once(near, "data");
          poured = pour(near, false);
        } else {
          near.write(`POST / HTTP/1.1\r\nHost: h\r\n${head}`);
          poured = pour(near, chunked);
        }

        await watch.until(() => watch.opened.length === 2);
        const [downstream, upstream] = watch.opened as [Connection, Connection];
        const [from, to] = way === "response" ? [upstream, downstream] : [downstream, upstream];
        await standstill(() => from.bytesRead);
        assert.ok(from.bytesRead < TOTAL, "all of it was read although nobody took it");
        assert.ok(held(from, to) < MAY_HOLD, `${held(from, to)} bytes are held`);

        (way === "response" ? near : far!).resume();
        let most = 0;
        while (taken < TOTAL) {
          await once(way === "response" ? near : far!, "data");
          most = Math.max(most, held(from, to));
        }
        await poured;
        assert.ok(most < MAY_HOLD, `${most} bytes were held on the way`);
      });
    }
  }
}
