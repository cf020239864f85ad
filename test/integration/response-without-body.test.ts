import assert from "node:assert/strict";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

/** Requests whose responses have no body (RFC 9112 §6.3), and what an upstream might say of one all the same. */
const BODILESS = [
  { method: "HEAD", head: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" },
  { method: "HEAD", head: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" },
  { method: "GET", head: "HTTP/1.1 204 No Content\r\n\r\n" },
  { method: "GET", head: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n" },
] as const;
const REAL = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal";

for (const forwarder of FORWARDERS) {
  for (const length of ["0", "5"]) {
    test(`${forwarder}: Content-Length: ${length} with 204 is not passed on`, async (t) => {
      const head = `HTTP/1.1 204 No Content\r\nContent-Length: ${length}\r\nX-A: 1\r\n\r\n`;
      const origin = await rawOrigin(t, ({ socket }, _head, index) => socket.write(index === 1 ? head : REAL));
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n");
      const first = await peer.until((text) => text.endsWith("\r\n\r\n"));
      assert.match(first, /^HTTP\/1\.1 204 No Content\r\n/);
      assert.match(first, /\r\nX-A: 1\r\n/);
      // RFC 9110 §8.6: there are peers that would wait for it.
      assert.doesNotMatch(first, /content-length/i);
      peer.send("GET /again HTTP/1.1\r\nHost: h\r\n\r\n");
      await peer.until((text) => text.endsWith("\r\n\r\nreal"));
      assert.equal(origin.connections.length, 1);
    });
  }

  for (const { method, head } of BODILESS) {
    const name = `${method} ${head.slice(9, 12)} ${head.includes("chunked") ? "chunked" : ""}`.trim();

    test(`${forwarder}: ${name}: no body is waited for, both connections are kept`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }, _head, index) => socket.write(index === 1 ? head : REAL));
      const { plugin } = observer();
      const sidecar = await testSidecar(t, { upstream: origin.url, plugins: [{ plugin }], config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(`${method} / HTTP/1.1\r\nHost: h\r\n\r\n`);
      const first = await peer.until((text) => text.endsWith("\r\n\r\n"));
      assert.match(first, new RegExp(`^${head.slice(0, 12)} `));
      assert.match(first, /\r\nConnection: keep-alive\r\n/);
      if (head.includes("Content-Length")) assert.match(first, /\r\nContent-Length: 5\r\n/);
      assert.doesNotMatch(first, /transfer-encoding/i);

      peer.send("GET /again HTTP/1.1\r\nHost: h\r\n\r\n");
      await peer.until((text) => text.endsWith("\r\n\r\nreal"));
      assert.equal(origin.connections.length, 1);
    });

    test(`${forwarder}: ${name}: body bytes are not passed on and end the upstream connection`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => {
        if (origin.connections.length === 1) socket.write(`${head}5\r\nhello\r\n0\r\n\r\n`);
        else socket.write(REAL);
      });
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(`${method} / HTTP/1.1\r\nHost: h\r\n\r\n`);
      const first = await peer.until((text) => text.endsWith("\r\n\r\n"));
      const { reason } = await watch.closedOn("upstream");
      assert.equal(reason, "protocol_error");

      peer.send("GET /again HTTP/1.1\r\nHost: h\r\n\r\n");
      const both = await peer.until((text) => text.endsWith("\r\n\r\nreal"));
      assert.doesNotMatch(both, /hello/);
      assert.match(both.slice(first.length), /^HTTP\/1\.1 200 OK\r\n/);
      assert.equal(origin.connections.length, 2);
    });
  }
}
