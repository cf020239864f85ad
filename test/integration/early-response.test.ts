import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const TOO_LARGE = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

for (const forwarder of FORWARDERS) {
  for (const framing of ["Content-Length: 100000000", "Transfer-Encoding: chunked"]) {
    test(`${forwarder}: an early final response is relayed at once, and neither connection is used again (${framing})`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }, head) => {
        socket.write(head.startsWith("POST") ? TOO_LARGE : OK);
      });
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      const first = framing.startsWith("Content") ? "first" : "5\r\nfirst\r\n";
      peer.send(`POST / HTTP/1.1\r\nHost: a.example\r\n${framing}\r\n\r\n${first}`);
      // The upload goes on: the answer must not wait for it.
      const answer = await peer.untilEnd();
      assert.match(answer, /^HTTP\/1\.1 413 Content Too Large\r\n/);
      assert.ok(answer.endsWith("\r\n\r\nno"));
      const { socket } = origin.connections[0]!;
      if (!socket.destroyed) await once(socket, "close");

      const next = await RawPeer.connect(t, sidecar.inbound);
      next.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
      await next.until((text) => text.endsWith("\r\n\r\nok"));
      assert.equal(origin.connections.length, 2);
    });
  }

  test(`${forwarder}: a peer that never stops sending still gets the early response whole`, async (t) => {
    const body = "n".repeat(200_000);
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write(`HTTP/1.1 403 Forbidden\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000000\r\n\r\n");
    const piece = Buffer.alloc(65_536, "a");
    const send = (): void => {
      while (!peer.ended && !peer.socket.destroyed && peer.socket.write(piece));
    };
    peer.socket.on("drain", send);
    send();
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 403 Forbidden\r\n/);
    assert.ok(answer.endsWith(`\r\n\r\n${body}`));
  });

  test(`${forwarder}: request and response may flow at the same time`, async (t) => {
    const origin = await rawOrigin(t, (connection) => {
      const { socket } = connection;
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\n"));
    const [connection] = origin.connections;
    for (const word of ["one", "two", "three"]) {
      const chunk = `${word.length}\r\n${word}\r\n`;
      peer.send(chunk);
      while (!connection!.received.endsWith(chunk)) await once(connection!.socket, "data");
      connection!.socket.write(chunk);
      await peer.until((text) => text.endsWith(chunk));
    }
    peer.send("0\r\n\r\n");
    while (!connection!.received.endsWith("0\r\n\r\n")) await once(connection!.socket, "data");
    connection!.socket.write("0\r\n\r\n");
    const answer = await peer.until((text) => text.endsWith("0\r\n\r\n"));
    assert.match(answer, /\r\nConnection: keep-alive\r\n/i);
    peer.send("GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n");
    await peer.until((text) => text.split("HTTP/1.1 200").length === 3);
    assert.equal(origin.connections.length, 1, "the upstream connection was kept");
  });
}
