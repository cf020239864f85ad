import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const UPGRADE =
  "GET /chat HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const DRAIN = { idleGrace: "0s", deadline: "60s" };
/** What an unmasked close frame of 1001 looks like (latin1). */
const GOING_AWAY = "\x88\x02\x03\xe9";

/** An origin that switches protocols and leaves the bytes to the test. */
async function switching(t: TestContext, protocol = "websocket") {
  const opened = Promise.withResolvers<Socket>();
  const origin = await rawOrigin(t, ({ socket }) => {
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
    opened.resolve(socket);
  });
  /** What came after the request, once it satisfies the condition (latin1). */
  const until = async (condition: (text: string) => boolean): Promise<string> => {
    const socket = await opened.promise;
    for (;;) {
      const text = origin.received().slice(origin.received().indexOf("\r\n\r\n") + 4);
      if (condition(text)) return text;
      await once(socket, "data");
    }
  };
  return { origin, opened: opened.promise, until };
}

/** Opens the tunnel; `sent` is what came after the 101 (latin1). */
async function open(t: TestContext, url: string, upgrade = UPGRADE) {
  const peer = await RawPeer.connect(t, url);
  peer.send(upgrade);
  const head = await peer.until((text) => text.endsWith("\r\n\r\n"));
  return { peer, sent: () => peer.received.slice(head.length) };
}

for (const forwarder of FORWARDERS) {
  const config = { forwarder, drain: DRAIN };

  test(`${forwarder}: a drain closes WebSockets on both ends with 1001, and cuts nothing`, async (t) => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    await once(server, "listening");
    t.after(() => server.close());
    const upstream = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const sidecar = await testSidecar(t, { upstream, config });
    const codes: number[] = [];
    for (let count = 0; count < 10; count++) {
      const near = new WebSocket(sidecar.inbound.replace("http", "ws"));
      const [[far]] = (await Promise.all([once(server, "connection"), once(near, "open")])) as [[WebSocket], unknown];
      for (const end of [near, far]) end.on("close", (code) => codes.push(code));
      // Something is on its way all the time.
      far.on("message", (message) => far.send(message));
      near.on("message", (message) => near.send(message));
      near.send("x".repeat(1 + 7000 * count));
    }
    assert.deepEqual(await sidecar.sidecar.drain(), { cut: 0 });
    while (codes.length < 20) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(codes, new Array(20).fill(1001));
  });

  test(`${forwarder}: a close frame waits for the end of the frame that is on its way`, async (t) => {
    const { origin, opened, until } = await switching(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config });
    const { peer, sent } = await open(t, sidecar.inbound);
    const far = await opened;
    // A masked text frame of 200 bytes and an unmasked one of 5, both incomplete.
    peer.send(`\x81\xfe\x00\xc8mask${"a".repeat(100)}`);
    await until((text) => text.endsWith("a"));
    far.write(Buffer.from("\x81\x05he", "latin1"));
    await peer.until(() => sent().endsWith("he"));
    const idle = await RawPeer.connect(t, sidecar.inbound);
    const drained = sidecar.sidecar.drain();
    // It is closed when WebSockets are told, and not before.
    await idle.untilEnd();
    idle.socket.end();
    peer.send(`${"b".repeat(100)}\x81\x80more`);
    far.write(Buffer.from("llo\x81\x04more", "latin1"));
    // Up to the end of the frame, then a masked close frame; what came after it in the same read is dropped.
    const received = await until((text) => text.length >= 216);
    assert.equal(received.slice(0, 208), `\x81\xfe\x00\xc8mask${"a".repeat(100)}${"b".repeat(100)}`);
    const close = Buffer.from(received.slice(208), "latin1");
    assert.deepEqual([close.length, close[0], close[1]], [8, 0x88, 0x82]);
    assert.deepEqual([close[6]! ^ close[2]!, close[7]! ^ close[3]!], [0x03, 0xe9]);
    await peer.until(() => sent().endsWith(GOING_AWAY));
    assert.equal(sent(), `\x81\x05hello${GOING_AWAY}`);
    // Both answer; each connection is then closed from our side.
    peer.send("\x88\x82mask\x00\x00");
    await peer.untilEnd();
    peer.socket.end();
    far.write(Buffer.from(GOING_AWAY, "latin1"));
    if (!far.readableEnded) await once(far, "end");
    assert.deepEqual(await drained, { cut: 0 });
    assert.equal((await until(() => true)).length, 216);
  });

  test(`${forwarder}: a WebSocket whose peers are closing it already is left to them`, async (t) => {
    const { origin, opened, until } = await switching(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config });
    const { peer, sent } = await open(t, sidecar.inbound);
    const far = await opened;
    peer.send("\x88\x82mask\x6e\x89");
    await until((text) => text.length === 8);
    const drained = sidecar.sidecar.drain();
    far.end(Buffer.from("\x88\x02\x03\xe8", "latin1"));
    await peer.untilEnd();
    assert.equal(sent(), "\x88\x02\x03\xe8");
    peer.socket.end();
    assert.deepEqual(await drained, { cut: 0 });
    assert.equal((await until(() => true)).length, 8);
  });

  test(`${forwarder}: a peer that does not answer the close frame is cut at the deadline`, async (t) => {
    const { origin } = await switching(t);
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      config: { forwarder, drain: { idleGrace: "0s", deadline: "300ms" } },
    });
    const { peer, sent } = await open(t, sidecar.inbound);
    assert.deepEqual(await sidecar.sidecar.drain(), { cut: 1 });
    await peer.untilEnd();
    assert.equal(sent(), GOING_AWAY);
  });

  test(`${forwarder}: other protocols are told nothing: their bytes are their own`, async (t) => {
    const { origin, opened } = await switching(t, "chess");
    const sidecar = await testSidecar(t, { upstream: origin.url, config });
    const { peer, sent } = await open(t, sidecar.inbound, UPGRADE.replace("WebSocket", "chess"));
    const drained = sidecar.sidecar.drain();
    const far = await opened;
    far.end("mate");
    await peer.untilEnd();
    assert.equal(sent(), "mate");
    peer.socket.end();
    assert.deepEqual(await drained, { cut: 0 });
  });
}
