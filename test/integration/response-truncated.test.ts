import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const TRUNCATED = {
  "a body shorter than Content-Length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
  "no body at all": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
  "a chunked body without its last chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
  "a chunk that is cut": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello",
  "a last chunk without its end": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
} as const;

for (const forwarder of FORWARDERS) {
  for (const [what, bytes] of Object.entries(TRUNCATED)) {
    for (const how of ["FIN", "RST"] as const) {
      test(`${forwarder}: ${what}, ended by ${how}, aborts the downstream connection`, async (t) => {
        const origin = await rawOrigin(t, ({ socket }) => {
          socket.write(bytes);
          // Once the head has gone through, so that it is a response that breaks off and not one that never began.
          void peer
            .until((text) => text.includes("\r\n\r\n"))
            .then(() => {
              if (how === "FIN") socket.end();
              else socket.resetAndDestroy();
            });
        });
        const watch = observer();
        const sidecar = await testSidecar(t, {
          upstream: origin.url,
          plugins: [{ plugin: watch.plugin }],
          config: { forwarder },
        });
        const peer = await RawPeer.connect(t, sidecar.inbound);
        peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        const response = await peer.untilEnd();
        assert.match(response, /^HTTP\/1\.1 200 OK\r\n/);
        // What a peer needs to see that it is not whole: neither the last chunk nor all of the length.
        assert.doesNotMatch(response, /\r\n0\r\n/);
        assert.ok(!response.endsWith("hellohello"));

        const { outcome } = await watch.end();
        assert.equal(outcome.error?.code, "HF_UPSTREAM_INCOMPLETE");
        assert.equal(outcome.status, 200);
        const upstream = await watch.closedOn("upstream");
        assert.equal(upstream.reason, how === "FIN" ? "peer_closed" : "peer_reset");
        const downstream = await watch.closedOn("downstream");
        assert.equal(downstream.reason, "aborted");
      });
    }
  }

  test(`${forwarder}: an HTTP/1.0 peer, for whom the end of the connection is the end of the response, gets a reset`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
      void once(peer, "data").then(() => socket.end());
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const { hostname, port } = new URL(sidecar.inbound);
    const peer = net.connect({ host: hostname, port: Number(port) });
    t.after(() => peer.destroy());
    peer.write("GET / HTTP/1.0\r\nHost: h\r\n\r\n");
    const [error] = (await once(peer, "error")) as [NodeJS.ErrnoException];
    assert.equal(error.code, "ECONNRESET");
  });
}
