/**
 * What is for this machine only must not be reached through the sidecar, and the sidecar must not call itself.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: the admin API is not reached through outbound`, async (t) => {
    const sidecar = await testSidecar(t, { outbound: true, config: { forwarder } });
    const { port } = new URL(sidecar.admin);
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`]) {
      const peer = await RawPeer.connect(t, sidecar.outbound);
      peer.send(`POST http://${host}/drain HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 0\r\n\r\n`);
      const answer = await peer.until((text) => text.includes("HF_NO_ROUTE"));
      assert.match(answer, /^HTTP\/1\.1 403 /, host);
    }
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    assert.match(await peer.until((text) => text.includes("HF_NO_ROUTE")), /^HTTP\/1\.1 403 /);
    assert.equal(sidecar.sidecar.view.state, "running");
  });

  test(`${forwarder}: nor is the listener for probes, which answers whoever calls it directly`, async (t) => {
    const admin = { listen: "127.0.0.1:0", probes: "127.0.0.1:0", token: "correct-horse-battery" };
    const sidecar = await testSidecar(t, { outbound: true, config: { forwarder, admin } });
    const { port } = sidecar.sidecar.addresses.probes!;
    const probes = `http://127.0.0.1:${port}`;
    assert.equal((await fetch(`${probes}/readyz`)).status, 200);
    assert.equal((await fetch(`${probes}/config`)).status, 404);
    assert.equal((await fetch(`${sidecar.admin}/config`)).status, 401);
    const headers = { authorization: `Bearer ${admin.token}` };
    assert.equal((await fetch(`${sidecar.admin}/config`, { headers })).status, 200);
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`GET ${probes}/metrics HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    assert.match(await peer.until((text) => text.includes("HF_NO_ROUTE")), /^HTTP\/1\.1 403 /);
    await sidecar.stop();
    await assert.rejects(fetch(`${probes}/readyz`));
  });

  test(`${forwarder}: a tunnel to the outbound listener itself is refused`, async (t) => {
    const sidecar = await testSidecar(t, { outbound: true, config: { forwarder } });
    const { host } = new URL(sidecar.outbound);
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    assert.match(await peer.until((text) => text.includes("HF_LOOP")), /^HTTP\/1\.1 508 /);
  });
}
