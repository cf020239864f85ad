import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a request that comes back to the same sidecar gets 508, and the connection stays`, async (t) => {
    const sidecar = await testSidecar(t, { config: { forwarder } });
    const { host } = new URL(sidecar.outbound);
    const peer = await RawPeer.connect(t, sidecar.outbound);
    for (let count = 1; count <= 2; count++) {
      peer.send(`GET /loop HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      const answer = await peer.until((text) => text.split("508 HF_LOOP\n").length === count + 1);
      assert.match(answer, /^HTTP\/1\.1 508 Loop Detected\r\n/);
      assert.match(answer, /\r\nProxy-Status: holdfast-test; error=proxy_loop_detected; details="HF_LOOP"\r\n/);
    }
    assert.equal(peer.ended, false);
  });

  test(`${forwarder}: a request that comes back by way of another proxy gets 508 by its Via`, async (t) => {
    let inbound = "";
    let relayed = 0;
    // Passes on what it gets, as a proxy that we know nothing of would.
    const relay = await rawOrigin(t, async ({ socket }, head) => {
      relayed++;
      if (relayed > 1) {
        socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        return;
      }
      const back = await RawPeer.connect(t, inbound);
      back.send(head.replace("Via: ", "Via: 1.0 elsewhere, "));
      socket.end(await back.until((text) => text.endsWith("HF_LOOP\n") || text.includes(" 200 OK")));
    });
    const sidecar = await testSidecar(t, { upstream: relay.url, config: { forwarder } });
    inbound = sidecar.inbound;
    const peer = await RawPeer.connect(t, inbound);
    peer.send("GET /loop HTTP/1.1\r\nHost: orders\r\n\r\n");
    assert.match(await peer.until((text) => text.includes("\r\n\r\n")), /^HTTP\/1\.1 508 Loop Detected\r\n/);
    assert.equal(relayed, 1);
  });
}
