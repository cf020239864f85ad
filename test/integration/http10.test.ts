import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const LENGTH = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n";

for (const forwarder of FORWARDERS) {
  async function start(t: test.TestContext, answer: string): Promise<RawPeer> {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(answer));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    return await RawPeer.connect(t, sidecar.inbound);
  }

  test(`${forwarder}: HTTP/1.0 is closed after the response unless keep-alive was asked for`, async (t) => {
    const peer = await start(t, LENGTH);
    peer.send("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n");
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(answer, /\r\nConnection: close\r\n/i);
    assert.ok(answer.endsWith("\r\n\r\nok"));
  });

  test(`${forwarder}: HTTP/1.0 with keep-alive is kept, and told so`, async (t) => {
    const peer = await start(t, LENGTH);
    for (let count = 1; count <= 3; count++) {
      peer.send("GET / HTTP/1.0\r\nHost: a.example\r\nConnection: Keep-Alive\r\n\r\n");
      const answer = await peer.until((text) => text.split("\r\n\r\nok").length === count + 1);
      assert.equal(answer.match(/\r\nConnection: keep-alive\r\n/gi)?.length, count);
    }
    assert.equal(peer.ended, false);
    peer.send("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n");
    assert.match(await peer.untilEnd(), /\r\nConnection: close\r\n(.*\r\n)*\r\nok$/i);
  });

  for (const [ask, field] of [
    ["nothing", ""],
    ["keep-alive", "Connection: keep-alive\r\n"],
  ] as const) {
    test(`${forwarder}: a chunked response reaches HTTP/1.0 asking for ${ask} without its framing, then the end`, async (t) => {
      const peer = await start(t, CHUNKED);
      peer.send(`GET / HTTP/1.0\r\nHost: a.example\r\n${field}\r\n`);
      const answer = await peer.untilEnd();
      assert.doesNotMatch(answer, /transfer-encoding/i);
      assert.match(answer, /\r\nConnection: close\r\n/i);
      assert.ok(answer.endsWith("\r\n\r\nok"));
    });
  }

  test(`${forwarder}: a response that ends with its connection reaches HTTP/1.0 so`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.end("HTTP/1.1 200 OK\r\n\r\nuntil the end"));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n");
    const answer = await peer.untilEnd();
    assert.doesNotMatch(answer, /transfer-encoding|content-length/i);
    assert.match(answer, /\r\nConnection: close\r\n/i);
    assert.ok(answer.endsWith("\r\n\r\nuntil the end"));
  });

  test(`${forwarder}: HTTP/1.0 goes upstream as HTTP/1.1 on a connection that is kept`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    for (let count = 1; count <= 3; count++) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("POST / HTTP/1.0\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello");
      assert.match(await peer.untilEnd(), /ok$/);
    }
    assert.deepEqual(
      origin.requests.map(({ body }) => body),
      ["hello", "hello", "hello"],
    );
    assert.equal(origin.sockets.length, 1);
  });

  test(`${forwarder}: no Expect and no interim response on HTTP/1.0`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write(`HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${LENGTH}`);
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("POST / HTTP/1.0\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
    assert.equal(answer.split("HTTP/1.1 ").length, 2);
    assert.ok(origin.received().endsWith("\r\n\r\nhello"));
  });
}
