import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: empty lines before a request line are skipped`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    peer.send(`\r\n${request}`);
    await peer.until((text) => text.split("\r\n\r\nok").length === 2);
    peer.send(`\r\n\r\n${request}`);
    await peer.until((text) => text.split("\r\n\r\nok").length === 3);
    // An old habit: a line end behind a body that Content-Length does not count.
    peer.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello\r\n");
    peer.send(request);
    await peer.until((text) => text.split("\r\n\r\nok").length === 5);
    // In pieces.
    for (const byte of `\r\n\r\n${request}`) {
      peer.send(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await peer.until((text) => text.split("\r\n\r\nok").length === 6);
    assert.deepEqual(
      origin.requests.map(({ method, body }) => `${method} ${body}`),
      ["GET ", "GET ", "POST hello", "GET ", "GET "],
    );
  });
}
