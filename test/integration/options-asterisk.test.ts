import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: OPTIONS * arrives as *, also from the absolute form without a path`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    peer.send("OPTIONS http://b.example:81 HTTP/1.1\r\nHost: a.example\r\n\r\n");
    await peer.until((text) => text.split("\r\n\r\nok").length === 3);
    peer.send("OPTIONS /a HTTP/1.1\r\nHost: a.example\r\n\r\n");
    await peer.until((text) => text.split("\r\n\r\nok").length === 4);
    assert.deepEqual(
      origin.requests.map(({ method, target, fields }) => [method, target, valuesOf(fields, "host")]),
      [
        ["OPTIONS", "*", ["a.example"]],
        ["OPTIONS", "*", ["b.example:81"]],
        ["OPTIONS", "/a", ["a.example"]],
      ],
    );
  });
}
