/** `keep-alive` with `upstream.poolSize: "auto"`, and what a sidecar says of the size. */
import assert from "node:assert/strict";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a burst is counted, and a pool that sizes itself keeps no more than its bound of it`, async (t) => {
    const held: OriginConnection[] = [];
    let isHolding = true;
    const origin = await rawOrigin(t, (connection) => {
      held.push(connection);
      // Answered together: all six are in use at one time.
      if (isHolding && held.length < 6) return;
      for (const { socket } of held.splice(0)) socket.write(OK);
      isHolding = false;
    });
    const seen = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [
        { use: "keep-alive", config: { upstream: { poolSize: "auto", poolSizeLeast: 1, poolSizeMost: 4 } } },
        { plugin: seen.plugin },
      ],
      config: { forwarder },
    });
    const shown = async () => {
      const response = await fetch(`${sidecar.admin}/origins`);
      const { origins } = (await response.json()) as {
        origins: { pool: object; poolSize: { idleKept: number; advice: Record<string, number> | null } }[];
      };
      return origins[0]!;
    };
    const peers = await Promise.all(Array.from({ length: 6 }, () => RawPeer.connect(t, sidecar.inbound)));
    for (const peer of peers) peer.send(GET);
    await Promise.all(peers.map((peer) => peer.until((text) => text.endsWith("\r\n\r\nok"))));
    await seen.until(() => seen.closed.length === 2);
    assert.deepEqual(
      seen.closed.map(({ connection, reason }) => [connection.side, reason]),
      [
        ["upstream", "limit"],
        ["upstream", "limit"],
      ],
    );
    const early = await shown();
    assert.deepEqual(early.poolSize, { idleKept: 4, advice: null });
    assert.deepEqual(early.pool, { connections: 4, idle: 4, watched: 0, queued: 0 });

    const [peer] = peers;
    for (let exchange = 2; exchange <= 200; exchange++) {
      peer!.send(GET);
      await seen.until(() => seen.ended.length === exchange + 5);
    }
    const { advice } = (await shown()).poolSize;
    assert.equal(advice!["peakBusy"], 6);
    assert.equal(advice!["enough"], 1);
    assert.equal(advice!["unavoidableShare"], 0.02927, "the six of the burst, of 205");
    assert.ok(advice!["setupMs"]! > 0);
    assert.equal(origin.connections.length, 6);
  });
}
