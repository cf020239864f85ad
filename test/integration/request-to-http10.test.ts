/** A chunked request for a service that speaks HTTP/1.0: it is sent no chunks (RFC 9112 §6.1). */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const HEAD = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
/** What is payload could be taken for the end. */
const PAYLOAD = "0\r\n\r\nand more";
const CHUNKED = "5;name=value\r\n0\r\n\r\n\r\n8\r\nand more\r\n0\r\nX-Sum: 1\r\n\r\n";

/** Resolves when the body that the head announces has come. */
async function bodyOf(connection: OriginConnection, head: string): Promise<string> {
  const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
  const body = () => connection.received.slice(connection.received.indexOf("\r\n\r\n") + 4);
  while (body().length < length) await once(connection.socket, "data");
  return body();
}

/** A sidecar before a service that has answered once, as HTTP/1.0 unless told otherwise; and a caller on it. */
async function afterOne(t: TestContext, forwarder: string, replay = "64KiB", version = "1.0") {
  const requests: { head: string; body: string }[] = [];
  const service = { version };
  const origin = await rawOrigin(t, async (connection, head) => {
    requests.push({ head, body: await bodyOf(connection, head) });
    connection.socket.end(`HTTP/${service.version} 200 OK\r\nContent-Length: 2\r\n\r\nok`);
  });
  const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder, limits: { replay } } });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await peer.until((text) => text.endsWith("ok"));
  const answered = (count: number) => peer.until((text) => text.split("\r\n\r\nok").length > count);
  return { peer, service, requests, origin, answered };
}

function assertWhole({ head, body }: { head: string; body: string }): void {
  assert.match(head, /\r\ncontent-length: 13\r\n/i);
  assert.doesNotMatch(head, /\r\n(?:transfer-encoding|trailer|expect):/i);
  assert.equal(body, PAYLOAD);
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a chunked request reaches HTTP/1.0 whole, with its length, however it comes`, async (t) => {
    for (const step of [1, 7, 1000]) {
      const { peer, requests, answered } = await afterOne(t, forwarder);
      const whole = `${HEAD}Trailer: X-Sum\r\n\r\n${CHUNKED}`;
      for (let at = 0; at < whole.length; at += step) {
        peer.send(whole.slice(at, at + step));
        // One turn of the loop each, so that they are read apart.
        await new Promise((resolve) => setImmediate(resolve));
      }
      await answered(2);
      assert.equal(requests.length, 2);
      assertWhole(requests[1]!);
    }
  });

  test(`${forwarder}: what follows a chunked request for HTTP/1.0 is served after it`, async (t) => {
    const { peer, requests, answered } = await afterOne(t, forwarder);
    peer.send(`${HEAD}\r\n${CHUNKED}${HEAD}\r\n0\r\n\r\nGET /last HTTP/1.1\r\nHost: a\r\n\r\n`);
    await answered(4);
    assertWhole(requests[1]!);
    assert.match(requests[2]!.head, /\r\ncontent-length: 0\r\n/i);
    assert.match(requests[3]!.head, /^GET \/last /);
  });

  test(`${forwarder}: who waits to send a chunked body to HTTP/1.0 is told to`, async (t) => {
    const { peer, requests, answered } = await afterOne(t, forwarder);
    peer.send(`${HEAD}Expect: 100-continue\r\n\r\n`);
    await peer.until((text) => text.endsWith("HTTP/1.1 100 Continue\r\n\r\n"));
    assert.equal(requests.length, 1);
    peer.send(CHUNKED);
    await answered(2);
    assertWhole(requests[1]!);
  });

  test(`${forwarder}: a chunked body that is too long to be kept is refused, and HTTP/1.0 sees nothing of it`, async (t) => {
    for (const together of [true, false]) {
      const { peer, origin } = await afterOne(t, forwarder, "1KiB");
      peer.send(`${HEAD}\r\n`);
      if (!together) await new Promise((resolve) => setTimeout(resolve, 20));
      for (let sent = 0; sent < 3; sent++) peer.send(`200\r\n${"x".repeat(512)}\r\n`);
      peer.send("0\r\n\r\n");
      await peer.until((text) => text.endsWith("411 HF_LENGTH_REQUIRED\n"));
      assert.doesNotMatch(origin.received(), /POST|xxx/);
    }
  });

  test(`${forwarder}: a caller that leaves in the middle of such a body leaves nothing behind`, async (t) => {
    const { peer, origin, requests } = await afterOne(t, forwarder);
    peer.send(`${HEAD}\r\n5\r\nhe`);
    await new Promise((resolve) => setTimeout(resolve, 20));
    peer.socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(requests.length, 1);
    assert.doesNotMatch(origin.received(), /POST/);
  });

  test(`${forwarder}: a service that answers as HTTP/1.1 again is sent chunks again`, async (t) => {
    const { peer, service, requests, origin, answered } = await afterOne(t, forwarder);
    service.version = "1.1";
    peer.send(`${HEAD}\r\n${CHUNKED}`);
    await answered(2);
    assertWhole(requests[1]!);
    peer.send(`${HEAD}\r\n${CHUNKED}`);
    await answered(3);
    assert.match(requests[2]!.head, /\r\ntransfer-encoding: chunked\r\n/i);
    assert.match(origin.received(), /and more\r\n0\r\n/);
  });
}
