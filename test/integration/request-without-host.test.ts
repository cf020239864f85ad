/**
 * A request that names no host gets the origin's own upstream: HTTP/1.1 must have one, and nginx refuses an empty one.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const REQUESTS = [
  ["HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n"],
  ["HTTP/1.0 OPTIONS without Host, as health checks send it", "OPTIONS / HTTP/1.0\r\n\r\n"],
  ["an empty Host", "GET / HTTP/1.1\r\nHost: \r\n\r\n"],
] as const;

for (const forwarder of FORWARDERS) {
  for (const [name, bytes] of REQUESTS) {
    test(`${forwarder}: ${name}`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(bytes);
      assert.match(await peer.until((text) => text.endsWith("ok")), /^HTTP\/1\.1 200 /);
      const hosts = origin.received().match(/^host:.*$/gim);
      assert.deepEqual(hosts, [`Host: 127.0.0.1:${origin.port}`]);
    });
  }

  test(`${forwarder}: credentials for us go no further`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic c2VjcmV0\r\nAuthorization: Basic b3du\r\n\r\n");
    await peer.until((text) => text.endsWith("ok"));
    assert.doesNotMatch(origin.received(), /proxy-authorization|c2VjcmV0/i);
    assert.match(origin.received(), /\r\nAuthorization: Basic b3du\r\n/);
  });
}
