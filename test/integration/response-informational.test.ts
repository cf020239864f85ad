import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const FINAL = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const INTERIM =
  "HTTP/1.1 102 Processing\r\n\r\n" +
  "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n";

for (const forwarder of FORWARDERS) {
  for (const pieces of ["in one segment with the final response", "one after the other"] as const) {
    test(`${forwarder}: 102 and 103 ${pieces} reach an HTTP/1.1 peer in order; connections are kept`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => {
        if (pieces === "one after the other") {
          socket.write(INTERIM);
          void peer.until((text) => text.includes("b.js")).then(() => socket.write(FINAL));
        } else socket.write(INTERIM + FINAL);
      });
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      for (let round = 1; round <= 2; round++) {
        peer.received = "";
        peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        const text = await peer.until((text) => text.endsWith("\r\n\r\nok"));
        const heads = text.split("\r\n\r\n");
        assert.match(heads[0]!, /^HTTP\/1\.1 102 /);
        assert.match(heads[1]!, /^HTTP\/1\.1 103 /);
        assert.match(heads[1]!, /\r\nLink: <\/a\.css>; rel=preload\r\nlink: <\/b\.js>; rel=preload/);
        assert.doesNotMatch(heads[1]!, /hop|connection/i);
        assert.match(heads[2]!, /^HTTP\/1\.1 200 OK\r\n/);
        assert.equal(heads.length, 4);
      }
      assert.equal(origin.connections.length, 1);
    });

    test(`${forwarder}: 102 and 103 ${pieces} never reach an HTTP/1.0 peer`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => {
        if (pieces === "in one segment with the final response") socket.write(INTERIM + FINAL);
        else socket.write(INTERIM, () => setImmediate(() => socket.write(FINAL)));
      });
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("GET / HTTP/1.0\r\nHost: h\r\n\r\n");
      const text = await peer.untilEnd();
      assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
      assert.doesNotMatch(text, / 10[23] /);
      assert.match(text, /\r\n\r\nok$/);
    });
  }

  test(`${forwarder}: a 100 that the peer did not expect reaches an HTTP/1.1 peer`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(`HTTP/1.1 100 Continue\r\n\r\n${FINAL}`));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    const text = await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  });

  test(`${forwarder}: an upstream that closes after a 1xx gave no response: 502`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.end("HTTP/1.1 103 Early Hints\r\n\r\n"));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    const text = await peer.untilEnd();
    assert.match(text, /HTTP\/1\.1 502 Bad Gateway\r\n/);
    assert.equal(origin.connections.length, 1);
  });

  test(`${forwarder}: interim responses without end are ended with 502, and their connection is not used again`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, head) => {
      if (head.startsWith("GET /flood ")) {
        const send = (): void => {
          while (!socket.destroyed && socket.write(INTERIM));
        };
        socket.on("drain", send);
        send();
      } else socket.write(FINAL);
    });
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      config: { forwarder, limits: { head: "4KiB", target: "1KiB" } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET /flood HTTP/1.1\r\nHost: h\r\n\r\n");
    const text = await peer.until((text) => text.endsWith("502 HF_UPSTREAM_HEAD_TOO_LARGE\n"));
    assert.ok(text.length < 17 * 4096 + 1000, `${text.length} bytes`);
    peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.equal(origin.connections.length, 2);
  });
}
