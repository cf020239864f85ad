import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import test from "node:test";
import { startTestSidecar } from "../../src/testing.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: two sidecars in one process, one behind the other, know nothing of each other`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const [inner, outer] = [observer(), observer()];
    const behind = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: inner.plugin }],
      config: { forwarder, service: "behind" },
    });
    const before = await testSidecar(t, {
      outbound: true,
      plugins: [{ plugin: outer.plugin }],
      config: { forwarder, service: "before" },
    });
    const peer = await RawPeer.connect(t, before.outbound);
    for (let round = 1; round <= 3; round++) {
      peer.received = "";
      peer.send(`GET /${round} HTTP/1.1\r\nHost: ${new URL(behind.inbound).host}\r\n\r\n`);
      await peer.until((text) => text.endsWith("\r\n\r\nok"));
    }
    await inner.end(3);
    await outer.end(3);
    assert.equal(inner.ended.length, 3);
    assert.equal(outer.ended.length, 3);
    assert.ok(inner.ended.every(({ exchange }) => exchange.direction === "inbound"));
    assert.ok(outer.ended.every(({ exchange }) => exchange.direction === "outbound"));
    // Each has one connection on each side, and the one between them has two ends.
    assert.equal(inner.opened.length, 2);
    assert.equal(outer.opened.length, 2);
    assert.equal(outer.opened[1]!.localPort, inner.opened[0]!.remotePort);
    assert.match(origin.received(), /\r\nVia: 1\.1 holdfast-before-outbound-\w+, 1\.1 holdfast-behind-inbound-\w+\r\n/);

    await before.stop();
    assert.equal((await fetch(`${behind.admin}/readyz`)).status, 200);
    const still = await RawPeer.connect(t, behind.inbound);
    still.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    await still.until((text) => text.endsWith("\r\n\r\nok"));
  });

  test(`${forwarder}: an address in use stops the start with one clear error, and leaves nothing open`, async (t) => {
    const taken = net.createServer();
    taken.listen(0, "127.0.0.1");
    await once(taken, "listening");
    t.after(() => void taken.close());
    const { port } = taken.address() as AddressInfo;
    const other = net.createServer();
    other.listen(0, "127.0.0.1");
    await once(other, "listening");
    const free = (other.address() as AddressInfo).port;
    other.close();
    await once(other, "close");
    const start = startTestSidecar({
      upstream: "http://127.0.0.1:1",
      config: {
        forwarder,
        inbound: { listen: `127.0.0.1:${free}` },
        outbound: { listen: `127.0.0.1:${port}` },
      },
    });
    await assert.rejects(start, (error: Error & { code: string }) => {
      assert.equal(error.code, "HF_CONFIG");
      assert.match(error.message, new RegExp(`outbound\\.listen.*127\\.0\\.0\\.1:${port}`));
      assert.match(error.message, /\(EADDRINUSE\); it is in use: stop what listens there or choose another port$/);
      return true;
    });
    // What was bound before the failure is free again.
    const again = net.createServer();
    again.listen(free, "127.0.0.1");
    await once(again, "listening");
    again.close();
  });
}
