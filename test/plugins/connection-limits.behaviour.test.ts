/** `connection-limits` on real sockets: which answer a caller gets beyond each limit, and what the origin sees of it. */
import assert from "node:assert/strict";
import net from "node:net";
import { type TestContext, test } from "node:test";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import type { TestSidecar } from "../../src/testing.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async function open(
  t: TestContext,
  forwarder: ForwarderName,
  config: object,
  answer: (connection: OriginConnection) => void = ({ socket }) => void socket.write(OK),
) {
  const origin = await rawOrigin(t, answer);
  const seen = observer();
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    plugins: [{ use: "connection-limits", config }, { plugin: seen.plugin }],
    config: { forwarder },
  });
  return {
    origin,
    seen,
    sidecar,
    /** A connection that the sidecar has accepted. */
    connect: async (): Promise<RawPeer> => {
      const before = seen.opened.length;
      const peer = await RawPeer.connect(t, sidecar.inbound);
      await seen.until(() => seen.opened.length > before);
      return peer;
    },
  };
}

/** Sends a request and returns the response, whoever gives it. */
async function ask(peer: RawPeer): Promise<string> {
  const from = peer.received.length;
  peer.send(GET);
  const received = await peer.until((text) => /\r\n\r\n(?:ok|.+\n)$/.test(text.slice(from)));
  return received.slice(from);
}

/** A refusal says close, and the connection does close after it. */
async function assertRefused(peer: RawPeer, response: string, status: number): Promise<void> {
  assert.match(response, new RegExp(`^HTTP/1\\.1 ${status} `));
  assert.match(response, /\r\nConnection: close\r\n/);
  await peer.untilEnd();
  peer.socket.end();
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: 503 with Retry-After beyond maxConnections, and room again after a close`, async (t) => {
    const { origin, seen, connect } = await open(t, forwarder, { maxConnections: 2, retryAfter: "1500ms" });
    const [first, second, third] = [await connect(), await connect(), await connect()];
    const refusal = await ask(third);
    assert.match(refusal, /\r\nRetry-After: 2\r\n/);
    await assertRefused(third, refusal, 503);
    const closed = await seen.closedOn("downstream");
    assert.equal(closed.reason, "limit");
    assert.equal(origin.connections.length, 0, "nothing of it reached the upstream");
    assert.match(await ask(first), /^HTTP\/1\.1 200 /);
    assert.match(await ask(second), /^HTTP\/1\.1 200 /);

    first.socket.end();
    await seen.closedOn("downstream", 2);
    assert.match(await ask(await connect()), /^HTTP\/1\.1 200 /);
  });

  test(`${forwarder}: 429 beyond maxConnectionsPerAddress; other addresses are served`, async (t) => {
    const { connect, sidecar } = await open(t, forwarder, { maxConnectionsPerAddress: 1 });
    const first = await connect();
    const second = await connect();
    await assertRefused(second, await ask(second), 429);
    assert.match(await ask(first), /^HTTP\/1\.1 200 /);

    const { port } = new URL(sidecar.inbound);
    const other = net.connect({ host: "127.0.0.1", port: Number(port), localAddress: "127.0.0.2" });
    t.after(() => other.destroy());
    other.setEncoding("latin1").write(GET);
    let received = "";
    for await (const text of other) {
      received += text;
      if (received.endsWith("\r\n\r\nok")) break;
    }
    assert.match(received, /^HTTP\/1\.1 200 /);
  });

  test(`${forwarder}: 503 beyond maxConnectionsPerAddress where that is wished`, async (t) => {
    const { connect } = await open(t, forwarder, { maxConnectionsPerAddress: 1, perAddressStatus: 503 });
    await connect();
    const second = await connect();
    await assertRefused(second, await ask(second), 503);
  });

  test(`${forwarder}: beyond maxRefused connections close without an answer`, async (t) => {
    const { connect } = await open(t, forwarder, { maxConnections: 1, maxRefused: 1 });
    await connect();
    const refused = await connect();
    const silent = await connect();
    assert.equal(await silent.untilEnd(), "");
    await assertRefused(refused, await ask(refused), 503);
  });

  test(`${forwarder}: 408 for a head that trickles, and for one on a kept connection`, async (t) => {
    const { origin, seen, connect } = await open(t, forwarder, { headTimeout: "150ms" });
    const trickling = await connect();
    trickling.send("GET / HTTP/1.1\r\nHost: a\r\nX-A");
    await assertRefused(trickling, await trickling.until((text) => text.endsWith("\n")), 408);
    assert.equal((await seen.closedOn("downstream")).reason, "request_timeout");
    assert.equal(origin.received(), "");

    const kept = await connect();
    await ask(kept);
    const from = kept.received.length;
    kept.send("GET / HTTP/1.1\r\n");
    await kept.untilEnd();
    await assertRefused(kept, kept.received.slice(from), 408);
    assert.equal((await seen.closedOn("downstream", 2)).reason, "request_timeout");
  });

  test(`${forwarder}: a caller that sends nothing at all is closed without an answer`, async (t) => {
    const { seen, connect } = await open(t, forwarder, { headTimeout: "150ms" });
    const peer = await connect();
    assert.equal(await peer.untilEnd(), "");
    peer.socket.end();
    assert.equal((await seen.closedOn("downstream")).reason, "request_timeout");
  });

  test(`${forwarder}: an idle kept connection is not a slow head`, async (t) => {
    const { connect } = await open(t, forwarder, { headTimeout: "100ms" });
    const kept = await connect();
    await ask(kept);
    // The second one is cut after the limit; by then the first has been idle for longer than that.
    const silent = await connect();
    await silent.untilEnd();
    assert.match(await ask(kept), /^HTTP\/1\.1 200 /);
  });

  test(`${forwarder}: 408 for a body that trickles; the upstream sees no whole request`, async (t) => {
    const { origin, seen, connect } = await open(
      t,
      forwarder,
      { headTimeout: "150ms", requestTimeout: "150ms" },
      () => {},
    );
    const peer = await connect();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\ntrick");
    await assertRefused(peer, await peer.until((text) => text.endsWith("\n")), 408);
    assert.equal((await seen.closedOn("downstream")).reason, "request_timeout");
    await seen.closedOn("upstream");
    assert.match(origin.received(), /\r\n\r\ntrick$/);
  });

  test(`${forwarder}: upstream.maxConnections: the next exchange waits for one to become free`, async (t) => {
    const config = { upstream: { maxConnections: 1 } };
    const { origin, connect, sidecar, seen } = await open(t, forwarder, config, () => {});
    const [first, second] = [await connect(), await connect()];
    first.send(GET);
    await origin.connected(1);
    second.send(GET);
    await queued(sidecar, 1);
    const { socket } = origin.connections[0]!;
    socket.write(OK);
    await first.until((text) => text.endsWith("ok"));
    while (origin.received().split("GET / ").length < 3) await new Promise((resolve) => socket.once("data", resolve));
    socket.write(OK);
    await second.until((text) => text.endsWith("ok"));
    assert.equal(origin.connections.length, 1);
    const { exchange } = await seen.end(2);
    assert.ok(exchange.queuedMs > 0);
  });

  test(`${forwarder}: 503 at once when upstream.maxQueue exchanges wait already`, async (t) => {
    const config = { upstream: { maxConnections: 1, maxQueue: 1 } };
    const { origin, connect, sidecar, seen } = await open(t, forwarder, config, () => {});
    const [busy, waiting, refused] = [await connect(), await connect(), await connect()];
    busy.send(GET);
    await origin.connected(1);
    waiting.send(GET);
    await queued(sidecar, 1);
    assert.match(await ask(refused), /^HTTP\/1\.1 503 [\s\S]*\r\n\r\n503 HF_QUEUE_FULL\n$/);
    assert.equal(waiting.received, "");
    assert.equal((await seen.end()).outcome.error?.code, "HF_QUEUE_FULL");
  });

  test(`${forwarder}: 503 after upstream.queueTimeout`, async (t) => {
    const config = { upstream: { maxConnections: 1, queueTimeout: "100ms" } };
    const { origin, connect } = await open(t, forwarder, config, () => {});
    const [busy, waiting] = [await connect(), await connect()];
    busy.send(GET);
    await origin.connected(1);
    assert.match(await ask(waiting), /^HTTP\/1\.1 503 [\s\S]*\r\n\r\n503 HF_QUEUE_TIMEOUT\n$/);
    assert.equal(busy.received, "");
  });

  test(`${forwarder}: the queue is of one origin: others do not wait`, async (t) => {
    const stuck = await rawOrigin(t, () => {});
    const quick = await rawOrigin(t, ({ socket }) => void socket.write(OK));
    const config = { upstream: { maxConnections: 1, maxQueue: 1 } };
    const sidecar = await testSidecar(t, {
      plugins: [{ use: "connection-limits", config }],
      config: { forwarder, outbound: { unmatched: "pass" } },
    });
    const to = async (port: number): Promise<RawPeer> => {
      const peer = await RawPeer.connect(t, sidecar.outbound);
      peer.send(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
      return peer;
    };
    await to(stuck.port);
    await stuck.connected(1);
    await to(stuck.port);
    await queued(sidecar, 1);
    const served = await to(quick.port);
    await served.until((text) => text.endsWith("\r\n\r\nok"));
  });

  test(`${forwarder}: upstream.maxIdle closes the oldest idle connection`, async (t) => {
    const config = { upstream: { maxIdle: 1 } };
    const { origin, connect, seen } = await open(t, forwarder, config, () => {});
    const peers = [await connect(), await connect()];
    for (const [at, peer] of peers.entries()) {
      peer.send(GET);
      await origin.connected(at + 1);
    }
    const upstreams = () => seen.opened.filter(({ side }) => side === "upstream");
    await seen.until(() => upstreams().length === 2);
    for (const [at, { socket }] of origin.connections.entries()) {
      socket.write(OK);
      await seen.until(() => seen.idled("upstream") === at + 1);
    }
    const { connection, reason } = await seen.closedOn("upstream");
    assert.equal(reason, "limit");
    assert.equal(connection, upstreams()[0], "the one that became idle first");
  });
}

/** Resolves once that many exchanges wait for a connection. */
async function queued({ sidecar }: TestSidecar, count: number): Promise<void> {
  const waiting = () => [...sidecar.view.pools()].reduce((sum, pool) => sum + pool.queued, 0);
  while (waiting() !== count) await new Promise((resolve) => setImmediate(resolve));
}

test("a reload that lowers maxConnections keeps the connections in use, and counts them", async (t) => {
  const origin = await rawOrigin(t, ({ socket }) => void socket.write(OK));
  const limited = (maxConnections: number) => ({
    upstream: origin.url,
    plugins: [{ use: "connection-limits", config: { maxConnections } }],
  });
  const sidecar = await testSidecar(t, limited(3));
  const kept = [await RawPeer.connect(t, sidecar.inbound), await RawPeer.connect(t, sidecar.inbound)];
  for (const peer of kept) assert.match(await ask(peer), /^HTTP\/1\.1 200 /);
  assert.equal((await sidecar.reload(limited(1))).result, "applied");
  for (const peer of kept) assert.match(await ask(peer), /^HTTP\/1\.1 200 /);
  const further = await RawPeer.connect(t, sidecar.inbound);
  await assertRefused(further, await ask(further), 503);
  // Room for one comes when both have gone.
  for (const peer of kept) {
    peer.socket.end();
    await peer.untilEnd();
  }
  const later = await RawPeer.connect(t, sidecar.inbound);
  assert.match(await ask(later), /^HTTP\/1\.1 200 /);
});
