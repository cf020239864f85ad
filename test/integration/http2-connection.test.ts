import assert from "node:assert/strict";
import { once } from "node:events";
import http2, { type ClientHttp2Session } from "node:http2";
import test, { type TestContext } from "node:test";
import type { TestPlugin, TestSidecar } from "../../src/testing.ts";
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
import { FORWARDERS, testSidecar } from "../support/peers.ts";

const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM, NGHTTP2_ENHANCE_YOUR_CALM } = http2.constants;
const GET: [string, string][] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":authority", "h"],
  [":path", "/"],
];

interface Setting {
  readonly watch: Observer;
  readonly running: TestSidecar;
  readonly session: ClientHttp2Session;
}

async function setting(
  t: TestContext,
  upstream: string,
  options: { plugins?: readonly TestPlugin[]; config?: Record<string, unknown> } = {},
): Promise<Setting> {
  const watch = observer();
  const plugins = [{ plugin: watch.plugin }, ...(options.plugins ?? [])];
  const running = await testSidecar(t, { upstream, plugins, config: options.config ?? {} });
  return { watch, running, session: await http2Peer(t, running.inbound) };
}

/** Resolves with the code of the GOAWAY that the session gets. */
async function goneAway(session: ClientHttp2Session): Promise<number> {
  const [code] = (await once(session, "goaway")) as [number];
  return code;
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a drain says GOAWAY, finishes the streams and closes`, async (t) => {
    let release = (): void => {};
    const origin = await httpOrigin(t, (request, response) => {
      if (request.url === "/slow") release = () => response.end("slow");
      else response.end("ok");
    });
    const config = { forwarder, drain: { deadline: "5s", idleGrace: "0s" } };
    const { watch, running, session } = await setting(t, origin.url, { config });
    const slow = ask(session, { ":path": "/slow" });
    await origin.until(() => origin.requests.length === 1);
    const idle = await http2Peer(t, running.inbound);
    await ask(idle, { ":path": "/" });
    const drained = running.sidecar.drain();
    assert.equal(await goneAway(idle), NGHTTP2_NO_ERROR);
    // The first answer since then says it to the other.
    const gone = goneAway(session);
    const last = ask(session, { ":path": "/last" });
    assert.equal((await last).body, "ok");
    assert.equal(await gone, NGHTTP2_NO_ERROR);
    release();
    const answer = await slow;
    assert.equal(answer.status, 200);
    assert.equal(answer.body, "slow");
    assert.deepEqual(await drained, { cut: 0 });
    for (const { connection, reason } of watch.closed) {
      if (connection.side === "downstream") assert.equal(reason, "drain");
    }
  });
}

test("the drain's deadline cuts what is left", async (t) => {
  const origin = await httpOrigin(t, () => {});
  const config = { drain: { deadline: "100ms", idleGrace: "0s" } };
  const { watch, running, session } = await setting(t, origin.url, { config });
  const answers = ["/a", "/b"].map((path) => ask(session, { ":path": path }));
  await origin.until(() => origin.requests.length === 2);
  assert.deepEqual(await running.sidecar.drain(), { cut: 2 });
  for (const { status } of await Promise.all(answers)) assert.equal(status, 0);
  assert.equal(watch.ended.length, 2);
});

test("an idle connection closes by the idle limit, one in use does not", async (t) => {
  let release = (): void => {};
  const origin = await httpOrigin(t, (request, response) => {
    if (request.url === "/slow") release = () => response.end("slow");
    else response.end("ok");
  });
  const plugins = [{ use: "idle-timeout", config: { downstream: "200ms" } }];
  const { watch, running, session } = await setting(t, origin.url, { plugins });
  const busy = await http2Peer(t, running.inbound);
  const slow = ask(busy, { ":path": "/slow" });
  await ask(session, { ":path": "/" });
  assert.equal(await goneAway(session), NGHTTP2_NO_ERROR);
  const { connection, reason } = await watch.closedOn("downstream");
  assert.equal(reason, "idle_timeout");
  assert.equal(connection.protocol, "h2");
  release();
  assert.equal((await slow).body, "slow");
});

test("pings keep a connection no longer than its idle limit", async (t) => {
  const origin = await httpOrigin(t);
  const plugins = [{ use: "idle-timeout", config: { downstream: "300ms" } }];
  const { watch, session } = await setting(t, origin.url, { plugins });
  await ask(session, { ":path": "/" });
  const pinging = setInterval(() => session.destroyed || session.ping(() => {}), 20);
  t.after(() => clearInterval(pinging));
  assert.equal((await watch.closedOn("downstream")).reason, "idle_timeout");
});

test("after as many requests as a connection may carry it says GOAWAY, and all of them are answered", async (t) => {
  const held: (() => void)[] = [];
  const origin = await httpOrigin(t, (_request, response) => {
    held.push(() => response.end("ok"));
    if (held.length === 3) for (const answer of held) answer();
  });
  const plugins = [{ use: "keep-alive", config: { downstream: { maxRequests: 3 } } }];
  const { watch, session } = await setting(t, origin.url, { plugins });
  const gone = goneAway(session);
  const answers = await Promise.all(["/1", "/2", "/3"].map((path) => ask(session, { ":path": path })));
  for (const { body } of answers) assert.equal(body, "ok");
  assert.equal(await gone, NGHTTP2_NO_ERROR);
  const { connection, reason } = await watch.closedOn("downstream");
  assert.equal(reason, "max_requests");
  assert.equal(connection.exchanges, 3);
});

test("a logout closes the connection after what it carries", async (t) => {
  const origin = await httpOrigin(t);
  const plugins = [{ use: "connection-close-on-logout", config: { match: [{ method: "POST", path: "/logout" }] } }];
  const { watch, session } = await setting(t, origin.url, { plugins });
  const gone = goneAway(session);
  assert.equal((await ask(session, { ":method": "POST", ":path": "/logout" }, "")).status, 200);
  assert.equal(await gone, NGHTTP2_NO_ERROR);
  assert.equal((await watch.closedOn("downstream")).reason, "logout");
});

test("a peer that says GOAWAY gets the answers it waits for", async (t) => {
  let release = (): void => {};
  const origin = await httpOrigin(t, (_request, response) => {
    release = () => response.end("ok");
  });
  const { watch, session } = await setting(t, origin.url);
  const answer = ask(session, { ":path": "/" });
  await origin.until(() => origin.requests.length === 1);
  session.close();
  while (watch.opened[0]!.state !== "draining") await new Promise((resolve) => setImmediate(resolve));
  release();
  assert.equal((await answer).body, "ok");
  assert.equal((await watch.closedOn("downstream")).reason, "peer_closed");
});

test("a peer that ends its side ends the connection", async (t) => {
  const origin = await httpOrigin(t, () => {});
  const { watch, running } = await setting(t, origin.url);
  for (const count of [1, 2]) {
    const peer = await FramePeer.connect(t, running.inbound);
    if (count === 2) peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, 1, hpack(GET)));
    if (count === 2) await origin.until(() => origin.requests.length === 1);
    else await peer.until(({ type, flags }) => type === FRAME.settings && flags === 1);
    peer.peer.socket.end();
    await peer.peer.untilEnd();
    const { connection } = await watch.closedOn("downstream", count);
    assert.equal(connection.protocol, "h2");
  }
  assert.equal((await watch.end()).outcome.error?.code, "HF_DOWNSTREAM_ABORTED");
  await origin.until(() => origin.requests[0]!.socket.destroyed);
});

test("a peer that goes on after our GOAWAY, or never closes, is cut", async (t) => {
  const origin = await httpOrigin(t);
  const plugins = [{ use: "keep-alive", config: { downstream: { maxRequests: 1 } } }];
  const { watch, running } = await setting(t, origin.url, { plugins });
  const peer = await FramePeer.connect(t, running.inbound);
  peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, 1, hpack(GET)));
  await peer.until(({ type }) => type === FRAME.goaway);
  peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, 3, hpack(GET)));
  await watch.closedOn("downstream");
  assert.equal(origin.requests.length, 1);
});

test("more requests at one time than limits.streams are refused, and can be repeated", async (t) => {
  const held: (() => void)[] = [];
  const origin = await httpOrigin(t, (_request, response) => held.push(() => response.end("ok")));
  const { running } = await setting(t, origin.url, { config: { limits: { streams: 3 } } });
  const peer = await FramePeer.connect(t, running.inbound);
  const settings = await peer.until(({ type, flags }) => type === FRAME.settings && flags === 0);
  // SETTINGS_MAX_CONCURRENT_STREAMS is 3.
  assert.ok(settings.payload.includes(Buffer.from([0, 3, 0, 0, 0, 3])));
  // Once it has acknowledged that, one more would be an error of the whole connection.
  for (const stream of [1, 3, 5, 7]) peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, stream, hpack(GET)));
  assert.equal(await peer.reset(7), NGHTTP2_REFUSED_STREAM);
  await origin.until(() => origin.requests.length === 3);
  for (const answer of held) answer();
  for (const wanted of [1, 3, 5]) {
    await peer.until(({ stream, type, flags }) => stream === wanted && type === FRAME.data && (flags & 1) === 1);
  }
  peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, 9, hpack(GET)));
  await origin.until(() => origin.requests.length === 4);
});

test("a head that is too large gets 431 or 414 on its stream, one far above the limit is not read at all", async (t) => {
  const origin = await httpOrigin(t);
  const config = { limits: { head: "4KiB", fields: 50, target: "1KiB" } };
  const { running, session } = await setting(t, origin.url, { config });
  assert.equal((await ask(session, { ":path": "/", "x-a": "a".repeat(5000) })).status, 431);
  const many = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`x-${index}`, "1"]));
  assert.equal((await ask(session, { ":path": "/", ...many })).status, 431);
  assert.equal((await ask(session, { ":path": `/${"a".repeat(1100)}` })).status, 414);
  const peer = await FramePeer.connect(t, running.inbound);
  const huge = ["x-a", "x-b", "x-c"].map((name): [string, string] => [name, "a".repeat(4000)]);
  // It knows our limit, and what it sends now is held to it.
  peer.send(frame(FRAME.settings, 1, 0));
  peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, 1, hpack([...GET, ...huge])));
  assert.equal(await peer.reset(1), NGHTTP2_ENHANCE_YOUR_CALM);
  assert.equal((await ask(session, { ":path": "/" })).status, 200);
  assert.equal(origin.requests.length, 1);
});

test("a response head as large as an upstream may send is passed on", async (t) => {
  const origin = await httpOrigin(t, (_request, response) => {
    for (let index = 0; index < 60; index++) response.setHeader(`x-${index}`, "a".repeat(1000));
    response.end("ok");
  });
  const watch = observer();
  const { inbound } = await testSidecar(t, { upstream: origin.url, plugins: [{ plugin: watch.plugin }] });
  const session = await http2Peer(t, inbound, { settings: { maxHeaderListSize: 1_000_000 } });
  const { status, fields } = await ask(session, { ":path": "/" });
  assert.equal(status, 200);
  assert.ok(fields.includes("x-59"));
});

test("CONNECT over HTTP/2 gets 405", async (t) => {
  const origin = await httpOrigin(t);
  const { inbound, outbound } = await testSidecar(t, { upstream: origin.url, outbound: true });
  for (const url of [inbound, outbound]) {
    const session = await http2Peer(t, url);
    const stream = begin(session, { ":method": "CONNECT", ":authority": new URL(origin.url).host }, false);
    const { status, body } = await responseOf(stream);
    assert.equal(status, 405);
    assert.match(body, /HF_METHOD_NOT_ALLOWED/);
    session.close();
  }
  assert.equal(origin.sockets.length, 0);
});

test("a peer that resets streams as fast as it opens them is thrown out", async (t) => {
  const origin = await httpOrigin(t);
  const { watch, running } = await setting(t, origin.url);
  const peer = await FramePeer.connect(t, running.inbound);
  let stream = 1;
  for (let round = 0; round < 20 && !peer.peer.ended; round++) {
    for (let index = 0; index < 50; index++, stream += 2) {
      peer.send(
        frame(FRAME.headers, END_HEADERS | END_STREAM, stream, hpack(GET)),
        frame(FRAME.reset, 0, stream, uint32(NGHTTP2_CANCEL)),
      );
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { payload } = await peer.until(({ type }) => type === FRAME.goaway);
  assert.notEqual(payload.readUInt32BE(4), NGHTTP2_NO_ERROR);
  await peer.peer.untilEnd();
  const { reason } = await watch.closedOn("downstream");
  assert.equal(reason, "protocol_error");
});

test("a peer that makes us reset its streams as fast as it opens them is thrown out too", async (t) => {
  const origin = await httpOrigin(t);
  const { watch, running } = await setting(t, origin.url);
  const peer = await FramePeer.connect(t, running.inbound);
  // CVE-2025-8671: a window that overflows is an error of its stream, so the reset is ours.
  const provoke = (stream: number): void =>
    peer.send(
      frame(FRAME.headers, END_HEADERS, stream, hpack(GET)),
      frame(FRAME.window, 0, stream, uint32(0x7fffffff)),
    );
  provoke(1);
  assert.equal(await peer.reset(1), http2.constants.NGHTTP2_FLOW_CONTROL_ERROR);
  let stream = 3;
  for (let round = 0; round < 100 && !peer.peer.ended; round++) {
    for (let index = 0; index < 50; index++, stream += 2) provoke(stream);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await peer.peer.untilEnd();
  const { type } = peer.frames.at(-1)!;
  assert.equal(type, FRAME.goaway);
  await watch.closedOn("downstream");
});

test("floods of settings and pings, and frames that are wrong, end the connection and nothing else", async (t) => {
  const origin = await httpOrigin(t);
  const { watch, running, session } = await setting(t, origin.url);
  const floods: readonly (readonly [string, string])[] = [
    ["settings", frame(FRAME.settings, 0, 0, `\x00\x03${uint32(100)}`).repeat(50_000)],
    ["pings", frame(FRAME.ping, 0, 0, "12345678").repeat(50_000)],
    ["a frame that is too long", frame(FRAME.data, 0, 1, "x".repeat(16_385))],
    ["data on a stream that is not open", frame(FRAME.data, 0, 1, "x")],
    ["a header block that is not HPACK", frame(FRAME.headers, END_HEADERS, 1, "\xff\xff\xff\xff\xff")],
    [
      "a head in too many frames",
      frame(FRAME.headers, 0, 1, hpack(GET)) + frame(FRAME.continuation, 0, 1, hpack([["x-a", "1"]])).repeat(9),
    ],
    ["a window that overflows", frame(FRAME.window, 0, 0, uint32(0x7fffffff))],
  ];
  let closed = 0;
  for (const [name, bytes] of floods) {
    const peer = await FramePeer.connect(t, running.inbound);
    peer.peer.socket.pause();
    peer.send(bytes);
    setImmediate(() => peer.peer.socket.resume());
    if (name === "pings") {
      // Answered as long as somebody reads the answers.
      peer.peer.socket.resume();
      await peer.until(({ type }) => type === FRAME.ping || type === FRAME.goaway);
      peer.peer.socket.destroy();
    } else {
      await peer.peer.untilEnd();
    }
    await watch.closedOn("downstream", ++closed);
  }
  assert.equal((await ask(session, { ":path": "/" })).status, 200);
});
