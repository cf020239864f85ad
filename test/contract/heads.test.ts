/** The heads that plugins see and edit: the same contract with every forwarder, and what they write reaches the wire. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Exchange, HeaderList, RequestHead, ResponseHead } from "../../src/plugin/api.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";
import { Tape } from "./tape.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/** Fields of one hop: not in a list. */
const HOP_BY_HOP = ["Connection", "keep-alive", "Proxy-Connection", "Transfer-Encoding", "TE", "TRAILER", "upgrade"];
/** Fields that Holdfast alone writes. */
const OWNED = [...HOP_BY_HOP, "CONTENT-LENGTH", "Via"];

/** Lines of a head without its start line, its empty line and the fields that Holdfast writes on each hop. */
function ownLines(head: string): string[] {
  const written = /^(?:connection|keep-alive|content-length|transfer-encoding|via|x-forwarded-\w+|date):/i;
  return head
    .slice(0, head.indexOf("\r\n\r\n"))
    .split("\r\n")
    .slice(1)
    .filter((line) => !written.test(line));
}

/** Sends one request through a sidecar with plugin `edit`; returns both heads as they were on the wire. */
async function exchangeThrough(
  t: test.TestContext,
  forwarder: (typeof FORWARDERS)[number],
  deeds: {
    request?: (head: RequestHead) => void;
    upstreamConnected?: (exchange: Exchange) => void;
    response?: (head: ResponseHead) => void;
  },
  { request = "GET /path?q=1 HTTP/1.1\r\nHost: a.example\r\n\r\n", response = OK } = {},
): Promise<{ request: string; response: string; log: readonly Record<string, unknown>[] }> {
  const origin = await rawOrigin(t, ({ socket }) => void socket.write(response, "latin1"));
  const failed: unknown[] = [];
  const guarded = (deed: () => void) => {
    try {
      deed();
    } catch (error) {
      // The sidecar contains what a hook throws; a failed assertion must not stay there.
      if (error instanceof assert.AssertionError) failed.push(error);
      throw error;
    }
  };
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    config: { forwarder },
    plugins: [
      {
        plugin: {
          name: "edit",
          apiVersion: 1,
          description: "Edits heads",
          config: {},
          setup: () => ({
            exchange: (exchange) => ({
              request: (head) => guarded(() => deeds.request?.(head)),
              upstreamConnected: () => guarded(() => deeds.upstreamConnected?.(exchange)),
              response: (head) => guarded(() => deeds.response?.(head)),
            }),
          }),
        },
      },
    ],
  });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  peer.send(request);
  const received = await peer.until((text) => /\r\n\r\n(?:ok|.*\n)$/.test(text));
  for (const error of failed) throw error;
  return { request: origin.received(), response: received, log: sidecar.log };
}

/** The contract of a list that came as `X-One: 1`, `x-two: a`, `X-TWO: b` among others. */
function assertHeaderList(headers: HeaderList): void {
  const before = [...headers];
  assert.equal(headers.size, before.length);
  assert.equal(headers.get("x-one"), "1");
  assert.equal(headers.get("X-Two"), "a", "the first of several");
  assert.deepEqual(headers.getAll("x-TWO"), ["a", "b"]);
  assert.deepEqual(headers.getAll("x-none"), []);
  assert.equal(headers.get("x-none"), undefined);
  assert.equal(headers.has("X-ONE"), true);
  assert.equal(headers.has("x-none"), false);
  assert.deepEqual(
    before.filter(([name]) => /^x-(?:one|two)$/i.test(name)),
    [
      ["X-One", "1"],
      ["x-two", "a"],
      ["X-TWO", "b"],
    ],
    "order, case and duplicates kept",
  );
  for (const name of HOP_BY_HOP) assert.equal(headers.has(name), false, `${name} is not in the list`);
  for (const name of OWNED) {
    assert.throws(() => headers.set(name, "x"), TypeError, `set ${name}`);
    assert.throws(() => headers.append(name, "x"), TypeError, `append ${name}`);
    assert.throws(() => headers.delete(name), TypeError, `delete ${name}`);
  }
  for (const name of ["", "a b", "a:", "a\r\nb", "ä", "(a)"]) {
    assert.throws(() => headers.set(name, "x"), TypeError, `name ${JSON.stringify(name)}`);
    assert.throws(() => headers.append(name, "x"), TypeError, `name ${JSON.stringify(name)}`);
  }
  // U+010D U+010A would be CR LF, once cut to bytes.
  for (const value of ["a\r\nb: c", "a\nb", "a\0b", "a\x7f", "\u010d\u010ab: c", "😀"]) {
    assert.throws(() => headers.set("X-One", value), TypeError, `value ${JSON.stringify(value)}`);
    assert.throws(() => headers.append("X-One", value), TypeError, `value ${JSON.stringify(value)}`);
  }
  assert.deepEqual([...headers], before, "what was refused changed nothing");

  headers.set("X-TWO", "c");
  assert.deepEqual(headers.getAll("x-two"), ["c"]);
  headers.append("x-ONE", "caf\xe9\t!");
  assert.deepEqual(headers.getAll("x-one"), ["1", "caf\xe9\t!"]);
  headers.set("X-New", "");
  assert.equal(headers.get("x-new"), "");
  assert.equal(headers.delete("x-gone"), true);
  assert.equal(headers.delete("x-gone"), false);
  assert.equal(headers.size, before.length - 1);
}

const LINES = "X-One: 1\r\nx-two: a\r\nX-Gone: 1\r\nX-TWO: b\r\nX-Gone: 2\r\n";
const EDITED = ["X-One: 1", "x-two: c", "x-ONE: caf\xe9\t!", "X-New: "];

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: the header list of a request`, async (t) => {
    let checked = false;
    const { request } = await exchangeThrough(
      t,
      forwarder,
      {
        request({ headers }) {
          assertHeaderList(headers);
          assert.throws(() => headers.set("Host", "b"), /assign/, "Host is sent from the authority");
          checked = true;
        },
      },
      { request: `GET / HTTP/1.1\r\nHost: a\r\n${LINES}Connection: keep-alive\r\nTE: trailers\r\n\r\n` },
    );
    assert.ok(checked);
    assert.deepEqual(
      ownLines(request).filter((line) => line !== "TE: trailers"),
      ["Host: a", ...EDITED],
    );
  });

  test(`${forwarder}: the header list of a response`, async (t) => {
    let checked = false;
    const { response } = await exchangeThrough(
      t,
      forwarder,
      {
        response({ headers }) {
          assertHeaderList(headers);
          assert.equal(headers.get("content-length"), "2");
          assert.equal(headers.get("via"), "1.1 x");
          checked = true;
        },
      },
      { response: `HTTP/1.1 200 OK\r\n${LINES}Keep-Alive: timeout=9\r\nVia: 1.1 x\r\nContent-Length: 2\r\n\r\nok` },
    );
    assert.ok(checked);
    assert.deepEqual(ownLines(response), EDITED);
  });

  test(`${forwarder}: target, authority and fields set in request reach the wire`, async (t) => {
    const { request } = await exchangeThrough(t, forwarder, {
      request(head) {
        assert.equal(head.target, "/path?q=1");
        assert.equal(head.authority, "a.example");
        head.target = "/other?q=%C3%A9&r=[]";
        head.authority = "b.example:8080";
        head.headers.set("Authorization", "Bearer x");
      },
    });
    assert.match(request, /^GET \/other\?q=%C3%A9&r=\[\] HTTP\/1\.1\r\n/);
    assert.deepEqual(ownLines(request), ["Host: b.example:8080", "Authorization: Bearer x"]);
  });

  test(`${forwarder}: target, authority and fields set in upstreamConnected reach the wire`, async (t) => {
    const { request } = await exchangeThrough(t, forwarder, {
      upstreamConnected(exchange) {
        exchange.request.target = "/late";
        exchange.request.authority = "[::1]:80";
        exchange.request.headers.append("X-Connection", String(exchange.upstream!.exchanges));
      },
    });
    assert.match(request, /^GET \/late HTTP\/1\.1\r\n/);
    assert.deepEqual(ownLines(request), ["Host: [::1]:80", "X-Connection: 1"]);
  });

  test(`${forwarder}: fields that Holdfast adds to stay what a plugin makes of them`, async (t) => {
    const { request, response } = await exchangeThrough(t, forwarder, {
      request: ({ headers }) => headers.set("X-Forwarded-For", "192.0.2.1"),
      response: ({ headers }) => headers.set("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    });
    assert.deepEqual(request.match(/^X-Forwarded-For: .*$/gim), ["X-Forwarded-For: 192.0.2.1, 127.0.0.1"]);
    assert.deepEqual(response.match(/^Date: .*$/gim), ["Date: Thu, 01 Jan 1970 00:00:00 GMT"]);
  });

  test(`${forwarder}: a target or authority that is not one is refused`, async (t) => {
    const { request, log } = await exchangeThrough(t, forwarder, {
      request(head) {
        for (const target of ["", "x", "*", "/a b", "/a#b", "/a\r\nX: 1", "/\u010d\u010a", "http://b/"]) {
          assert.throws(() => (head.target = target), TypeError, JSON.stringify(target));
        }
        for (const authority of ["", "a b", "a/b", "user@a", "a:99999", "a\r\nX: 1", "[::1", "a:b"]) {
          assert.throws(() => (head.authority = authority), TypeError, JSON.stringify(authority));
        }
        head.target = "/left out\r\n";
      },
    });
    assert.match(request, /^GET \/path\?q=1 HTTP\/1\.1\r\n/);
    assert.ok(log.some((line) => line["plugin"] === "edit" && line["hook"] === "request"));
  });

  test(`${forwarder}: an OPTIONS request may be given the target *`, async (t) => {
    const { request } = await exchangeThrough(
      t,
      forwarder,
      {
        request(head) {
          head.target = "*";
        },
      },
      { request: "OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n" },
    );
    assert.match(request, /^OPTIONS \* HTTP\/1\.1\r\n/);
  });

  test(`${forwarder}: fields that Connection names are gone before a plugin looks`, async (t) => {
    const { request } = await exchangeThrough(
      t,
      forwarder,
      {
        request({ headers }) {
          assert.equal(headers.has("X-Hop"), false);
          headers.set("X-Hop", "mine");
        },
      },
      { request: "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\nX-Hop: theirs\r\n\r\n" },
    );
    assert.deepEqual(ownLines(request), ["Host: a", "X-Hop: mine"]);
  });

  test(`${forwarder}: a reply with fields and a body, text or bytes, and one without`, async (t) => {
    const replies = [
      {
        status: 403,
        headers: [
          ["X-A", "1"],
          ["x-a", "2"],
          ["Content-Type", "text/plain"],
        ] as const,
        body: "né\n",
      },
      { status: 200, headers: [], body: new Uint8Array([0, 255, 10]) },
      { status: 204 },
    ];
    let at = 0;
    const tape = new Tape();
    const sidecar = await testSidecar(t, {
      upstream: "http://127.0.0.1:9",
      config: { forwarder },
      plugins: [{ plugin: tape.plugin("a", { request: () => replies[at++]! }) }],
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const next = async (ending: string): Promise<string> => {
      const from = peer.received.length;
      peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      return (await peer.until((text) => text.slice(from).endsWith(ending))).slice(from);
    };
    const first = await next("n\xc3\xa9\n");
    assert.match(first, /^HTTP\/1\.1 403 Forbidden\r\nX-A: 1\r\nx-a: 2\r\nContent-Type: text\/plain\r\n/);
    assert.match(first, /\r\nContent-Length: 4\r\n/);
    const second = await next("\0\xff\n");
    assert.match(second, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(second, /\r\nContent-Length: 3\r\n/);
    const third = await next("\r\n\r\n");
    assert.match(third, /^HTTP\/1\.1 204 No Content\r\n/);
    assert.doesNotMatch(third, /content-length|transfer-encoding/i);
  });

  test(`${forwarder}: the body of a reply is not sent in answer to HEAD`, async (t) => {
    const tape = new Tape();
    const sidecar = await testSidecar(t, {
      upstream: "http://127.0.0.1:9",
      config: { forwarder },
      plugins: [{ plugin: tape.plugin("a", { request: () => ({ status: 200, body: "four" }) }) }],
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const received = await peer.untilEnd();
    assert.equal(received.match(/\r\nContent-Length: 4\r\n/g)?.length, 2);
    assert.doesNotMatch(received, /four/);
  });

  test(`${forwarder}: a reply that cannot be sent is a failure of the plugin`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => void socket.write(OK));
    const wrong: unknown[] = [
      42,
      null,
      {},
      { status: 99 },
      { status: 600 },
      { status: 200.5 },
      { status: 101 },
      { status: 200, headers: [["a b", "c"]] },
      { status: 200, headers: [["a", "b\r\nc: d"]] },
      { status: 200, headers: [["a", "\u010a"]] },
      { status: 200, headers: [["Content-Length", "9"]] },
      { status: 200, headers: [["transfer-encoding", "chunked"]] },
      { status: 200, headers: "a: b" },
      { status: 200, body: 42 },
    ];
    let at = 0;
    const tape = new Tape();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      config: { forwarder },
      plugins: [{ plugin: tape.plugin("a", { request: () => wrong[at++] as never }) }],
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    for (const reply of wrong) {
      const from = peer.received.length;
      peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      const received = await peer.until((text) => text.slice(from).endsWith("\r\n\r\nok"));
      assert.match(received.slice(from), /^HTTP\/1\.1 200 OK\r\n/, JSON.stringify(reply));
    }
    assert.equal(
      sidecar.log.filter((line) => line["plugin"] === "a" && line["hook"] === "request").length,
      wrong.length,
    );
  });
}
