import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/** How many requests each combination carries: 1,000, but where every one needs its own connections on both sides. */
const COMBINATIONS = [
  { downstream: true, upstream: true, requests: 1000 },
  { downstream: true, upstream: false, requests: 1000 },
  { downstream: false, upstream: true, requests: 1000 },
  { downstream: false, upstream: false, requests: 200 },
] as const;

function onOff(on: boolean): string {
  return on ? "on" : "off";
}

/** Fails the test when Node warns of anything, listeners that pile up above all. */
function noWarnings(t: TestContext): void {
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(String(warning));
  process.on("warning", onWarning);
  t.after(() => {
    process.removeListener("warning", onWarning);
    assert.deepEqual(warnings, []);
  });
}

for (const forwarder of FORWARDERS) {
  for (const { downstream, upstream, requests } of COMBINATIONS) {
    const name = `downstream ${onOff(downstream)}, upstream ${onOff(upstream)}`;
    test(`${forwarder}: keep-alive ${name}: ${requests} requests`, async (t) => {
      noWarnings(t);
      let served = 0;
      const origin = await rawOrigin(t, ({ socket }, head) => {
        served++;
        assert.match(head, upstream ? /\r\nConnection: keep-alive\r\n/ : /\r\nConnection: close\r\n/);
        socket.write(OK);
      });
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [
          {
            use: "keep-alive",
            config: { downstream: { enabled: downstream }, upstream: { enabled: upstream } },
          },
          { plugin: watch.plugin },
        ],
        config: { forwarder, log: { access: false } },
      });
      let peer = await RawPeer.connect(t, sidecar.inbound);
      let peers = 1;
      for (let round = 1; round <= requests; round++) {
        peer.received = "";
        peer.send(GET);
        const text = await peer.until((received) => received.endsWith("\r\n\r\nok"));
        assert.match(text, downstream ? /\r\nConnection: keep-alive\r\n/ : /\r\nConnection: close\r\n/);
        if (downstream || round === requests) continue;
        await peer.untilEnd();
        peer.socket.destroy();
        peer = await RawPeer.connect(t, sidecar.inbound);
        peers++;
      }
      assert.equal(served, requests);
      assert.equal(origin.connections.length, upstream ? 1 : requests);
      assert.equal(peers, downstream ? 1 : requests);

      const closed = (side: string) => watch.closed.filter(({ connection }) => connection.side === side);
      if (!upstream) {
        await watch.until(() => closed("upstream").length === requests);
        assert.ok(closed("upstream").every(({ reason }) => reason === "max_requests"));
      }
      if (!downstream) {
        await watch.until(() => closed("downstream").length >= requests - 1);
        assert.ok(closed("downstream").every(({ reason }) => reason === "max_requests"));
      }
      if (upstream) {
        const [only] = watch.opened.filter(({ side }) => side === "upstream");
        assert.equal(only!.exchanges, requests);
      }
    });
  }

  test(`${forwarder}: maxRequests on both sides: the last one says Connection: close and the connection goes`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, _head, index) => {
      assert.ok(index <= 4);
      socket.write(OK);
    });
    const watch = observer();
    const limits = (maxRequests: number) => ({ maxRequests, jitter: 0 });
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [
        { use: "keep-alive", config: { downstream: limits(6), upstream: limits(4) } },
        { plugin: watch.plugin },
      ],
      config: { forwarder },
    });
    for (let round = 1; round <= 2; round++) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      for (let index = 1; index <= 6; index++) {
        peer.received = "";
        peer.send(GET);
        const text = await peer.until((received) => received.endsWith("\r\n\r\nok"));
        assert.match(text, index === 6 ? /\r\nConnection: close\r\n/ : /\r\nConnection: keep-alive\r\n/);
        if (index < 6) assert.match(text, new RegExp(`\\r\\nKeep-Alive: timeout=65, max=${6 - index}\\r\\n`));
        else assert.doesNotMatch(text, /keep-alive:/i);
      }
      await peer.untilEnd();
      peer.socket.destroy();
      assert.equal((await watch.closedOn("downstream", round)).reason, "max_requests");
    }
    for (let index = 1; index <= 3; index++) {
      const { connection, reason } = await watch.closedOn("upstream", index);
      assert.equal(connection.exchanges, 4);
      assert.equal(reason, "max_requests");
    }
    const closing = origin.connections.map(({ received }) =>
      received
        .match(/\r\nConnection: (\S+)\r\n/g)
        ?.at(-1)
        ?.trim(),
    );
    assert.deepEqual(
      closing,
      Array.from({ length: 3 }, () => "Connection: close"),
    );
    assert.equal(origin.connections.length, 3);
  });

  test(`${forwarder}: what the upstream announces in Keep-Alive is kept: max by count, timeout with a margin`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, _head, index) =>
      socket.write(`HTTP/1.1 200 OK\r\nKeep-Alive: max=${3 - index}, Timeout="1"\r\nContent-Length: 2\r\n\r\nok`),
    );
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "keep-alive" }, { use: "idle-timeout" }, { plugin: watch.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    for (let index = 1; index <= 4; index++) {
      peer.received = "";
      peer.send(GET);
      const text = await peer.until((received) => received.endsWith("\r\n\r\nok"));
      assert.doesNotMatch(text, /max=|timeout=1\b/i);
    }
    const first = await watch.closedOn("upstream");
    assert.equal(first.reason, "max_requests");
    assert.equal(first.connection.exchanges, 3);
    assert.deepEqual(first.connection.hint, { timeoutMs: 1000, maxRequests: 0 });
    // The fourth went over a new connection, which is left half a second before the upstream would leave it.
    const second = await watch.closedOn("upstream", 2);
    assert.equal(second.reason, "idle_timeout");
    assert.equal(second.connection.keepAlive.agreedTimeoutMs, 500);
    assert.equal(origin.connections.length, 2);
  });

  test(`${forwarder}: reuse "never" keeps the upstream connections of two callers apart`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "keep-alive", config: { upstream: { reuse: "never" } } }, { plugin: watch.plugin }],
      config: { forwarder },
    });
    const peers = [await RawPeer.connect(t, sidecar.inbound), await RawPeer.connect(t, sidecar.inbound)];
    for (let round = 1; round <= 3; round++) {
      for (const [index, peer] of peers.entries()) {
        peer.received = "";
        peer.send(`GET /${index} HTTP/1.1\r\nHost: h\r\n\r\n`);
        await peer.until((received) => received.endsWith("\r\n\r\nok"));
      }
    }
    assert.equal(origin.connections.length, 2);
    for (const [index, { received }] of origin.connections.entries()) {
      assert.deepEqual(
        received.match(/GET \/\d/g),
        Array.from({ length: 3 }, () => `GET /${index}`),
      );
    }
    // Nobody else may ever use it.
    peers[0]!.socket.destroy();
    const { connection } = await watch.closedOn("upstream");
    assert.equal(connection, watch.opened.filter(({ side }) => side === "upstream")[0]);
  });
}
