import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/** Status lines with what may follow the status; RFC 9112 §4 wants the space even before an empty reason. */
const STATUS_LINES = {
  "a reason": ["HTTP/1.1 200 All Is Well", "HTTP/1.1 200 All Is Well"],
  "an empty reason": ["HTTP/1.1 200 ", "HTTP/1.1 200 "],
  "no space after the status": ["HTTP/1.1 200", "HTTP/1.1 200 "],
  "obs-text in the reason": ["HTTP/1.1 200 Tr\xe8s bien", "HTTP/1.1 200 Tr\xe8s bien"],
  "a status nobody registered": ["HTTP/1.1 299 Odd", "HTTP/1.1 299 Odd"],
  "a status above 599": ["HTTP/1.1 799 Odder", "HTTP/1.1 799 Odder"],
} as const;

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: repeated fields stay separate, in order, byte for byte, in their case`, async (t) => {
    const fields = [
      "Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
      "X-One: 1",
      "SET-COOKIE: b=2; Path=/",
      'WWW-Authenticate: Basic realm="x"',
      "Www-Authenticate: Bearer",
      "x-one: 2",
      "set-cookie: c=\xfc\xff",
      "X-Empty: ",
      "Vary: Accept",
      "vary: Accept-Encoding",
    ];
    const origin = await rawOrigin(t, ({ socket }) =>
      socket.write(`HTTP/1.1 200 OK\r\n${fields.join("\r\n")}\r\nContent-Length: 2\r\n\r\nok`, "latin1"),
    );
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    const lines = (await peer.until((text) => text.endsWith("\r\n\r\nok"))).split("\r\n");
    const names = new Set(fields.map((line) => line.split(":")[0]!.toLowerCase()));
    const received = lines.filter((line) => names.has(line.split(":")[0]!.toLowerCase()));
    assert.deepEqual(
      received.map((line) => line.trimEnd()),
      fields.map((line) => line.trimEnd()),
    );
  });

  test(`${forwarder}: fields of one hop stay on it`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) =>
      socket.write(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=7\r\n" +
          "Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTE: trailers\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok",
      ),
    );
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    const text = await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.doesNotMatch(text, /x-hop|timeout=7|proxy-connection|upgrade|\r\nte:/i);
    assert.match(text, /\r\nX-End: 1\r\n/);
    assert.equal(text.match(/\r\nConnection:/gi)?.length, 1);
    assert.match(text, /\r\nConnection: keep-alive\r\n/);
  });

  for (const [what, [sent, expected]] of Object.entries(STATUS_LINES)) {
    test(`${forwarder}: a status line with ${what}`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) =>
        socket.write(`${sent}\r\nX-Text: caf\xe9 \x80\xff\tx\r\nContent-Length: 2\r\n\r\nok`, "latin1"),
      );
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(GET);
      const text = await peer.until((text) => text.endsWith("\r\n\r\nok"));
      assert.equal(text.slice(0, text.indexOf("\r\n")), expected);
      assert.match(text, /\r\nX-Text: caf\xe9 \x80\xff\tx\r\n/);
    });
  }

  test(`${forwarder}: 3,000 field lines in a response within limits.head are not cut`, async (t) => {
    const lines = Array.from({ length: 3000 }, (_, index) => `X-${index}: ${index}\r\n`).join("");
    const origin = await rawOrigin(t, ({ socket }) =>
      socket.write(`HTTP/1.1 200 OK\r\n${lines}Content-Length: 2\r\n\r\nok`),
    );
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      config: { forwarder, limits: { head: "64KiB", fields: 5000 } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    const text = await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.ok(text.includes(lines));
  });

  test(`${forwarder}: trailers follow a chunked body, but for those that must not`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) =>
      socket.write(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie\r\n\r\n" +
          "2\r\nok\r\n0\r\nX-Sum: 7\r\nVia: 1.1 x\r\nSet-Cookie: a=1\r\n\r\n",
      ),
    );
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    for (let round = 1; round <= 2; round++) {
      peer.received = "";
      peer.send(GET);
      const text = await peer.until((text) => text.endsWith("\r\n\r\n") && text.includes("\r\n0\r\n"));
      assert.match(text, /\r\nTrailer: X-Sum\r\n/i);
      assert.match(text, /2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n$/i);
    }
    assert.equal(origin.connections.length, 1);
  });
}
