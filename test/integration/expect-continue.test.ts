import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const HEAD = "POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: the body waits for the upstream's 100`, async (t) => {
    const origin = await rawOrigin(t, () => {});
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    for (let count = 1; count <= 2; count++) {
      peer.received = "";
      peer.send(`${HEAD}Expect: 100-continue\r\n\r\n`);
      await origin.connected(1);
      const [connection] = origin.connections;
      while (connection!.received.split("\r\n\r\n").length !== count + 1) await once(connection!.socket, "data");
      assert.match(connection!.received, /\r\nExpect: 100-continue\r\n/i);
      assert.equal(peer.received, "", "nothing before the upstream's word");
      connection!.socket.write(CONTINUE);
      assert.equal(await peer.until((text) => text.endsWith("\r\n\r\n")), CONTINUE);
      peer.send("hello");
      while (!connection!.received.endsWith("\r\n\r\nhello")) await once(connection!.socket, "data");
      connection!.socket.write(OK);
      const answer = await peer.until((text) => text.endsWith("\r\n\r\nok"));
      assert.equal(answer.split("HTTP/1.1 100").length, 2, "one 100");
      connection!.received = connection!.received.replace("hello", "");
    }
    assert.equal(origin.connections.length, 1);
  });

  test(`${forwarder}: a final status instead of 100 is relayed; no 100 follows, and both connections close`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${HEAD}Expect: 100-continue\r\n\r\n`);
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 401 Unauthorized\r\n/);
    assert.match(answer, /\r\nConnection: close\r\n/i);
    assert.ok(answer.endsWith("\r\n\r\nno"));
    assert.equal(answer.split("HTTP/1.1 ").length, 2);
    const { socket } = origin.connections[0]!;
    if (!socket.destroyed) await once(socket, "close");
    assert.ok(origin.received().endsWith("\r\n\r\n"), "no byte of the body");
  });

  test(`${forwarder}: a body that does not wait is relayed`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(CONTINUE + OK));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${HEAD}Expect: 100-continue\r\n\r\nhello`);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    const [connection] = origin.connections;
    while (!connection!.received.endsWith("\r\n\r\nhello")) await once(connection!.socket, "data");
  });

  test(`${forwarder}: an upstream that never says 100 gets the body after a while`, async (t) => {
    const origin = await rawOrigin(t, () => {});
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${HEAD}Expect: 100-continue\r\n\r\n`);
    await peer.until((text) => text === CONTINUE);
    peer.send("hello");
    const [connection] = origin.connections;
    while (!connection!.received.endsWith("\r\n\r\nhello")) await once(connection!.socket, "data");
    connection!.socket.write(OK);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
  });

  test(`${forwarder}: Expect without a body is answered like any other request`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\n\r\n");
    const answer = await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.match(answer, /^HTTP\/1\.1 200 /);
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    await peer.until((text) => text.split("\r\n\r\nok").length === 3);
  });

  for (const value of ["200-ok", "100-continue, other", "100-continue\r\nExpect: other", "100-continue=1", ""]) {
    test(`${forwarder}: Expect: ${JSON.stringify(value)} gets 417`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(`${HEAD}Expect: ${value}\r\n\r\nhello`);
      const answer = await peer.untilEnd();
      assert.match(answer, /^HTTP\/1\.1 417 Expectation Failed\r\n/);
      assert.equal(origin.received(), "");
    });
  }
}
