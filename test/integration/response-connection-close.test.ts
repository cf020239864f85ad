import assert from "node:assert/strict";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const CLOSING = {
  "Connection: close": "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
  "Connection: Close among others": "HTTP/1.1 200 OK\r\nConnection: X-A , Close\r\nContent-Length: 2\r\n\r\nok",
  "HTTP/1.0": "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
} as const;

for (const forwarder of FORWARDERS) {
  for (const [what, bytes] of Object.entries(CLOSING)) {
    test(`${forwarder}: ${what} from the upstream ends that connection and not the peer's`, async (t) => {
      // The origin only announces: it is for us to leave.
      const origin = await rawOrigin(t, ({ socket }) => socket.write(bytes));
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      for (let round = 1; round <= 3; round++) {
        peer.received = "";
        peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        const text = await peer.until((text) => text.endsWith("\r\n\r\nok"));
        assert.match(text, /\r\nConnection: keep-alive\r\n/);
        const { reason } = await watch.closedOn("upstream", round);
        assert.equal(reason, "peer_closed");
        assert.equal(origin.connections.length, round);
      }
      assert.equal(watch.idled("upstream"), 0);
    });
  }

  test(`${forwarder}: HTTP/1.0 with keep-alive is reused`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) =>
      socket.write("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok"),
    );
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    for (let round = 1; round <= 3; round++) {
      peer.received = "";
      peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
      await peer.until((text) => text.endsWith("\r\n\r\nok"));
    }
    assert.equal(origin.connections.length, 1);
  });
}
