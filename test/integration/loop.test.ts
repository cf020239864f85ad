import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

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
}
