import assert from "node:assert/strict";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const HEADS = {
  "HTTP/1.1 with neither length nor coding": "HTTP/1.1 200 OK\r\n\r\n",
  "HTTP/1.1 with Connection: close": "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
  "HTTP/1.0": "HTTP/1.0 200 OK\r\n\r\n",
} as const;
const PIECE = "0123456789abcdef".repeat(4096);

for (const forwarder of FORWARDERS) {
  for (const [what, head] of Object.entries(HEADS)) {
    test(`${forwarder}: ${what}: a body until the end is chunked for an HTTP/1.1 peer, whose connection stays`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => {
        socket.write(head);
        for (let piece = 0; piece < 8; piece++) socket.write(PIECE);
        socket.end();
      });
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      for (let round = 1; round <= 2; round++) {
        peer.received = "";
        peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        const text = await peer.until((text) => text.endsWith("\r\n0\r\n\r\n"));
        const [fields, framed] = splitOnce(text, "\r\n\r\n");
        assert.match(`${fields}\r\n`, /\r\nTransfer-Encoding: chunked\r\n/i);
        assert.match(`${fields}\r\n`, /\r\nConnection: keep-alive\r\n/);
        assert.equal(unchunk(framed), PIECE.repeat(8));
        const { reason } = await watch.closedOn("upstream", round);
        assert.equal(reason, "peer_closed");
      }
      assert.equal(origin.connections.length, 2);
      const { outcome } = await watch.end();
      assert.equal(outcome.error, undefined);
      assert.equal(outcome.responseBytes, PIECE.length * 8);
    });

    for (const keepAlive of ["", "Connection: keep-alive\r\n"]) {
      test(`${forwarder}: ${what}: a body until the end closes the connection of an HTTP/1.0 peer ${keepAlive.trim()}`, async (t) => {
        const origin = await rawOrigin(t, ({ socket }) => socket.end(`${head}${PIECE}`));
        const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
        const peer = await RawPeer.connect(t, sidecar.inbound);
        peer.send(`GET / HTTP/1.0\r\nHost: h\r\n${keepAlive}\r\n`);
        const [fields, body] = splitOnce(await peer.untilEnd(), "\r\n\r\n");
        assert.doesNotMatch(fields, /transfer-encoding|content-length/i);
        assert.match(`${fields}\r\n`, /\r\nConnection: close\r\n/);
        assert.equal(body, PIECE);
      });
    }
  }

  test(`${forwarder}: a reset in a body until the end is not taken for its end`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write(`HTTP/1.1 200 OK\r\n\r\n${PIECE}`);
      void peer.until((text) => text.includes(PIECE.slice(-16))).then(() => socket.resetAndDestroy());
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert.doesNotMatch(await peer.untilEnd(), /\r\n0\r\n\r\n$/);
    const { outcome } = await watch.end();
    assert.equal(outcome.error?.code, "HF_UPSTREAM_INCOMPLETE");
    const { reason } = await watch.closedOn("upstream");
    assert.equal(reason, "peer_reset");
  });
}

function splitOnce(text: string, at: string): [string, string] {
  const index = text.indexOf(at);
  return [text.slice(0, index), text.slice(index + at.length)];
}

function unchunk(framed: string): string {
  let body = "";
  for (let rest = framed; ; ) {
    const [size, after] = splitOnce(rest, "\r\n");
    const bytes = Number.parseInt(size, 16);
    if (bytes === 0) return body;
    body += after.slice(0, bytes);
    rest = after.slice(bytes + 2);
  }
}
