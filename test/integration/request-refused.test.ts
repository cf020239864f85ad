/**
 * Requests that are not valid: refused, the connection closed, and nothing of them at the upstream. One table for
 * every forwarder; each row is tried as the first request of a connection, at once and byte by byte, after a good one,
 * and right behind a good one in the same segment.
 */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { TestSidecar } from "../../src/testing.ts";
import { FORWARDERS, type RawOrigin, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

interface Refusal {
  readonly name: string;
  /** Latin-1. */
  readonly bytes: string;
  /** Statuses that are right. */
  readonly statuses: readonly number[];
}

const HOST = "Host: a.example\r\n";

/** A request without a body in which one thing is wrong. */
function get(name: string, line: string, fields: string = HOST, statuses: readonly number[] = [400]): Refusal {
  return { name, bytes: `${line}\r\n${fields}\r\n`, statuses };
}

/** A field that must not be there. */
function field(name: string, line: string): Refusal {
  return get(name, "GET / HTTP/1.1", `${HOST}${line}\r\n`);
}

/** A request whose framing is wrong, with what a lenient reader would take for its body. */
function framed(name: string, fields: string, statuses: readonly number[] = [400], body = "0\r\n\r\n"): Refusal {
  return { name, bytes: `POST / HTTP/1.1\r\n${HOST}${fields}\r\n\r\n${body}`, statuses };
}

const REFUSALS: readonly Refusal[] = [
  // Content-Length and Transfer-Encoding
  framed("Content-Length, then Transfer-Encoding", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
  framed("Transfer-Encoding, then Content-Length", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
  framed("Content-Length 0 and Transfer-Encoding", "Content-Length: 0\r\nTransfer-Encoding: chunked"),
  framed("Transfer-Encoding: xchunked", "Transfer-Encoding: xchunked", [400, 501]),
  framed("Transfer-Encoding: identity", "Transfer-Encoding: identity", [400, 501]),
  framed("Transfer-Encoding: gzip", "Transfer-Encoding: gzip", [400, 501]),
  framed("Transfer-Encoding: gzip, chunked", "Transfer-Encoding: gzip, chunked", [400, 501]),
  framed("Transfer-Encoding over two lines", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", [400, 501]),
  framed("chunked not last", "Transfer-Encoding: chunked, gzip"),
  framed("chunked not last, over two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
  framed("chunked twice", "Transfer-Encoding: chunked, chunked"),
  framed("chunked twice, over two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
  framed("chunked with a parameter", "Transfer-Encoding: chunked;q=1", [400, 501]),
  framed("chunked in quotes", 'Transfer-Encoding: "chunked"', [400, 501]),
  framed("empty Transfer-Encoding", "Transfer-Encoding:"),
  framed("a comma before chunked", "Transfer-Encoding: ,chunked"),
  framed("a comma behind chunked", "Transfer-Encoding: chunked,"),
  framed("empty Transfer-Encoding before chunked", "Transfer-Encoding:\r\nTransfer-Encoding: chunked"),
  framed("empty Transfer-Encoding behind chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: "),
  framed("VT before chunked", "Transfer-Encoding: \x0bchunked"),
  framed("VT after chunked", "Transfer-Encoding: chunked\x0b"),
  framed("FF before chunked", "Transfer-Encoding:\x0cchunked"),
  framed("FF after chunked", "Transfer-Encoding: chunked\x0c"),
  framed("U+00A0 before chunked", "Transfer-Encoding: \xa0chunked", [400, 501]),
  framed("U+00A0 after chunked", "Transfer-Encoding: chunked\xa0", [400, 501]),
  framed("U+00A0 before Content-Length", "Content-Length: \xa05", [400], "hello"),
  framed("DEL in Transfer-Encoding", "Transfer-Encoding: chunked\x7f"),
  framed("folded Transfer-Encoding", "Transfer-Encoding:\r\n chunked"),
  framed("space before the colon of Transfer-Encoding", "Transfer-Encoding : chunked"),
  {
    name: "Transfer-Encoding on HTTP/1.0",
    bytes: `POST / HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    statuses: [400],
  },
  framed("differing Content-Length lines", "Content-Length: 5\r\nContent-Length: 6", [400], "hello"),
  framed("equal Content-Length lines", "Content-Length: 5\r\nContent-Length: 5", [400], "hello"),
  framed("Content-Length: 5, 5", "Content-Length: 5, 5", [400], "hello"),
  framed("Content-Length: 5, 6", "Content-Length: 5, 6", [400], "hello"),
  framed("Content-Length: +5", "Content-Length: +5", [400], "hello"),
  framed("Content-Length: -5", "Content-Length: -5", [400], "hello"),
  framed("Content-Length: 0x5", "Content-Length: 0x5", [400], "hello"),
  framed("Content-Length: 5.0", "Content-Length: 5.0", [400], "hello"),
  framed("Content-Length: 5e0", "Content-Length: 5e0", [400], "hello"),
  framed("empty Content-Length", "Content-Length:", [400], ""),
  framed("empty, then whole Content-Length", "Content-Length:\r\nContent-Length: 5", [400], "hello"),
  framed("Content-Length: 5 5", "Content-Length: 5 5", [400], "hello"),
  framed("Content-Length with VT", "Content-Length: 5\x0b", [400], "hello"),
  framed("folded Content-Length", "Content-Length:\r\n 5", [400], "hello"),
  framed("space before the colon of Content-Length", "Content-Length : 5", [400], "hello"),
  framed("Content-Length 2^53", "Content-Length: 9007199254740992", [413], ""),
  framed("Content-Length 2^64", "Content-Length: 18446744073709551616", [413], ""),
  framed("Content-Length 2^64 + 5", "Content-Length: 18446744073709551621", [413], "hello"),

  // Field lines
  field("space before the colon", "X-A : 1"),
  field("tab before the colon", "X-A\t: 1"),
  field("empty field name", ": 1"),
  field("field line without a colon", "X-A"),
  field("parenthesis in a field name", "X(A): 1"),
  field("space in a field name", "X A: 1"),
  field("obs-text in a field name", "X-\xe9: 1"),
  field("NUL in a field name", "X\0A: 1"),
  field("obs-fold with a space", "X-A: 1\r\n 2"),
  field("obs-fold with a tab", "X-A: 1\r\n\t2"),
  field("bare LF in a value", "X-A: 1\n2"),
  field("bare LF between fields", "X-A: 1\nX-B: 2"),
  field("bare LF that hides a field", "X-A: 1\nContent-Length: 5"),
  field("bare CR in a value", "X-A: 1\r2"),
  field("bare CR between fields", "X-A: 1\rX-B: 2"),
  field("CR CR LF", "X-A: 1\r"),
  field("NUL in a value", "X-A: 1\x002"),
  field("VT in a value", "X-A: 1\x0b2"),
  field("ESC in a value", "X-A: \x1b[0m"),
  field("DEL in a value", "X-A: 1\x7f"),
  { name: "bare LF at the end of the head", bytes: `GET / HTTP/1.1\r\n${HOST}\n`, statuses: [400] },
  { name: "bare LF after the last field", bytes: "GET / HTTP/1.1\r\nHost: a.example\n\r\n", statuses: [400] },
  { name: "bare LF everywhere", bytes: "GET / HTTP/1.1\nHost: a.example\n\n", statuses: [400] },
  get("space before the first field", "GET / HTTP/1.1", ` X-A: 1\r\n${HOST}`),
  get("tab before the first field", "GET / HTTP/1.1", `\tX-A: 1\r\n${HOST}`),
  get("space before Host as the first field", "GET / HTTP/1.1", " Host: a.example\r\n"),

  // Host
  get("no Host", "GET / HTTP/1.1", "X-A: 1\r\n"),
  get("no field at all", "GET / HTTP/1.1", ""),
  get("two Host fields", "GET / HTTP/1.1", `${HOST}Host: b.example\r\n`),
  get("two equal Host fields", "GET / HTTP/1.1", `${HOST}${HOST}`),
  get("two Host fields on HTTP/1.0", "GET / HTTP/1.0", `${HOST}Host: b.example\r\n`),
  get("Host with a path", "GET / HTTP/1.1", "Host: a.example/b\r\n"),
  get("Host with a scheme", "GET / HTTP/1.1", "Host: http://a.example\r\n"),
  get("Host with user information", "GET / HTTP/1.1", "Host: u@a.example\r\n"),
  get("Host with a space", "GET / HTTP/1.1", "Host: a.example b.example\r\n"),
  get("Host as a list", "GET / HTTP/1.1", "Host: a.example, b.example\r\n"),
  get("Host with a port out of range", "GET / HTTP/1.1", "Host: a.example:65536\r\n"),
  get("Host with a port of letters", "GET / HTTP/1.1", "Host: a.example:http\r\n"),
  get("Host with an open bracket", "GET / HTTP/1.1", "Host: [::1\r\n"),
  get("Host with a fragment", "GET / HTTP/1.1", "Host: a.example#b\r\n"),
  get("Host with a quote", "GET / HTTP/1.1", 'Host: a".example\r\n'),
  get("Host with obs-text", "GET / HTTP/1.1", "Host: \xe9.example\r\n"),
  get("Host with a bad escape", "GET / HTTP/1.1", "Host: a%zz.example\r\n"),
  get("two Host fields behind an absolute form", "GET http://a.example/ HTTP/1.1", `${HOST}Host: b.example\r\n`),
  get("absolute form without Host", "GET http://a.example/ HTTP/1.1", "X-A: 1\r\n"),
  get("absolute form with an invalid Host", "GET http://a.example/ HTTP/1.1", "Host: a b\r\n"),

  // Request line
  get("HTTP/0.9 without a version", "GET /", HOST, [400, 505]),
  { name: "HTTP/0.9 without fields", bytes: "GET /\r\n\r\n", statuses: [400, 505] },
  get("HTTP/0.9 by name", "GET / HTTP/0.9", HOST, [400, 505]),
  get("HTTP/1.2", "GET / HTTP/1.2", HOST, [400, 505]),
  get("HTTP/2.0", "GET / HTTP/2.0", HOST, [400, 505]),
  get("HTTP/3.0", "GET / HTTP/3.0", HOST, [400, 505]),
  get("HTTP/1.10", "GET / HTTP/1.10", HOST, [400, 505]),
  get("HTTP/1.", "GET / HTTP/1.", HOST, [400, 505]),
  get("HTTP/1", "GET / HTTP/1", HOST, [400, 505]),
  get("HTTP/01.1", "GET / HTTP/01.1", HOST, [400, 505]),
  get("HTTP/1,1", "GET / HTTP/1,1", HOST, [400, 505]),
  get("HTTP 1.1", "GET / HTTP 1.1", HOST, [400, 505]),
  get("http/1.1", "GET / http/1.1", HOST, [400, 505]),
  get("RTSP/1.0", "OPTIONS / RTSP/1.0", HOST, [400, 505]),
  get("ICE/1.0", "SOURCE / ICE/1.0", HOST, [400, 505]),
  { name: "HTTP/2 preface", bytes: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", statuses: [400, 505] },
  get("two spaces before the target", "GET  / HTTP/1.1"),
  get("two spaces before the version", "GET /  HTTP/1.1"),
  get("space after the version", "GET / HTTP/1.1 ", HOST, [400, 505]),
  get("space before the method", " GET / HTTP/1.1"),
  get("tabs in the request line", "GET\t/\tHTTP/1.1"),
  get("FF in the request line", "GET /\x0cHTTP/1.1"),
  get("method that is not a token", "G(T / HTTP/1.1"),
  get("method with obs-text", "G\xc9T / HTTP/1.1"),
  get("no method", "/ HTTP/1.1"),
  { name: "bare LF before the request line", bytes: `\n\nGET / HTTP/1.1\r\n${HOST}\r\n`, statuses: [400] },
  { name: "bare CR before the request line", bytes: `\r\rGET / HTTP/1.1\r\n${HOST}\r\n`, statuses: [400] },
  { name: "bare CR after the request line", bytes: `GET / HTTP/1.1\r${HOST}\r\n`, statuses: [400, 505] },
  { name: "a TLS handshake", bytes: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh\r\n\r\n", statuses: [400] },
  { name: "NUL", bytes: "\0\0\0\0\r\n\r\n", statuses: [400] },

  // Request target
  get("space in the target", "GET /a b HTTP/1.1", HOST, [400, 505]),
  get("tab in the target", "GET /a\tb HTTP/1.1"),
  get("NUL in the target", "GET /a\0b HTTP/1.1"),
  get("control character in the target", "GET /a\x01b HTTP/1.1"),
  get("DEL in the target", "GET /a\x7fb HTTP/1.1"),
  get("bare CR in the target", "GET /a\rb HTTP/1.1", HOST, [400, 505]),
  get("a byte beyond ASCII in the target", "GET /caf\xe9 HTTP/1.1"),
  get("fragment", "GET /a#b HTTP/1.1"),
  get("fragment in an absolute form", "GET http://a.example/#b HTTP/1.1"),
  get("target without a slash", "GET a HTTP/1.1"),
  get("empty target", "GET  HTTP/1.1", HOST, [400, 505]),
  get("GET *", "GET * HTTP/1.1"),
  get("POST *", "POST * HTTP/1.1"),
  get("OPTIONS **", "OPTIONS ** HTTP/1.1"),
  get("GET host:port", "GET a.example:80 HTTP/1.1"),
  get("absolute form without a host", "GET http:///a HTTP/1.1"),
  get("absolute form with user information", "GET http://u@a.example/ HTTP/1.1"),
  get("absolute form of another scheme", "GET ftp://a.example/ HTTP/1.1"),
  get("absolute form with a bad port", "GET http://a.example:99999/ HTTP/1.1"),
  get("CONNECT with a path", "CONNECT /a HTTP/1.1"),
  get("CONNECT without a port", "CONNECT a.example HTTP/1.1"),
  get("CONNECT with a URI", "CONNECT http://a.example:80/ HTTP/1.1"),
  get("CONNECT with port 0", "CONNECT a.example:0 HTTP/1.1"),
];

const GOOD = `GET /good HTTP/1.1\r\n${HOST}\r\n`;

/** Where a row stands on its connection, and how it is sent. */
const MODES = ["alone", "byte by byte", "after a good one", "behind a good one"] as const;
type Mode = (typeof MODES)[number];

const followsGood = (mode: Mode): boolean => mode === "after a good one" || mode === "behind a good one";

async function assertRefused(t: TestContext, sidecar: TestSidecar, mode: Mode, row: Refusal): Promise<void> {
  const peer = await RawPeer.connect(t, sidecar.inbound);
  if (mode === "after a good one") {
    peer.send(GOOD);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
  }
  if (mode === "byte by byte") {
    peer.socket.setNoDelay(true);
    for (let at = 0; at < row.bytes.length && !peer.ended; at++) {
      peer.send(row.bytes[at]!);
      await turn();
    }
  } else peer.send(mode === "behind a good one" ? GOOD + row.bytes : row.bytes);
  let answer = await peer.untilEnd();
  if (followsGood(mode)) {
    assert.match(answer, /^HTTP\/1\.1 200 /);
    answer = answer.slice(answer.indexOf("\r\n\r\nok") + 6);
  }
  const [head = ""] = answer.split("\r\n\r\n");
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]);
  assert.ok(row.statuses.includes(status), `${row.name}, ${mode}: ${JSON.stringify(answer)}`);
  assert.match(head, /\r\nConnection: close(\r\n|$)/i);
  assert.match(head, /\r\nProxy-Status: holdfast-test; error=http_request_error; details="HF_[A-Z_]+"/);
  assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, "one answer");
}

function requestsAt(origin: RawOrigin): string[] {
  return origin
    .received()
    .split("\r\n\r\n")
    .filter((head) => head !== "");
}

for (const forwarder of FORWARDERS) {
  for (const mode of MODES) {
    test(`${forwarder}: invalid requests are refused, ${mode}`, { timeout: 60_000 }, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      });
      // Where HTTP/2 is taken, its preface is no mistake.
      const config = { forwarder, inbound: { http2: false } };
      const sidecar = await testSidecar(t, { upstream: origin.url, config });
      for (const row of REFUSALS) {
        await t.test(row.name, { timeout: 5000 }, async (row_t) => {
          const seen = requestsAt(origin).length;
          await assertRefused(row_t, sidecar, mode, row);
          const heads = requestsAt(origin).slice(seen);
          assert.equal(heads.length, followsGood(mode) ? 1 : 0);
          for (const head of heads) assert.match(head, /^GET \/good HTTP\/1\.1\r\n/);
        });
      }
      // Whatever was still on its way is there before this one.
      const last = await RawPeer.connect(t, sidecar.inbound);
      last.send(GOOD);
      await last.until((text) => text.endsWith("\r\n\r\nok"));
      assert.equal(requestsAt(origin).length, followsGood(mode) ? REFUSALS.length + 1 : 1);
    });
  }
}
