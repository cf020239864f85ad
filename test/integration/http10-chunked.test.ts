/** A chunked response for a peer that knows no chunks: what is payload must not depend on how the bytes come. */
import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const PAYLOAD = `0\r\n\r\n${"payload ".repeat(40)}5\r\n`;
const CHUNKED =
  `1;a="b"\r\n${PAYLOAD[0]}\r\n` +
  `${(PAYLOAD.length - 1).toString(16).toUpperCase()}\r\n${PAYLOAD.slice(1)}\r\n0;last\r\nX-Sum: 1\r\n\r\n`;

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a chunked response in pieces of any size reaches HTTP/1.0 as its payload`, async (t) => {
    for (const step of [1, 2, 3, 7, CHUNKED.length]) {
      const origin = await rawOrigin(t, async ({ socket }) => {
        socket.setNoDelay(true);
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (let at = 0; at < CHUNKED.length; at += step) {
          // One turn of the loop each, so that they are read apart.
          await new Promise((resolve) => setImmediate(resolve));
          socket.write(CHUNKED.slice(at, at + step), "latin1");
        }
      });
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("GET / HTTP/1.0\r\n\r\n");
      const answer = await peer.untilEnd();
      assert.equal(answer.slice(answer.indexOf("\r\n\r\n") + 4), PAYLOAD, `pieces of ${step}`);
    }
  });
}
