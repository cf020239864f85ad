import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const EVIL = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

const STRAY = {
  "a whole response": EVIL,
  "the beginning of a response": "HTTP/1.1 200 OK\r\nContent-Le",
  "an empty line and a response": `\r\n${EVIL}`,
  "one byte": "x",
  "a response of 100 KiB": `HTTP/1.1 200 OK\r\nContent-Length: 102400\r\n\r\n${"e".repeat(102400)}`,
} as const;

for (const forwarder of FORWARDERS) {
  for (const [what, bytes] of Object.entries(STRAY)) {
    test(`${forwarder}: ${what} behind a response in one segment is never read as a response`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) =>
        socket.write(origin.connections.length === 1 ? OK + bytes : OK),
      );
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(GET);
      const first = await peer.until((text) => text.endsWith("\r\n\r\nok"));
      const { outcome } = await watch.end();
      assert.equal(outcome.status, 200);
      assert.equal(outcome.error, undefined);
      const { reason } = await watch.closedOn("upstream");
      assert.equal(reason, "protocol_error");

      peer.send(GET);
      const both = await peer.until((text) => text.length > first.length && text.endsWith("\r\n\r\nok"));
      assert.doesNotMatch(both, /evil|eeee/);
      assert.equal(origin.connections.length, 2);
    });

    test(`${forwarder}: ${what} on an idle upstream connection ends it at once`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(GET);
      const first = await peer.until((text) => text.endsWith("\r\n\r\nok"));
      await watch.until(() => watch.idled("upstream") === 1);
      origin.connections[0]!.socket.write(bytes);
      const { reason, connection } = await watch.closedOn("upstream");
      assert.equal(reason, "protocol_error");
      assert.equal(connection.exchanges, 1);

      peer.send(GET);
      const both = await peer.until((text) => text.length > first.length && text.endsWith("\r\n\r\nok"));
      assert.doesNotMatch(both, /evil|eeee/);
      assert.equal(origin.connections.length, 2);
    });
  }

  test(`${forwarder}: bytes that come while a slow peer still reads the response before end the connection`, async (t) => {
    const length = 32 * 1024 * 1024;
    const origin = await rawOrigin(t, ({ socket }) => {
      if (origin.connections.length > 1) return void socket.write(OK);
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n`);
      socket.write(Buffer.alloc(length, "a"), () => setTimeout(() => socket.write(EVIL), 20));
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.socket.removeAllListeners("data");
    let bytes = 0;
    let tail = "";
    peer.socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      tail = (tail + chunk.toString("latin1")).slice(-8);
      // The last part is read late, after the stray bytes have long arrived.
      if (bytes > length / 2 && !peer.socket.isPaused()) {
        peer.socket.pause();
        setTimeout(() => peer.socket.resume(), 1);
      }
    });
    peer.send(GET);
    const { reason } = await watch.closedOn("upstream");
    assert.equal(reason, "protocol_error");
    const { outcome } = await watch.end();
    assert.equal(outcome.responseBytes, length);
    assert.equal(outcome.error, undefined);
    while (bytes < length) await once(peer.socket, "data");
    assert.equal(tail, "aaaaaaaa");

    peer.send(GET);
    while (!tail.endsWith("ok")) await once(peer.socket, "data");
    assert.equal(origin.connections.length, 2);
  });
}
