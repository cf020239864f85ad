import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: target, names, order and duplicates of fields arrive as they were sent`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write(
        "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nset-COOKIE: a=1\r\nSet-Cookie: b=2\r\nX-Odd: caf\xe9\r\n\r\nok",
        "latin1",
      );
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(
      "GET //a/../b%2f?x=1?y& HTTP/1.1\r\nHost: Some.Host\r\nX-b: 1\r\nx-A: caf\xe9\r\nX-B: 2\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
    );
    const response = await peer.until((text) => text.endsWith("\r\n\r\nok"));

    const lines = origin.received().split("\r\n");
    assert.equal(lines[0], "GET //a/../b%2f?x=1?y& HTTP/1.1");
    assert.equal(lines[1], "Host: Some.Host");
    assert.deepEqual(
      lines.filter((line) => /^(x-[ab]|cookie):/i.test(line)),
      ["X-b: 1", "x-A: caf\xe9", "X-B: 2", "Cookie: a=1", "Cookie: b=2"],
    );
    assert.match(response, /^HTTP\/1\.1 200 Fine\r\n/);
    assert.match(response, /\r\nset-COOKIE: a=1\r\nSet-Cookie: b=2\r\nX-Odd: caf\xe9\r\n/);
  });
}
