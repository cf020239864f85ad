import assert from "node:assert/strict";
import { once } from "node:events";
import http2, { type ClientHttp2Session } from "node:http2";
import test, { type TestContext } from "node:test";
import { definePlugin } from "../../src/plugin/api.ts";
import type { TestPlugin } from "../../src/testing.ts";
import { httpOrigin } from "../support/http-origin.ts";
import {
  ask,
  begin,
  END_HEADERS,
  END_STREAM,
  FRAME,
  FramePeer,
  frame,
  hpack,
  http2Peer,
  responseOf,
  uint32,
} from "../support/http2-peer.ts";
import { type Observer, observer } from "../support/observer.ts";
import { rawOrigin, testSidecar } from "../support/peers.ts";

const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR } = http2.constants;
const POST: [string, string][] = [
  [":method", "POST"],
  [":scheme", "http"],
  [":authority", "h"],
  [":path", "/"],
];

async function setting(
  t: TestContext,
  upstream: string,
  options: { plugins?: readonly TestPlugin[]; config?: Record<string, unknown> } = {},
): Promise<{ watch: Observer; inbound: string; session: ClientHttp2Session }> {
  const watch = observer();
  const plugins = [{ plugin: watch.plugin }, ...(options.plugins ?? [])];
  const { inbound } = await testSidecar(t, { upstream, plugins, config: options.config ?? {} });
  return { watch, inbound, session: await http2Peer(t, inbound) };
}

test("a stream that is reset stops its upstream request; the others go on", async (t) => {
  let release = (): void => {};
  const origin = await httpOrigin(t, (request, response) => {
    if (request.url === "/kept") release = () => response.end("kept");
  });
  const { watch, session } = await setting(t, origin.url);
  const kept = ask(session, { ":path": "/kept" });
  const stream = begin(session, { ":path": "/reset" }, true);
  await origin.until(() => origin.requests.length === 2);
  stream.close(NGHTTP2_CANCEL);
  const reset = origin.requests.find(({ target }) => target === "/reset")!;
  await origin.until(() => reset.socket.destroyed);
  const { exchange, outcome } = await watch.end();
  assert.equal(exchange.request.target, "/reset");
  assert.equal(outcome.error?.code, "HF_DOWNSTREAM_ABORTED");
  assert.equal(outcome.status, undefined);
  release();
  assert.equal((await kept).body, "kept");
  assert.equal(session.destroyed, false);
  assert.equal(exchange.downstream.closeReason, undefined);
});

for (const code of [NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR]) {
  test(`an upload that is reset with code ${code} never looks like a whole one`, async (t) => {
    const origin = await httpOrigin(t);
    const { watch, inbound } = await setting(t, origin.url);
    const peer = await FramePeer.connect(t, inbound);
    peer.send(frame(FRAME.headers, END_HEADERS, 1, hpack(POST)), frame(FRAME.data, 0, 1, "hello"));
    await origin.until(() => origin.requests[0]?.body === "hello");
    peer.send(frame(FRAME.reset, 0, 1, uint32(code)));
    const [request] = origin.requests;
    await origin.until(() => request!.socket.destroyed);
    assert.equal(request!.complete, false);
    assert.equal((await watch.end()).outcome.error?.code, "HF_DOWNSTREAM_ABORTED");
  });
}

test("a connection that breaks ends all its exchanges", async (t) => {
  const origin = await httpOrigin(t, () => {});
  const { watch, inbound } = await setting(t, origin.url);
  const peer = await FramePeer.connect(t, inbound);
  for (const stream of [1, 3, 5]) {
    peer.send(frame(FRAME.headers, END_HEADERS, stream, hpack(POST)), frame(FRAME.data, 0, stream, "hello"));
  }
  await origin.until(() => origin.requests.filter(({ body }) => body === "hello").length === 3);
  peer.peer.socket.resetAndDestroy();
  await origin.until(() => origin.requests.every(({ socket }) => socket.destroyed));
  await watch.end(3);
  assert.ok(watch.ended.every(({ outcome }) => outcome.error?.code === "HF_DOWNSTREAM_ABORTED"));
  assert.equal((await watch.closedOn("downstream")).reason, "peer_reset");
});

test("a response that is cut upstream is a stream that is reset; the others go on", async (t) => {
  const origin = await rawOrigin(t, ({ socket }, head) => {
    if (head.startsWith("GET /cut")) {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
      socket.end();
    } else {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
  });
  const { watch, session } = await setting(t, origin.url);
  const cut = await ask(session, { ":path": "/cut" });
  assert.equal(cut.status, 200);
  assert.equal(cut.body, "half");
  assert.equal(cut.rstCode, NGHTTP2_INTERNAL_ERROR);
  assert.equal((await watch.end()).outcome.error?.code, "HF_UPSTREAM_INCOMPLETE");
  assert.equal((await ask(session, { ":path": "/" })).body, "ok");
});

for (const framing of ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]) {
  test(`a response that is cut is not ended with END_STREAM: ${framing.split("\r\n")[0]}`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write(`HTTP/1.1 200 OK\r\n${framing}`);
      socket.end();
    });
    const { inbound } = await setting(t, origin.url);
    const peer = await FramePeer.connect(t, inbound);
    peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, 1, hpack(POST)));
    assert.equal(await peer.reset(1), NGHTTP2_INTERNAL_ERROR);
    const frames = peer.frames.filter(({ stream }) => stream === 1);
    assert.deepEqual(
      frames.map(({ type }) => type),
      [FRAME.headers, FRAME.data, FRAME.reset],
    );
    assert.ok(frames.every(({ type, flags }) => type === FRAME.reset || (flags & END_STREAM) === 0));
  });
}

test("what is no HTTP/1.1 response is a 502, and statuses that HTTP/2 does not have too", async (t) => {
  const origin = await rawOrigin(t, ({ socket }, head) => {
    socket.write(head.includes("/junk") ? "junk\r\n\r\n" : "HTTP/1.1 600 Any\r\nContent-Length: 0\r\n\r\n");
  });
  const { session } = await setting(t, origin.url);
  for (const path of ["/junk", "/600"]) {
    const answer = await ask(session, { ":path": path });
    assert.equal(answer.status, 502);
    assert.match(answer.body, /HF_UPSTREAM_BAD_RESPONSE/);
  }
});

for (const framing of ["Content-Length: 1000000", "Transfer-Encoding: chunked"]) {
  test(`an early response (${framing}) is whole, and asks the peer to stop sending`, async (t) => {
    const size = 1_000_000;
    const origin = await rawOrigin(t, ({ socket }) => {
      const body = "x".repeat(size);
      const chunked = framing.startsWith("T");
      socket.write(
        `HTTP/1.1 200 OK\r\n${framing}\r\n\r\n${chunked ? `${size.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body}`,
      );
    });
    const { watch, session } = await setting(t, origin.url);
    const stream = begin(session, { ":method": "POST", ":path": "/" }, false);
    const response = responseOf(stream);
    stream.write("the beginning");
    const { status, body, rstCode } = await response;
    assert.equal(status, 200);
    assert.equal(body.length, size);
    assert.equal(rstCode, NGHTTP2_NO_ERROR);
    assert.equal((await watch.end()).outcome.error, undefined);
    assert.equal((await watch.closedOn("upstream")).reason, "aborted");
    assert.equal(session.destroyed, false);
    assert.equal((await ask(session, { ":path": "/again" })).body.length, size);
  });
}

test("a plugin's reply to an upload needs none of it", async (t) => {
  const origin = await httpOrigin(t);
  const plugin = definePlugin({
    name: "gate",
    apiVersion: 1,
    description: "Lets nothing pass",
    config: {},
    setup: () => ({ exchange: () => ({ request: () => ({ status: 403, body: "no" }) }) }),
  });
  const { session } = await setting(t, origin.url, { plugins: [{ plugin }] });
  const stream = begin(session, { ":method": "POST", ":path": "/" }, false);
  const response = responseOf(stream);
  stream.write("the beginning");
  const { status, body, rstCode } = await response;
  assert.deepEqual({ status, body, rstCode }, { status: 403, body: "no", rstCode: NGHTTP2_NO_ERROR });
  assert.equal(origin.requests.length, 0);
  assert.equal((await ask(session, { ":path": "/" })).status, 403);
});

test("an upload that is too slow gets 408 on its stream", async (t) => {
  const origin = await httpOrigin(t);
  const limits = { use: "connection-limits", config: { headTimeout: "100ms", requestTimeout: "150ms" } };
  const { watch, session } = await setting(t, origin.url, { plugins: [limits] });
  const stream = begin(session, { ":method": "POST", ":path": "/" }, false);
  const response = responseOf(stream);
  stream.write("the beginning");
  assert.equal((await response).status, 408);
  assert.equal((await watch.end()).outcome.error?.code, "HF_REQUEST_TIMEOUT");
  assert.equal((await ask(session, { ":path": "/" })).status, 200);
});

test("an upstream that is silent gets its stream 504; a peer that takes nothing has its stream reset", async (t) => {
  const origin = await httpOrigin(t, (request, response) => {
    if (request.url === "/large") response.end(Buffer.alloc(4_000_000));
  });
  const config = { inbound: { responseTimeout: "300ms", connectTimeout: "100ms" } };
  const { watch, inbound, session } = await setting(t, origin.url, { config });
  assert.equal((await ask(session, { ":path": "/silent" })).status, 504);
  const peer = await FramePeer.connect(t, inbound);
  const get = POST.map(([name, value]): [string, string] => [name, name === ":method" ? "GET" : value]);
  const large = get.map(([name, value]): [string, string] => [name, name === ":path" ? "/large" : value]);
  // It opens no window beyond the first 64 KiB.
  peer.send(frame(FRAME.headers, END_HEADERS | 1, 1, hpack(large)));
  assert.equal(await peer.reset(1), NGHTTP2_INTERNAL_ERROR);
  const { outcome } = await watch.end(2);
  assert.equal(outcome.error?.code, "HF_DOWNSTREAM_ABORTED");
  assert.match(outcome.error!.message, /took nothing of the response/);
});

test("a peer that reads slowly slows the upstream, and an upstream that reads slowly slows the peer", async (t) => {
  const size = 50_000_000;
  const origin = await rawOrigin(t, ({ socket }, head) => {
    if (head.startsWith("GET")) {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`);
      socket.write(Buffer.alloc(size));
    } else {
      socket.pause();
    }
  });
  const { watch, session } = await setting(t, origin.url);
  const download = begin(session, { ":path": "/" }, true);
  await once(download, "response");
  const upload = begin(session, { ":method": "POST", ":path": "/" }, false);
  upload.write(Buffer.alloc(size));
  const upstream = () => watch.opened.filter(({ side }) => side === "upstream");
  await watch.until(() => upstream().length === 2);
  let before = -1;
  const moved = (): number =>
    upstream().reduce((sum, { bytesRead, bytesWritten }) => sum + bytesRead + bytesWritten, 0);
  for (let now = moved(); now !== before || now === 0; now = moved()) {
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.ok(before < 20_000_000, `${before} bytes moved although nobody reads`);
});

test("a stream that is reset before its upstream is connected leaves nothing behind", async (t) => {
  const origin = await httpOrigin(t);
  const { watch, inbound } = await setting(t, origin.url);
  const peer = await FramePeer.connect(t, inbound);
  const streams = Array.from({ length: 50 }, (_, index) => index * 2 + 1);
  for (const stream of streams) {
    peer.send(
      frame(FRAME.headers, END_HEADERS | 1, stream, hpack(POST)),
      frame(FRAME.reset, 0, stream, uint32(NGHTTP2_CANCEL)),
    );
  }
  peer.send(frame(FRAME.headers, END_HEADERS | 1, 101, hpack(POST)));
  await peer.until(({ stream, type, flags }) => stream === 101 && type === FRAME.data && (flags & 1) === 1);
  const connection = watch.opened.find(({ side }) => side === "downstream")!;
  await watch.until(() => connection.activeExchanges === 0);
  assert.equal(connection.state, "idle");
});
