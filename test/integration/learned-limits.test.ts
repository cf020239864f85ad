import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { OriginView } from "../../src/admin/view.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const POST = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";

type Answer = (connection: OriginConnection, index: number) => void;

async function setting(t: TestContext, forwarder: string, answer: Answer, config: object = {}) {
  const origin = await rawOrigin(t, (connection, _head, index) => answer(connection, index));
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    plugins: [{ use: "idle-timeout", config }, { plugin: watch.plugin }],
    config: { forwarder },
  });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  let exchanges = 0;
  return {
    origin,
    watch,
    async exchange(request = GET) {
      peer.received = "";
      peer.send(request);
      await peer.until((text) => text.endsWith("\r\n\r\nok"));
      return await watch.end(++exchanges);
    },
    /** Resolves once so many upstream connections have closed. */
    async closed(count: number) {
      await watch.until(() => watch.closed.filter(({ connection }) => connection.side === "upstream").length >= count);
    },
    known(): OriginView {
      const [known] = sidecar.sidecar.view.origins();
      return known!;
    },
  };
}

for (const forwarder of FORWARDERS) {
  for (const how of ["FIN", "RST"] as const) {
    test(`${forwarder}: where the origin closes idle connections is learned from three of its closes (${how})`, async (t) => {
      const { exchange, closed, known, watch } = await setting(t, forwarder, ({ socket }) => {
        socket.write(OK);
        setTimeout(() => (how === "FIN" ? socket.end() : socket.resetAndDestroy()), 150);
      });
      for (let count = 1; count <= 3; count++) {
        await exchange();
        await closed(count);
      }
      const { limit } = known().learned.whole;
      assert.ok(limit !== undefined);
      assert.ok(limit.limitMs > 50, `${limit.limitMs}`);
      // A timer never fires early, and whatever is late only makes what was seen longer.
      const { exchange: next } = await exchange();
      const upstream = next.upstream!;
      assert.equal(upstream.idleLimitSource, "learned");
      assert.equal(upstream.learned!.idleTimeoutMs, limit.limitMs);
      assert.ok(upstream.idleLimitMs < limit.limitMs);
      assert.equal(watch.retried.length, 0);
    });
  }

  test(`${forwarder}: with learn off, what was learned shows and does not hold`, async (t) => {
    const answer: Answer = ({ socket }) => {
      socket.write(OK);
      setTimeout(() => socket.end(), 100);
    };
    const { exchange, closed, known } = await setting(t, forwarder, answer, { learn: false });
    for (let count = 1; count <= 3; count++) {
      await exchange();
      await closed(count);
    }
    assert.ok(known().learned.whole.limit !== undefined);
    const { exchange: next } = await exchange();
    assert.equal(next.upstream!.idleLimitSource, "configured");
    assert.equal(next.upstream!.idleLimitMs, 55_000);
  });

  test(`${forwarder}: after one close, a POST gets a fresh connection where the idle one is in doubt; a GET does not`, async (t) => {
    const { exchange, closed, origin, watch } = await setting(t, forwarder, ({ socket }) => void socket.write(OK));
    await exchange();
    await watch.until(() => watch.idled("upstream") === 1);
    await sleep(100);
    origin.connections[0]!.socket.end();
    await closed(1);

    await exchange();
    // As long as the first one lived, and longer.
    await sleep(200);
    const { exchange: post } = await exchange(POST);
    assert.equal(post.upstreamIndex, 1);
    assert.equal(origin.connections.length, 3);
    await sleep(200);
    const { exchange: get } = await exchange();
    assert.equal(get.upstreamIndex, 2);
    assert.equal(origin.connections.length, 3);
    // It was open after all: nothing is in doubt any more.
    await sleep(100);
    const { exchange: again } = await exchange(POST);
    assert.equal(again.upstreamIndex, 3);
  });

  test(`${forwarder}: an idle connection is left alone beyond the learned limit, and carries nothing`, async (t) => {
    let closes = true;
    const { exchange, closed, known, origin } = await setting(t, forwarder, ({ socket }) => {
      socket.write(OK);
      if (closes) setTimeout(() => socket.end(), 300);
    });
    for (let count = 1; count <= 3; count++) {
      await exchange();
      await closed(count);
    }
    closes = false;
    await exchange();
    while (known().watched === 0) await sleep(20);
    const { exchange: next } = await exchange();
    assert.equal(next.upstreamIndex, 1);
    assert.equal(origin.connections.length, 5);
  });

  test(`${forwarder}: how many requests the origin takes is learned, announced or not`, async (t) => {
    const { exchange, closed, known } = await setting(t, forwarder, ({ socket }, index) => {
      socket.write(index < 3 ? OK : OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
      if (index === 3) socket.end();
    });
    for (let count = 1; count <= 9; count++) {
      await exchange();
      if (count % 3 === 0) await closed(count / 3);
    }
    assert.deepEqual(known().learned.whole.ending.requests, { limit: 3, announced: true });
  });
}

test("a sidecar that is started again goes on from what was learned", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-state-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const origin = await rawOrigin(t, ({ socket }) => {
    socket.write(OK);
    setTimeout(() => socket.end(), 100);
  });
  const watch = observer();
  const options = {
    upstream: origin.url,
    plugins: [{ use: "idle-timeout" }, { plugin: watch.plugin }],
    config: { learning: { stateFile: path.join(folder, "learned.json") } },
  };
  const first = await testSidecar(t, options);
  const peer = await RawPeer.connect(t, first.inbound);
  for (let count = 1; count <= 3; count++) {
    peer.send(GET);
    await watch.closedOn("upstream", count);
  }
  await first.stop();

  const second = await testSidecar(t, options);
  const other = await RawPeer.connect(t, second.inbound);
  other.send(GET);
  await other.until((text) => text.endsWith("\r\n\r\nok"));
  const { exchange } = await watch.end(4);
  assert.equal(exchange.upstream!.idleLimitSource, "learned");
});
