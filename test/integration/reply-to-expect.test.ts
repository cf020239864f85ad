/** Our own answer to a request whose body still waits for 100: the peer may or may not send it (RFC 9110 §10.1.1). */
import assert from "node:assert/strict";
import test from "node:test";
import { definePlugin } from "../../src/plugin/api.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GATE = definePlugin({
  name: "gate",
  apiVersion: 1,
  description: "answers /no itself",
  config: {},
  setup: () => ({
    exchange: () => ({
      request: (head) => (head.target === "/no" ? { status: 403, body: "no\n" } : undefined),
    }),
  }),
});

for (const forwarder of FORWARDERS) {
  for (const framing of ["Content-Length: 5", "Transfer-Encoding: chunked"]) {
    test(`${forwarder}: a plugin's reply closes the connection, since the body may not come (${framing})`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
      const plugins = [{ plugin: GATE }];
      const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(`POST /no HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n${framing}\r\n\r\n`);
      await peer.until((text) => text.endsWith("\r\n\r\nno\n"));
      // It does not send the body: this is not to be taken for one.
      peer.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
      const answer = await peer.untilEnd();
      assert.match(answer, /^HTTP\/1\.1 403 Forbidden\r\n/);
      assert.match(answer, /\r\nConnection: close\r\n/);
      assert.equal(answer.split("HTTP/1.1 ").length, 2);
      assert.equal(origin.received(), "");
    });
  }

  test(`${forwarder}: a body that turns out invalid behind our own answer gets no second one`, async (t) => {
    const origin = await rawOrigin(t, () => {});
    const plugins = [{ plugin: GATE }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("POST /no HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nno\n"));
    peer.send("zz\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    const answer = await peer.untilEnd();
    assert.equal(answer.split("HTTP/1.1 ").length, 2);
    assert.equal(origin.received(), "");
  });

  test(`${forwarder}: a refused route closes the connection, since the body may not come`, async (t) => {
    const sidecar = await testSidecar(t, { config: { forwarder, outbound: { unmatched: "deny" } } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send("POST / HTTP/1.1\r\nHost: h.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 403 Forbidden\r\n/);
    assert.match(answer, /\r\nConnection: close\r\n/);
  });

  test(`${forwarder}: after a reply to a body that comes all the same, the connection serves on`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    const plugins = [{ plugin: GATE }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nno\n"));
    peer.send("x".repeat(200_000));
    peer.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.doesNotMatch(origin.received(), /POST|xxx/);
  });
}
