/** A peer that has no more to send still gets the answers to what it sent (RFC 9112 §9.6). */
import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

const SENT = {
  "a request": [GET],
  "a request with a body": ["POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"],
  "a request with a chunked body": [
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
  ],
  "pipelined requests": [GET, GET, GET],
  "pipelined requests and a part of another": [GET, GET, "GET / HT"],
} as const;

// node:http, which reads requests for http-proxy-3, takes the end of the peer's side for an abort.
for (const forwarder of FORWARDERS.filter((name) => name !== "http-proxy-3")) {
  for (const [what, pieces] of Object.entries(SENT)) {
    test(`${forwarder}: ${what}, then the end of the peer's side: answered, then closed`, async (t) => {
      const ended = Promise.withResolvers<void>();
      const origin = await rawOrigin(t, async ({ socket }) => {
        await ended.promise;
        socket.write(OK);
      });
      const watch = observer();
      const plugins = [{ plugin: watch.plugin }];
      const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(pieces.join(""));
      peer.socket.end();
      await origin.connected(1);
      const downstream = watch.opened.find(({ side }) => side === "downstream") as unknown as {
        readonly socket: NodeJS.ReadableStream;
      };
      // The upstream answers only after the end of the peer's side was seen.
      if (!(downstream.socket as { readableEnded?: boolean }).readableEnded) await once(downstream.socket, "end");
      ended.resolve();
      const answer = await peer.untilEnd();
      const whole = pieces.filter((piece) => piece !== "GET / HT").length;
      assert.equal(answer.match(/HTTP\/1\.1 200 OK\r\n/g)?.length, whole);
      assert.ok(answer.endsWith("\r\n\r\nok"));
      assert.equal((await watch.closedOn("downstream")).reason, "peer_closed");
      assert.equal(watch.ended.length, whole);
      assert.ok(watch.ended.every(({ outcome }) => outcome.error === undefined));
    });
  }

  test(`${forwarder}: the end of the peer's side in the middle of a pipelined body stops that request only`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, head) => {
      if (head.startsWith("GET")) socket.write(OK);
    });
    const watch = observer();
    const plugins = [{ plugin: watch.plugin }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${GET}POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf`);
    peer.socket.end();
    const answer = await peer.untilEnd();
    assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1);
    await watch.closedOn("downstream");
    const { outcome } = await watch.end(2);
    assert.equal(outcome.error?.code, "HF_DOWNSTREAM_ABORTED");
    await watch.closedOn("upstream");
  });
}
