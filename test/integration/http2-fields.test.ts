import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { ask, END_HEADERS, END_STREAM, FRAME, FramePeer, frame, hpack, http2Peer } from "../support/http2-peer.ts";
import { rawOrigin, testSidecar } from "../support/peers.ts";

test("cookies that came apart are one field again, and other repeated fields stay apart", async (t) => {
  const origin = await httpOrigin(t);
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const session = await http2Peer(t, sidecar.inbound);
  await ask(session, { ":path": "/", "x-a": ["1", "2"], cookie: ["a=1", "b=2; c=3", "d=4"], "x-b": "caf\xe9" });
  const [request] = origin.requests;
  assert.deepEqual(valuesOf(request!.fields, "cookie"), ["a=1; b=2; c=3; d=4"]);
  assert.deepEqual(valuesOf(request!.fields, "x-a"), ["1", "2"]);
  assert.deepEqual(valuesOf(request!.fields, "x-b"), ["caf\xe9"]);
  assert.ok(request!.fields.every((text) => !text.startsWith(":")));
});

test("Host is what :authority says; without it, what Host says", async (t) => {
  const origin = await httpOrigin(t);
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const session = await http2Peer(t, sidecar.inbound);
  for (const [headers, host] of [
    [{ ":authority": "a.example" }, "a.example"],
    [{ ":authority": "A.example:8080", host: "a.EXAMPLE:8080" }, "A.example:8080"],
    [{ host: "c.example" }, "c.example"],
    [{ ":authority": "[::1]:80" }, "[::1]:80"],
  ] as const) {
    assert.equal((await ask(session, { ":path": "/", ...headers })).status, 200);
    assert.deepEqual(valuesOf(origin.requests.at(-1)!.fields, "host"), [host]);
    assert.deepEqual(valuesOf(origin.requests.at(-1)!.fields, "x-forwarded-host"), [host]);
  }
});

test("the scheme that the upstream is told is that of the connection, whatever :scheme says", async (t) => {
  const origin = await httpOrigin(t);
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const session = await http2Peer(t, sidecar.inbound);
  assert.equal((await ask(session, { ":path": "/", ":scheme": "https" })).status, 200);
  assert.deepEqual(valuesOf(origin.requests[0]!.fields, "x-forwarded-proto"), ["http"]);
});

test("outbound, :authority says where a request goes", async (t) => {
  const origin = await httpOrigin(t);
  const [here, there] = [new URL(origin.url).host, "inventory.internal"];
  const routes = [{ host: there, upstream: origin.url }];
  const sidecar = await testSidecar(t, { config: { outbound: { routes } } });
  const session = await http2Peer(t, sidecar.outbound);
  for (const authority of [here, there]) {
    assert.equal((await ask(session, { ":path": "/", ":authority": authority })).status, 200);
    assert.deepEqual(valuesOf(origin.requests.at(-1)!.fields, "host"), [authority]);
  }
});

test("OPTIONS * stays what it is", async (t) => {
  const origin = await httpOrigin(t);
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const session = await http2Peer(t, sidecar.inbound);
  assert.equal((await ask(session, { ":method": "OPTIONS", ":path": "*" })).status, 200);
  assert.equal(origin.requests[0]!.target, "*");
});

test("a path and a query are passed on byte for byte", async (t) => {
  const origin = await httpOrigin(t);
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const session = await http2Peer(t, sidecar.inbound);
  const target = "/a/../b//c/%2e%2E/%c3%a9?x=1&y=%20;:@!$'()*+,#".replace("#", "");
  await ask(session, { ":path": target });
  assert.equal(origin.requests[0]!.target, target);
});

test("what belongs to the upstream's hop stays there, and the rest comes through", async (t) => {
  const origin = await rawOrigin(t, ({ socket }) => {
    socket.write(
      "HTTP/1.1 200 Fine\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n" +
        "Proxy-Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nUpgrade: x\r\nSet-Cookie: a=1\r\nX-Kept: caf\xe9\r\n" +
        "Set-Cookie: b=2\r\nETag: 1\r\nETag: 2\r\nDate: then\r\n\r\n2\r\nok\r\n0\r\n\r\n",
      "latin1",
    );
  });
  const sidecar = await testSidecar(t, { upstream: origin.url, plugins: [{ use: "keep-alive" }] });
  const session = await http2Peer(t, sidecar.inbound);
  const { fields, body } = await ask(session, { ":path": "/" });
  assert.equal(body, "ok");
  assert.deepEqual(valuesOf(fields, "via")[0]?.slice(0, 4), "1.1 ");
  const rest = fields.slice(0, fields.indexOf("via"));
  assert.deepEqual(
    rest,
    [
      [":status", "200"],
      ["set-cookie", "a=1"],
      ["x-kept", "caf\xe9"],
      ["set-cookie", "b=2"],
      ["etag", "1"],
      ["etag", "2"],
      ["date", "then"],
    ].flat(),
  );
});

/** Requests that node:http2 cannot be made to send. */
const GET: [string, string][] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":authority", "h"],
  [":path", "/"],
];
const POST: [string, string][] = [[":method", "POST"], ...GET.slice(1)];
const without = (name: string): [string, string][] => GET.filter(([other]) => other !== name);
const instead = (name: string, value: string): [string, string][] => [
  ...GET.map(([other, text]): [string, string] => [other, other === name ? value : text]),
];

const INVALID: readonly { name: string; fields: readonly [string, string][]; body?: string }[] = [
  { name: "Transfer-Encoding", fields: [...POST, ["transfer-encoding", "chunked"]], body: "0\r\n\r\n" },
  { name: "Connection", fields: [...GET, ["connection", "close"]] },
  { name: "Keep-Alive", fields: [...GET, ["keep-alive", "timeout=5"]] },
  { name: "Proxy-Connection", fields: [...GET, ["proxy-connection", "keep-alive"]] },
  { name: "Upgrade", fields: [...GET, ["upgrade", "websocket"]] },
  { name: "TE other than trailers", fields: [...GET, ["te", "gzip"]] },
  { name: "upper case in a name", fields: [...GET, ["X-Upper", "1"]] },
  { name: "CRLF in :path", fields: instead(":path", "/ HTTP/1.1\r\nHost: h\r\n\r\nGET /smuggled") },
  { name: "a space in :path", fields: instead(":path", "/a b") },
  { name: "a fragment in :path", fields: instead(":path", "/a#b") },
  { name: "no slash in :path", fields: instead(":path", "a") },
  { name: "an absolute :path", fields: instead(":path", "http://other/") },
  { name: "an empty :path", fields: instead(":path", "") },
  { name: "* with GET", fields: instead(":path", "*") },
  { name: "CRLF in :method", fields: instead(":method", "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET") },
  { name: "a space in :method", fields: instead(":method", "GET /smuggled") },
  { name: "CRLF in :authority", fields: instead(":authority", "h\r\nx-smuggled: 1") },
  { name: "user information in :authority", fields: instead(":authority", "user@h") },
  { name: "a path in :authority", fields: instead(":authority", "h/x") },
  { name: "another :scheme", fields: instead(":scheme", "ftp") },
  { name: "CRLF in :scheme", fields: instead(":scheme", "http\r\nx-smuggled: 1") },
  { name: ":authority and another Host", fields: [...GET, ["host", "other"]] },
  {
    name: "two Hosts",
    fields: [...without(":authority"), ["host", "h"], ["host", "h"]],
  },
  { name: "neither :authority nor Host", fields: without(":authority") },
  { name: "an empty :authority", fields: instead(":authority", "") },
  { name: "no :method", fields: without(":method") },
  { name: "no :path", fields: without(":path") },
  { name: "no :scheme", fields: without(":scheme") },
  { name: "two :path", fields: [...GET, [":path", "/b"]] },
  { name: "an unknown pseudo-header field", fields: [[":smuggled", "1"], ...GET] },
  { name: ":protocol", fields: [[":protocol", "websocket"], ...instead(":method", "CONNECT")] },
  { name: "a pseudo-header field after others", fields: [...without(":path"), ["x-a", "1"], [":path", "/"]] },
  { name: ":status", fields: [...GET, [":status", "200"]] },
  { name: "two Content-Lengths", fields: [...POST, ["content-length", "5"], ["content-length", "5"]], body: "hello" },
  {
    name: "differing Content-Lengths",
    fields: [...POST, ["content-length", "5"], ["content-length", "6"]],
    body: "hello",
  },
  { name: "a list as Content-Length", fields: [...POST, ["content-length", "5, 5"]], body: "hello" },
  { name: "a Content-Length with a sign", fields: [...POST, ["content-length", "+5"]], body: "hello" },
  { name: "a Content-Length above the body", fields: [...POST, ["content-length", "50"]], body: "hello" },
  {
    name: "a Content-Length below the body",
    fields: [...POST, ["content-length", "1"]],
    body: "xGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
  },
  { name: "a Content-Length and no body", fields: [...POST, ["content-length", "5"]] },
  { name: "an unknown expectation", fields: [...GET, ["expect", "miracles"]] },
];

/** node:http2 drops these field lines before anybody sees them. */
const DROPPED: readonly { name: string; fields: readonly [string, string][] }[] = [
  { name: "a space in a name", fields: [...GET, ["x y", "1"]] },
  { name: "a colon in a name", fields: [...GET, ["x:y", "1"]] },
  { name: "CRLF in a name", fields: [...GET, ["x\r\ny", "1"]] },
  { name: "an empty name", fields: [...GET, ["", "1"]] },
  { name: "CRLF in a value", fields: [...GET, ["x-a", "1\r\nx-smuggled: 1"]] },
  { name: "LF in a value", fields: [...GET, ["x-a", "1\nx-smuggled: 1"]] },
  { name: "CR in a value", fields: [...GET, ["x-a", "1\rx-smuggled: 1"]] },
  { name: "NUL in a value", fields: [...GET, ["x-a", "1\x002"]] },
  { name: "white space around a value", fields: [...GET, ["x-a", " 1"]] },
  { name: "CRLF in a cookie", fields: [...GET, ["cookie", "a=1\r\nx-smuggled: 1"]] },
];

test("a field line that is not valid is dropped, and never becomes another", async (t) => {
  const origin = await httpOrigin(t);
  const sidecar = await testSidecar(t, { upstream: origin.url });
  for (const { name, fields } of DROPPED) {
    await t.test(name, { timeout: 5000 }, async (t) => {
      const peer = await FramePeer.connect(t, sidecar.inbound);
      peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, 1, hpack([...fields, ["x-after", "1"]])));
      await peer.until(({ stream, flags, type }) => stream === 1 && type === FRAME.data && (flags & END_STREAM) !== 0);
      const { target, fields: seen } = origin.requests.at(-1)!;
      assert.equal(target, "/");
      const names = seen.filter((_, at) => at % 2 === 0).map((text) => text.toLowerCase());
      const ours = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "connection"];
      assert.deepEqual(names, ["host", "x-after", ...ours]);
    });
  }
  assert.equal(origin.requests.length, DROPPED.length);
});

test("what HTTP/1.1 would read as something else never gets there", async (t) => {
  const origin = await httpOrigin(t);
  const sidecar = await testSidecar(t, { upstream: origin.url });
  for (const { name, fields, body } of INVALID) {
    await t.test(name, { timeout: 5000 }, async (t) => {
      const before = origin.requests.length;
      const peer = await FramePeer.connect(t, sidecar.inbound);
      peer.send(
        frame(FRAME.headers, END_HEADERS | (body === undefined ? END_STREAM : 0), 1, hpack(fields)),
        ...(body === undefined ? [] : [frame(FRAME.data, END_STREAM, 1, body)]),
      );
      const ended = await peer.until(
        ({ type, flags, stream }) =>
          type === FRAME.goaway || (stream === 1 && (type === FRAME.reset || (flags & END_STREAM) !== 0)),
      );
      if (ended.type === FRAME.data) {
        const text = ended.payload.toString("latin1") + peer.peer.received;
        assert.match(text, /4\d\d HF_[A-Z_]+\n/);
      }
      const seen = origin.requests.slice(before);
      await origin.until(() => seen.every(({ socket, complete }) => complete || socket.destroyed));
      assert.ok(
        seen.every(({ complete }) => !complete),
        "nothing whole may get there",
      );
      for (const request of origin.requests) {
        assert.ok(!request.target.includes("smuggled"));
        assert.ok(!request.fields.some((text) => text.toLowerCase() === "x-smuggled"));
      }
    });
  }
  // The sidecar is well.
  const session = await http2Peer(t, sidecar.inbound);
  assert.equal((await ask(session, { ":path": "/" })).status, 200);
});
