import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  for (const value of ["close", "Close", "foo, close", "keep-alive, close"]) {
    test(`${forwarder}: Connection: ${value} closes downstream and leaves the upstream connection reusable`, async (t) => {
      const origin = await httpOrigin(t);
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      for (let count = 1; count <= 3; count++) {
        const peer = await RawPeer.connect(t, sidecar.inbound);
        peer.send(`GET / HTTP/1.1\r\nHost: a.example\r\nConnection: ${value}\r\n\r\n`);
        const answer = await peer.untilEnd();
        assert.match(answer, /\r\nConnection: close\r\n/i);
        assert.ok(answer.endsWith("\r\n\r\nok"));
      }
      assert.equal(origin.sockets.length, 1);
      for (const { fields } of origin.requests) assert.deepEqual(valuesOf(fields, "connection"), ["keep-alive"]);
    });
  }

  test(`${forwarder}: what follows a request with Connection: close is not carried out`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(
      "GET /1 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    );
    const answer = await peer.untilEnd();
    assert.equal(answer.split("HTTP/1.1 ").length, 2);
    const next = await RawPeer.connect(t, sidecar.inbound);
    next.send("GET /3 HTTP/1.1\r\nHost: a.example\r\n\r\n");
    await next.until((text) => text.endsWith("\r\n\r\nok"));
    assert.deepEqual(
      origin.requests.map(({ target }) => target),
      ["/1", "/3"],
    );
  });

  test(`${forwarder}: Proxy-Connection: close and keep-alive are understood as Connection`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\nProxy-Connection: close\r\n\r\n");
    assert.match(await peer.untilEnd(), /\r\nConnection: close\r\n/i);
  });
}
