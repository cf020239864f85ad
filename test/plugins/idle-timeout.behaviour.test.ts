/** `idle-timeout` on real sockets: who closes an idle connection, and when at the latest. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import type { Connection } from "../../src/plugin/api.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async function open(t: TestContext, forwarder: ForwarderName, config: object, originFields = "") {
  const origin = await rawOrigin(t, ({ socket }) => {
    socket.write(`HTTP/1.1 200 OK\r\n${originFields}Content-Length: 2\r\n\r\nok`);
  });
  const seen = observer();
  const sidecar = await testSidecar(t, {
    upstream: "origin",
    plugins: [{ use: "keep-alive" }, { use: "idle-timeout", config }, { plugin: seen.plugin }],
    config: { forwarder, backends: { origin: { address: "127.0.0.1", port: origin.port } } },
  });
  /** Runs an exchange on a connection of its own and waits until both sides are idle. */
  const exchange = async (peer?: RawPeer): Promise<RawPeer> => {
    const caller = peer ?? (await RawPeer.connect(t, sidecar.inbound));
    const before = [seen.idled("downstream"), seen.idled("upstream")] as const;
    const from = caller.received.length;
    caller.send(GET);
    await caller.until((text) => text.slice(from).endsWith("\r\n\r\nok"));
    await seen.until(() => seen.idled("downstream") > before[0] && seen.idled("upstream") > before[1]);
    return caller;
  };
  const upstreams = (): Connection[] => seen.opened.filter(({ side }) => side === "upstream");
  return { origin, seen, sidecar, exchange, upstreams };
}

/** How long the connection may be idle now, in milliseconds. */
function limitMs({ keepAlive }: Connection): number {
  return Math.min(keepAlive.idleTimeoutMs, keepAlive.agreedTimeoutMs);
}

for (const forwarder of FORWARDERS) {
  for (const [hint, config, seconds] of [
    ["timeout=60", {}, 55],
    ["timeout=5", {}, 4],
    ["max=100", {}, 55],
    ["timeout=600", {}, 55],
    ["timeout=60", { upstream: "10s" }, 10],
    ["timeout=60", { upstream: "off" }, 55],
    ["timeout=60", { margin: "2s", upstream: "off" }, 58],
    ["timeout=600", { upstream: "off" }, 595],
  ] as const) {
    const given = JSON.stringify(config);
    test(`${forwarder}: an upstream that says ${hint} is left at ${seconds} s with ${given}`, async (t) => {
      const { exchange, upstreams } = await open(t, forwarder, config, `Keep-Alive: ${hint}\r\n`);
      await exchange();
      assert.equal(limitMs(upstreams()[0]!), seconds * 1000);
    });
  }

  test(`${forwarder}: an idle upstream connection is closed by us, in time, and not used again`, async (t) => {
    const { exchange, upstreams, seen, origin } = await open(t, forwarder, { upstream: "150ms" });
    const peer = await exchange();
    const { connection, reason } = await seen.closedOn("upstream");
    assert.equal(reason, "idle_timeout");
    assert.equal(connection, upstreams()[0]);
    assert.equal(seen.closed.length, 1, "the caller's connection stays");
    await exchange(peer);
    assert.equal(origin.connections.length, 2);
    assert.equal(seen.retried.length, 0);
  });

  test(`${forwarder}: a stock Node.js server that keeps connections for a second is left before it closes`, async (t) => {
    const server = http.createServer((_request, response) => response.end("ok"));
    server.keepAliveTimeout = 1000;
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    const seen = observer();
    const { port } = server.address() as AddressInfo;
    const plugins = [{ use: "keep-alive" }, { use: "idle-timeout" }, { plugin: seen.plugin }];
    const sidecar = await testSidecar(t, { upstream: `http://127.0.0.1:${port}`, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    const { connection, reason } = await seen.closedOn("upstream");
    assert.deepEqual(connection.hint, { timeoutMs: 1000, maxRequests: undefined });
    assert.equal(connection.keepAlive.agreedTimeoutMs, 500);
    assert.equal(reason, "idle_timeout", "ours, not peer_closed");
  });

  test(`${forwarder}: an idle caller is closed after the limit`, async (t) => {
    const { exchange, seen } = await open(t, forwarder, { downstream: "150ms" });
    const peer = await exchange();
    await peer.untilEnd();
    peer.socket.end();
    assert.equal((await seen.closedOn("downstream")).reason, "idle_timeout");
    assert.equal(seen.closed.filter(({ connection }) => connection.side === "upstream").length, 0);
  });

  test(`${forwarder}: a caller that never sent anything is closed after the limit too`, async (t) => {
    const { seen, sidecar } = await open(t, forwarder, { downstream: "150ms" });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    assert.equal(await peer.untilEnd(), "");
    peer.socket.end();
    assert.equal((await seen.closedOn("downstream")).reason, "idle_timeout");
  });

  test(`${forwarder}: a running exchange is not idle`, async (t) => {
    const origin = await rawOrigin(t, () => {});
    const seen = observer();
    const config = { downstream: "50ms", upstream: "50ms" };
    const plugins = [{ use: "idle-timeout", config }, { plugin: seen.plugin }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const waiting = await RawPeer.connect(t, sidecar.inbound);
    waiting.send(GET);
    await origin.connected(1);
    // A second connection that does time out shows that the first would have.
    const idle = await RawPeer.connect(t, sidecar.inbound);
    await idle.untilEnd();
    idle.socket.end();
    assert.equal((await seen.closedOn("downstream")).connection.exchanges, 0);
    assert.equal(waiting.ended, false);
    origin.connections[0]!.socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    await waiting.until((text) => text.endsWith("ok"));
  });

  test(`${forwarder}: keepalive_time of a backend outranks the configuration, on live connections`, async (t) => {
    const { exchange, upstreams, seen, sidecar } = await open(t, forwarder, {});
    await exchange();
    assert.equal(limitMs(upstreams()[0]!), 55_000);
    const put = async (seconds: number) => {
      const response = await fetch(`${sidecar.admin}/backends/origin`, {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ keepalive_time: seconds }),
      });
      assert.equal(response.status, 200, await response.text());
    };
    await put(20);
    assert.equal(limitMs(upstreams()[0]!), 20_000);
    await put(1);
    assert.equal((await seen.closedOn("upstream")).reason, "idle_timeout");
  });

  test(`${forwarder}: under load the limit is shorter, and goes back with the load`, async (t) => {
    const config = { downstream: "60s", underLoad: { connections: 2, timeout: "7s" } };
    const { exchange, seen } = await open(t, forwarder, config);
    const first = await exchange();
    const second = await exchange();
    assert.deepEqual(
      seen.opened.filter(({ side }) => side === "downstream").map(limitMs),
      [60_000, 60_000],
      "two are not more than two",
    );
    const third = await exchange();
    const [one, two, three] = seen.opened.filter(({ side }) => side === "downstream");
    assert.deepEqual(
      [one, two, three].map((each) => limitMs(each!)),
      [60_000, 60_000, 7000],
    );
    await exchange(first);
    assert.equal(limitMs(one!), 7000, "with its next exchange");
    assert.match(first.received.slice(first.received.lastIndexOf("HTTP/1.1")), /\r\nKeep-Alive: timeout=7\r\n/);

    third.socket.end();
    second.socket.end();
    await seen.closedOn("downstream", 2);
    await exchange(first);
    assert.equal(limitMs(one!), 60_000);
    assert.match(first.received.slice(first.received.lastIndexOf("HTTP/1.1")), /\r\nKeep-Alive: timeout=60\r\n/);
  });

  test(`${forwarder}: under load an idle connection is closed after the shorter limit`, async (t) => {
    const config = { downstream: "60s", underLoad: { connections: 1, timeout: "1s" } };
    const { exchange, seen } = await open(t, forwarder, config);
    const first = await exchange();
    const second = await exchange();
    await second.untilEnd();
    second.socket.end();
    const { connection, reason } = await seen.closedOn("downstream");
    assert.equal(connection, seen.opened.filter(({ side }) => side === "downstream")[1]);
    assert.equal(reason, "idle_timeout");
    assert.equal(first.ended, false, "which was told 60 s and keeps them");
  });
}
