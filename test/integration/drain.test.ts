import assert from "node:assert/strict";
import test from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { observer } from "../support/observer.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: h\r\n\r\n`;
const answered = (text: string): boolean => text.endsWith("\r\n\r\nok");

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: 50 busy keep-alive connections lose nothing: every answer arrives, says close, and is the last`, async (t) => {
    const held: OriginConnection[] = [];
    let holding = false;
    const origin = await rawOrigin(t, (connection) => {
      if (holding) held.push(connection);
      else connection.socket.write(OK);
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, drain: { deadline: "30s", idleGrace: "0s" } },
    });
    const peers = await Promise.all(Array.from({ length: 50 }, () => RawPeer.connect(t, sidecar.inbound)));
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        peers.map(async (peer, index) => {
          peer.received = "";
          peer.send(request(`/${round}/${index}`));
          await peer.until(answered);
        }),
      );
    }
    holding = true;
    for (const [index, peer] of peers.entries()) {
      peer.received = "";
      // Half of them in the middle of a response, half still waiting for one.
      peer.send(request(`/last/${index}`));
    }
    while (held.length < 50) await nextTurn();
    for (const { socket } of held.slice(0, 25)) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    while (peers.filter(({ received }) => received.endsWith("hello")).length < 25) await nextTurn();

    const drained = sidecar.sidecar.drain();
    assert.equal((await fetch(`${sidecar.admin}/readyz`)).status, 503);
    for (const [index, { socket }] of held.entries()) {
      socket.write(index < 25 ? "world" : OK);
      await nextTurn();
    }
    const texts = await Promise.all(peers.map((peer) => peer.untilEnd()));
    for (const peer of peers) peer.socket.destroy();
    assert.deepEqual(await drained, { cut: 0 });
    assert.equal(texts.filter((text) => text.endsWith("helloworld")).length, 25);
    const closing = texts.filter(answered);
    assert.equal(closing.length, 25);
    for (const text of closing) assert.match(text, /\r\nConnection: close\r\n/);
    assert.equal(watch.ended.length, 200);
    assert.ok(watch.ended.every(({ outcome }) => outcome.error === undefined));
  });

  test(`${forwarder}: in the grace a kept connection gets one more answer, and a head that has begun is waited for`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, drain: { deadline: "30s", idleGrace: "500ms" } },
    });
    const [late, slow] = [await RawPeer.connect(t, sidecar.inbound), await RawPeer.connect(t, sidecar.inbound)];
    for (const peer of [late, slow]) {
      peer.send(request("/"));
      await peer.until(answered);
      peer.received = "";
    }
    slow.send("GET /slow HTTP/1.1\r\nHo");
    const drained = sidecar.sidecar.drain();
    late.send(request("/late"));
    assert.match(await late.untilEnd(), /\r\nConnection: close\r\n[\s\S]*ok$/);
    late.socket.destroy();
    // Well after the grace: nobody else is there any more.
    await watch.until(() => watch.closed.some(({ connection }) => connection.side === "downstream"));
    slow.send("st: h\r\n\r\n");
    assert.match(await slow.untilEnd(), /\r\nConnection: close\r\n[\s\S]*ok$/);
    slow.socket.destroy();
    assert.deepEqual(await drained, { cut: 0 });
  });

  test(`${forwarder}: the deadline cuts what is left and counts it`, async (t) => {
    const origin = await rawOrigin(t, () => {});
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, drain: { deadline: "300ms", idleGrace: "0s" } },
    });
    const peers = await Promise.all(Array.from({ length: 3 }, () => RawPeer.connect(t, sidecar.inbound)));
    for (const peer of peers) peer.send(request("/"));
    await origin.connected(3);
    const drained = sidecar.sidecar.drain();
    await Promise.all(peers.map((peer) => peer.untilEnd()));
    assert.deepEqual(await drained, { cut: 3 });
    assert.ok(watch.ended.every(({ outcome }) => outcome.error?.code === "HF_DRAINING"));
    assert.equal(watch.closed.length, 6);
    assert.ok(watch.closed.every(({ reason }) => reason === "drain"));
  });

  test(`${forwarder}: stop() in a drain ends it at once`, async (t) => {
    const origin = await rawOrigin(t, () => {});
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      config: { forwarder, drain: { deadline: "1h", idleGrace: "0s" } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(request("/"));
    await origin.connected(1);
    const drained = sidecar.sidecar.drain();
    await nextTurn();
    assert.deepEqual(await sidecar.sidecar.stop(), { cut: 1 });
    assert.deepEqual(await drained, { cut: 1 });
    await peer.untilEnd();
  });

  test(`${forwarder}: outbound serves the service until inbound is done`, async (t) => {
    const held: OriginConnection[] = [];
    const service = await rawOrigin(t, (connection) => void held.push(connection));
    const other = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const sidecar = await testSidecar(t, {
      upstream: service.url,
      outbound: true,
      config: { forwarder, drain: { deadline: "30s", idleGrace: "0s" } },
    });
    const caller = await RawPeer.connect(t, sidecar.inbound);
    caller.send(request("/"));
    while (held.length === 0) await nextTurn();
    const drained = sidecar.sidecar.drain();
    // The service needs somebody else to finish its answer: a new connection, long after the drain began.
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${other.port}\r\nConnection: close\r\n\r\n`);
    assert.match(await peer.untilEnd(), /\r\n\r\nok$/);
    peer.socket.destroy();
    held[0]!.socket.write(OK);
    assert.match(await caller.untilEnd(), /\r\nConnection: close\r\n[\s\S]*ok$/);
    caller.socket.destroy();
    assert.deepEqual(await drained, { cut: 0 });
  });

  test(`${forwarder}: a tunnel runs on until the deadline`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
      socket.on("data", (bytes) => socket.write(bytes));
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, drain: { deadline: "30s", idleGrace: "0s" } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    await peer.until((text) => text.includes(" 101 "));
    const drained = sidecar.sidecar.drain();
    for (const word of ["one", "two", "three"]) {
      peer.send(word);
      await peer.until((text) => text.endsWith(word));
    }
    peer.socket.end();
    assert.deepEqual(await drained, { cut: 0 });
    assert.equal((await watch.end()).outcome.error, undefined);
  });
}
