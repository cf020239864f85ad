/** What comes together with an upgrade, or before it is decided, is never lost. */
import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const UPGRADE = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: foo/1\r\n\r\n";
const GET = "GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n";
const SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo/1\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async function until(connection: OriginConnection, end: string): Promise<void> {
  while (!connection.received.endsWith(end)) await once(connection.socket, "data");
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: bytes with the head, and before the 101, are the first of the new protocol`, async (t) => {
    const heads: OriginConnection[] = [];
    const origin = await rawOrigin(t, (connection) => heads.push(connection));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${UPGRADE}with the head `);
    await origin.connected(1);
    const [connection] = origin.connections;
    while (heads.length === 0) await once(connection!.socket, "data");
    assert.match(connection!.received, /\r\nUpgrade: foo\/1\r\n/i);
    assert.match(connection!.received, /\r\nConnection: Upgrade\r\n/i);
    assert.ok(connection!.received.endsWith("\r\n\r\n"), "nothing of the new protocol before it is agreed on");
    peer.send("before the 101 ");
    for (let count = 0; count < 20; count++) await turn();
    connection!.socket.write(`${SWITCH}from upstream `);
    const answer = await peer.until((text) => text.endsWith("from upstream "));
    assert.match(answer, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
    peer.send("after it");
    await until(connection!, "after it");
    assert.ok(connection!.received.endsWith("\r\n\r\nwith the head before the 101 after it"));
    peer.socket.end();
    await until(connection!, "after it");
    await peer.untilEnd();
  });

  test(`${forwarder}: more bytes than are read ahead wait for the 101`, async (t) => {
    const heads: OriginConnection[] = [];
    const origin = await rawOrigin(t, (connection) => heads.push(connection));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const early = "0123456789".repeat(100_000);
    peer.send(UPGRADE + early);
    await origin.connected(1);
    const [connection] = origin.connections;
    while (heads.length === 0) await once(connection!.socket, "data");
    connection!.socket.write(SWITCH);
    const at = connection!.received.length;
    while (connection!.received.length < at + early.length) await once(connection!.socket, "data");
    assert.equal(connection!.received.slice(at), early);
  });

  for (const refusal of [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    "HTTP/1.1 426 Upgrade Required\r\nUpgrade: bar\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno",
    "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
  ]) {
    const [, status] = refusal.split(" ");
    test(`${forwarder}: an upgrade answered with ${status} is an ordinary exchange; what follows it is served`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }, head) => {
        socket.write(head.startsWith("GET /chat") ? refusal : OK);
      });
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(UPGRADE + GET + UPGRADE);
      for (const byte of GET) {
        await turn();
        peer.send(byte);
      }
      const answer = await peer.until((text) => text.split("\r\n\r\nok").length === 3);
      assert.deepEqual(
        [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => match[1]),
        [status, "200", status, "200"],
      );
      assert.equal(peer.ended, false);
    });
  }

  test(`${forwarder}: an upgrade behind other requests waits its turn, and its bytes with it`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, head) => {
      socket.write(head.startsWith("GET /chat") ? SWITCH : OK);
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${GET}${GET}${UPGRADE}early`);
    for (const byte of "later") {
      await turn();
      peer.send(byte);
    }
    const answer = await peer.until((text) => text.includes(" 101 ") && text.endsWith("\r\n\r\n"));
    assert.deepEqual(
      [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => match[1]),
      ["200", "200", "101"],
    );
    const connection = origin.connections.at(-1)!;
    await until(connection, "earlylater");
  });
}
