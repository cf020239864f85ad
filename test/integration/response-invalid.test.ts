import assert from "node:assert/strict";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const BODY = "\r\n\r\nhello";

/** Responses of which no byte may go downstream (RFC 9112 §2.2, §5, §6.3, §7.1). */
const INVALID = {
  "Content-Length and Transfer-Encoding": `HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  "Transfer-Encoding and Content-Length": `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
  "differing Content-Lengths": `HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6${BODY}`,
  "differing Content-Lengths in one line": `HTTP/1.1 200 OK\r\nContent-Length: 5, 6${BODY}`,
  "a Content-Length with a sign": `HTTP/1.1 200 OK\r\nContent-Length: +5${BODY}`,
  "a Content-Length that is no number": `HTTP/1.1 200 OK\r\nContent-Length: five${BODY}`,
  "an empty Content-Length": `HTTP/1.1 200 OK\r\nContent-Length: ${BODY}`,
  "a coding that is not chunked": `HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked${BODY}`,
  "chunked that is not last": `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip${BODY}`,
  "a comma behind chunked": `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n`,
  "an empty Transfer-Encoding": `HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\nContent-Length: 5${BODY}`,
  "chunked twice": `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  "chunked in HTTP/1.0": `HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  "a status of two digits": `HTTP/1.1 20 OK\r\nContent-Length: 5${BODY}`,
  "a status of four digits": `HTTP/1.1 2000 OK\r\nContent-Length: 5${BODY}`,
  "a status with a letter": `HTTP/1.1 2x0 OK\r\nContent-Length: 5${BODY}`,
  "status 000": `HTTP/1.1 000 Nothing\r\nContent-Length: 5${BODY}`,
  "another protocol": `ICY 200 OK\r\nContent-Length: 5${BODY}`,
  "the name in lower case": `http/1.1 200 OK\r\nContent-Length: 5${BODY}`,
  "HTTP/2.0": `HTTP/2.0 200 OK\r\nContent-Length: 5${BODY}`,
  "HTTP/0.9": `HTTP/0.9 200 OK\r\nContent-Length: 5${BODY}`,
  "two spaces before the status": `HTTP/1.1  200 OK\r\nContent-Length: 5${BODY}`,
  "no status line": `hello, I am a printer\r\n\r\n`,
  "bare LF after the status line": `HTTP/1.1 200 OK\nContent-Length: 5${BODY}`,
  "bare LF after a field": `HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 5${BODY}`,
  "bare LF at the end of the head": `HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello`,
  "bare CR in a value": `HTTP/1.1 200 OK\r\nX-A: 1\rX-B: 2\r\nContent-Length: 5${BODY}`,
  "NUL in a value": `HTTP/1.1 200 OK\r\nX-A: 1\0\r\nContent-Length: 5${BODY}`,
  "a control character in a value": `HTTP/1.1 200 OK\r\nX-A: 1\x01\r\nContent-Length: 5${BODY}`,
  "a space before the colon": `HTTP/1.1 200 OK\r\nContent-Length : 5${BODY}`,
  "a tab before the colon": `HTTP/1.1 200 OK\r\nX-A\t: 5\r\nContent-Length: 5${BODY}`,
  "an empty field name": `HTTP/1.1 200 OK\r\n: 5\r\nContent-Length: 5${BODY}`,
  "a field without a colon": `HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 5${BODY}`,
  "a folded field": `HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 5${BODY}`,
  "white space before the first field": `HTTP/1.1 200 OK\r\n X-A: 1\r\nContent-Length: 5${BODY}`,
  "a head larger than limits.head": `HTTP/1.1 200 OK\r\nX-A: ${"a".repeat(9000)}\r\nContent-Length: 5${BODY}`,
  "101 that nobody asked for": `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello`,
} as const;

/** Chunked bodies that are wrong from the first chunk on. */
const BAD_CHUNKS = {
  "a chunk size that is no number": "x\r\nhello\r\n0\r\n\r\n",
  "a chunk size with a sign": "+5\r\nhello\r\n0\r\n\r\n",
  "a chunk size with 0x": "0x5\r\nhello\r\n0\r\n\r\n",
  "a chunk size beyond counting": "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
  "chunk data without CRLF": "5\r\nhelloX\r\n0\r\n\r\n",
} as const;

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

for (const forwarder of FORWARDERS) {
  for (const [what, bytes] of Object.entries(INVALID)) {
    test(`${forwarder}: ${what} in a response: 502, and that connection is not used again`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) =>
        socket.write(origin.connections.length === 1 ? bytes : OK, "latin1"),
      );
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder, limits: { head: "8KiB", target: "8KiB" } },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
      const first = await peer.until((text) => /\r\n\r\n502 HF_\w+\n$/.test(text));
      assert.match(first, /^HTTP\/1\.1 502 Bad Gateway\r\n/);
      assert.match(first, /\r\nConnection: keep-alive\r\n/);
      const code = what.startsWith("a head larger") ? "HF_UPSTREAM_HEAD_TOO_LARGE" : "HF_UPSTREAM_BAD_RESPONSE";
      const type = what.startsWith("a head larger") ? "http_response_header_section_size" : "http_protocol_error";
      assert.match(first, new RegExp(`\\r\\nProxy-Status: holdfast-test; error=${type}; details="${code}"\\r\\n`));
      assert.doesNotMatch(first, /hello|X-A/);

      const { outcome } = await watch.end();
      assert.equal(outcome.status, 502);
      assert.equal(outcome.error?.code, code);
      assert.equal(outcome.answeredBy, "holdfast");
      const { reason } = await watch.closedOn("upstream");
      assert.equal(reason, "protocol_error");

      peer.send("GET /again HTTP/1.1\r\nHost: h\r\n\r\n");
      await peer.until((text) => text.endsWith("\r\n\r\nok"));
      assert.equal(origin.connections.length, 2);
    });
  }

  for (const [what, bytes] of Object.entries(BAD_CHUNKS)) {
    test(`${forwarder}: ${what}: 502, or a response that breaks off where its head was sent already`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) =>
        socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${bytes}`),
      );
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
      const response = await peer.untilEnd();
      const { outcome } = await watch.end();
      assert.equal(outcome.error?.code, "HF_UPSTREAM_BAD_RESPONSE");
      if (outcome.status === 502) assert.match(response, /\r\n\r\n502 HF_UPSTREAM_BAD_RESPONSE\n$/);
      else assert.doesNotMatch(response, /\r\n0\r\n/);
      const { reason } = await watch.closedOn("upstream");
      assert.equal(reason, "protocol_error");
    });
  }

  test(`${forwarder}: a bad chunk after good ones aborts the downstream connection`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
      void peer.until((text) => text.includes("hello")).then(() => socket.write("zz\r\nworld\r\n0\r\n\r\n"));
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    const response = await peer.untilEnd();
    assert.doesNotMatch(response, /world|\r\n0\r\n/);
    const { outcome } = await watch.end();
    assert.equal(outcome.error?.code, "HF_UPSTREAM_BAD_RESPONSE");
    const { reason } = await watch.closedOn("upstream");
    assert.equal(reason, "protocol_error");
  });
}
