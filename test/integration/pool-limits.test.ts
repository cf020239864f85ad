import assert from "node:assert/strict";
import test from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { observer } from "../support/observer.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: maxConnections holds on the wire; waiters are served in order, one too many gets 503`, async (t) => {
    const held: OriginConnection[] = [];
    const origin = await rawOrigin(t, (connection) => void held.push(connection));
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [
        { use: "connection-limits", config: { upstream: { maxConnections: 2, maxQueue: 3, queueTimeout: "1h" } } },
        { plugin: watch.plugin },
      ],
      config: { forwarder },
    });
    const [pool] = [...sidecar.sidecar.view.pools()];
    assert.equal(pool, undefined);
    const peers: RawPeer[] = [];
    for (let index = 0; index < 5; index++) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peers.push(peer);
      peer.send(GET.replace("/", `/${index}`));
      const queued = Math.max(0, index - 1);
      while ([...sidecar.sidecar.view.pools()][0]?.queued !== queued || held.length < Math.min(2, index + 1)) {
        await nextTurn();
      }
    }
    const refused = await RawPeer.connect(t, sidecar.inbound);
    refused.send(GET);
    const text = await refused.until((received) => received.endsWith("503 HF_QUEUE_FULL\n"));
    assert.match(text, /^HTTP\/1\.1 503 Service Unavailable\r\n/);
    assert.match(text, /\r\nProxy-Status: holdfast-test; error=connection_limit_reached; details="HF_QUEUE_FULL"\r\n/);

    for (const [index, peer] of peers.entries()) {
      while (held.length === 0) await nextTurn();
      held.shift()!.socket.write(OK);
      await peer.until((received) => received.endsWith("\r\n\r\nok"));
      assert.match((await watch.end(index + 2)).exchange.request.target, new RegExp(`^/${index}$`));
    }
    assert.equal(origin.connections.length, 2);
    const served = watch.ended.slice(1).map(({ exchange }) => exchange);
    assert.deepEqual(
      served.map(({ queuedMs }) => queuedMs > 0),
      [false, false, true, true, true],
    );
    assert.deepEqual(
      served.map(({ upstream }) => upstream!.exchanges > 1),
      [true, true, true, true, true],
    );
  });

  test(`${forwarder}: who waits too long gets 503, and maxIdle bounds what is kept`, async (t) => {
    const held: OriginConnection[] = [];
    const origin = await rawOrigin(t, (connection) => void held.push(connection));
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [
        {
          use: "connection-limits",
          config: { upstream: { maxConnections: 3, maxIdle: 1, maxQueue: 3, queueTimeout: "200ms" } },
        },
        { plugin: watch.plugin },
      ],
      config: { forwarder },
    });
    const peers = await Promise.all(Array.from({ length: 4 }, () => RawPeer.connect(t, sidecar.inbound)));
    for (const peer of peers) peer.send(GET);
    const { outcome } = await watch.end();
    assert.equal(outcome.status, 503);
    assert.equal(outcome.error?.code, "HF_QUEUE_TIMEOUT");
    const late = await Promise.race(
      peers.map(async (peer) => await peer.until((text) => text.endsWith("503 HF_QUEUE_TIMEOUT\n"))),
    );
    assert.match(
      late,
      /\r\nProxy-Status: holdfast-test; error=connection_limit_reached; details="HF_QUEUE_TIMEOUT"\r\n/,
    );

    while (held.length < 3) await nextTurn();
    for (const { socket } of held) socket.write(OK);
    await watch.end(4);
    await watch.closedOn("upstream", 2);
    assert.deepEqual(
      watch.closed.map(({ reason }) => reason),
      ["limit", "limit"],
    );
    assert.equal([...sidecar.sidecar.view.pools()][0]!.idle, 1);
  });
}
