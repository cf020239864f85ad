/** `end` runs exactly once, with the truth about what happened, however an exchange ends and with every forwarder. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Outcome, Plugin } from "../../src/plugin/api.ts";
import type { TestSidecar } from "../../src/testing.ts";
import {
  FORWARDERS,
  type OriginConnection,
  type RawOrigin,
  RawPeer,
  rawOrigin,
  testSidecar,
} from "../support/peers.ts";
import { type Deeds, Tape } from "./tape.ts";
import { unusedPort } from "./unused-port.ts";

const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UPGRADE = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\n";

/** What a way to end works with. */
interface Scene {
  readonly t: TestContext;
  readonly tape: Tape;
  readonly origin: RawOrigin;
  readonly sidecar: TestSidecar;
  /** A new connection to the side under test. */
  connect(): Promise<RawPeer>;
}

/** One way for an exchange to end. */
interface Way {
  readonly name: string;
  /** What the origin does with each request. Default: a response. */
  readonly answer?: (connection: OriginConnection, index: number) => void;
  readonly deeds?: Deeds;
  readonly requestTimeout?: string;
  readonly plugins?: readonly { readonly use: string; readonly config: object }[];
  readonly outbound?: "pass" | "deny";
  readonly act: (scene: Scene) => Promise<unknown>;
  /** Of every exchange, in the order in which they began. */
  readonly ends: readonly Partial<Pick<Outcome, "status" | "answeredBy" | "stale"> & { readonly code: string }>[];
}

const answered = (text: string) => text.includes("\r\n\r\n");
const ended = (count: number) => (text: string) => text.split("HTTP/1.1 ").length > count && /ok$|\n$/.test(text);
const never = new Promise<undefined>(() => {});

const WAYS: readonly Way[] = [
  {
    name: "a response",
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET);
      await peer.until(ended(1));
    },
    ends: [{ status: 200, answeredBy: "upstream" }],
  },
  {
    name: "a response to HEAD, one without a body, and pipelined ones",
    answer: ({ socket }, index) =>
      void socket.write(index === 1 ? "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" : "HTTP/1.1 204 Empty\r\n\r\n"),
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET.replace("GET", "HEAD") + GET + GET);
      await peer.until((text) => text.split("HTTP/1.1 204").length === 3 && text.endsWith("\r\n\r\n"));
    },
    ends: [
      { status: 200, answeredBy: "upstream" },
      { status: 204, answeredBy: "upstream" },
      { status: 204, answeredBy: "upstream" },
    ],
  },
  {
    name: "a plugin's reply",
    deeds: { request: () => ({ status: 403, body: "no\n" }) },
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET);
      await peer.until(answered);
    },
    ends: [{ status: 403, answeredBy: "plugin" }],
  },
  {
    name: "a plugin's reply to a request whose body is not read",
    deeds: { request: () => ({ status: 413 }) },
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin");
      await peer.until(answered);
    },
    ends: [{ status: 413, answeredBy: "plugin" }],
  },
  {
    name: "a request hook that takes too long is left out",
    deeds: { request: () => never },
    requestTimeout: "20ms",
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET);
      await peer.until(ended(1));
    },
    ends: [{ status: 200, answeredBy: "upstream" }],
  },
  {
    name: "the caller leaves while a request hook takes its time",
    deeds: { request: () => never },
    requestTimeout: "1s",
    act: async ({ connect, tape }) => {
      const peer = await connect();
      peer.send(GET);
      await tape.ran("a request");
      peer.socket.resetAndDestroy();
    },
    ends: [{ status: undefined, answeredBy: "none", code: "HF_DOWNSTREAM_ABORTED" }],
  },
  {
    name: "no route",
    outbound: "deny",
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET);
      await peer.until(answered);
    },
    ends: [{ status: 403, answeredBy: "holdfast", code: "HF_NO_ROUTE" }],
  },
  {
    name: "an upstream that refuses the connection",
    outbound: "pass",
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${await unusedPort()}\r\n\r\n`);
      await peer.until(answered);
    },
    ends: [{ status: 502, answeredBy: "holdfast", code: "HF_UPSTREAM_REFUSED" }],
  },
  {
    name: "an upstream that closes without a response",
    answer: ({ socket }) => void socket.end(),
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET);
      await peer.until(answered);
    },
    ends: [{ status: 502, answeredBy: "holdfast", code: "HF_UPSTREAM_CLOSED" }],
  },
  {
    name: "an upstream that sends something else than HTTP",
    answer: ({ socket }) => void socket.write("+OK ready\r\n\r\n"),
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET);
      await peer.until(answered);
    },
    ends: [{ status: 502, answeredBy: "holdfast", code: "HF_UPSTREAM_BAD_RESPONSE" }],
  },
  {
    name: "an upstream that closes in the middle of a response",
    answer: ({ socket }) => void socket.end("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin"),
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET);
      await peer.untilEnd();
    },
    ends: [{ status: 200, answeredBy: "upstream", code: "HF_UPSTREAM_INCOMPLETE" }],
  },
  {
    name: "a stale connection, retried",
    answer: ({ socket }, index) => void (index > 1 ? socket.resetAndDestroy() : socket.write(OK)),
    act: async ({ connect, tape }) => {
      const peer = await connect();
      peer.send(GET);
      await tape.ran("a idle upstream");
      await tape.ran("a idle downstream");
      peer.send(GET);
      await peer.until(ended(2));
    },
    ends: [{ status: 200 }, { status: 200, answeredBy: "upstream", stale: "retried" }],
  },
  {
    name: "a stale connection, refused",
    answer: ({ socket }, index) => void (index > 1 ? socket.resetAndDestroy() : socket.write(OK)),
    act: async ({ connect, tape }) => {
      const peer = await connect();
      peer.send(GET);
      await tape.ran("a idle upstream");
      await tape.ran("a idle downstream");
      peer.send(POST);
      await peer.until(ended(2));
    },
    ends: [{ status: 200 }, { status: 502, answeredBy: "holdfast", stale: "refused", code: "HF_UPSTREAM_CLOSED" }],
  },
  {
    name: "the caller leaves before the response",
    answer: () => {},
    act: async ({ connect, tape }) => {
      const peer = await connect();
      peer.send(GET);
      await tape.ran("a upstreamConnected");
      peer.socket.resetAndDestroy();
    },
    ends: [{ status: undefined, answeredBy: "none", code: "HF_DOWNSTREAM_ABORTED" }],
  },
  {
    name: "the caller leaves in the middle of the response",
    answer: ({ socket }) => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin"),
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(GET);
      await peer.until((text) => text.endsWith("begin"));
      peer.socket.resetAndDestroy();
    },
    ends: [{ status: 200, answeredBy: "upstream", code: "HF_DOWNSTREAM_ABORTED" }],
  },
  {
    name: "the caller leaves in the middle of its request body",
    answer: () => {},
    act: async ({ connect, tape }) => {
      const peer = await connect();
      peer.send(`${POST.replace("5", "9")}`);
      await tape.ran("a upstreamConnected");
      peer.socket.resetAndDestroy();
    },
    ends: [{ status: undefined, answeredBy: "none", code: "HF_DOWNSTREAM_ABORTED" }],
  },
  {
    name: "the caller leaves while it waits for a connection",
    answer: () => {},
    plugins: [{ use: "connection-limits", config: { upstream: { maxConnections: 1 } } }],
    act: async ({ connect, tape }) => {
      const first = await connect();
      first.send(GET);
      await tape.ran("a upstreamConnected");
      const second = await connect();
      second.send(GET);
      await tape.ran("a request", 2);
      second.socket.resetAndDestroy();
      await tape.ran("a end");
      first.socket.resetAndDestroy();
    },
    ends: [{ code: "HF_DOWNSTREAM_ABORTED" }, { status: undefined, answeredBy: "none", code: "HF_DOWNSTREAM_ABORTED" }],
  },
  {
    name: "a request body that takes too long",
    answer: () => {},
    plugins: [{ use: "connection-limits", config: { headTimeout: "50ms", requestTimeout: "50ms" } }],
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(POST.replace("5", "9"));
      await peer.untilEnd();
    },
    ends: [{ status: 408, answeredBy: "holdfast", code: "HF_REQUEST_TIMEOUT" }],
  },
  {
    name: "a chunked body that is not valid",
    answer: () => {},
    act: async ({ connect, tape }) => {
      const peer = await connect();
      peer.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
      await tape.ran("a upstreamConnected");
      peer.send("what\r\n");
      await peer.untilEnd();
    },
    ends: [{ status: 400, answeredBy: "holdfast", code: "HF_BAD_FRAMING" }],
  },
  {
    name: "an upgrade",
    answer: ({ socket }) =>
      void socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\nhi"),
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(UPGRADE);
      await peer.until((text) => text.endsWith("hi"));
      peer.socket.end();
      await peer.untilEnd();
    },
    ends: [{ status: 101, answeredBy: "upstream" }],
  },
  {
    name: "an upgrade that the upstream declines, and a request after it",
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(UPGRADE);
      await peer.until(ended(1));
      peer.send(GET);
      await peer.until(ended(2));
    },
    ends: [{ status: 200, answeredBy: "upstream" }, { status: 200 }],
  },
  {
    name: "a tunnel",
    outbound: "pass",
    act: async ({ connect, origin }) => {
      const peer = await connect();
      peer.send(`CONNECT 127.0.0.1:${origin.port} HTTP/1.1\r\nHost: a\r\n\r\n`);
      await peer.until(answered);
      peer.send(GET);
      await peer.until(ended(2));
      peer.socket.end();
      await peer.untilEnd();
    },
    ends: [{ status: 200, answeredBy: "holdfast" }],
  },
  {
    name: "a tunnel to an upstream that refuses",
    outbound: "pass",
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send(`CONNECT 127.0.0.1:${await unusedPort()} HTTP/1.1\r\nHost: a\r\n\r\n`);
      await peer.until(answered);
    },
    ends: [{ status: 502, answeredBy: "holdfast", code: "HF_UPSTREAM_REFUSED" }],
  },
  {
    name: "a tunnel that a plugin refuses",
    outbound: "pass",
    deeds: { request: () => ({ status: 403 }) },
    act: async ({ connect }) => {
      const peer = await connect();
      peer.send("CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: a\r\n\r\n");
      await peer.until(answered);
    },
    ends: [{ status: 403, answeredBy: "plugin" }],
  },
  {
    name: "the caller leaves a tunnel that is open",
    outbound: "pass",
    act: async ({ connect, origin }) => {
      const peer = await connect();
      peer.send(`CONNECT 127.0.0.1:${origin.port} HTTP/1.1\r\nHost: a\r\n\r\n`);
      await peer.until(answered);
      peer.socket.resetAndDestroy();
    },
    ends: [{ status: 200, answeredBy: "holdfast" }],
  },
  {
    name: "a drain lets it finish",
    answer: () => {},
    act: async ({ connect, tape, sidecar, origin }) => {
      const peer = await connect();
      peer.send(GET);
      await tape.ran("a upstreamConnected");
      const drained = sidecar.sidecar.drain();
      await origin.connected(1);
      origin.connections[0]!.socket.write(OK);
      await peer.untilEnd();
      peer.socket.end();
      assert.deepEqual(await drained, { cut: 0 });
    },
    ends: [{ status: 200, answeredBy: "upstream" }],
  },
  {
    name: "a stop cuts it",
    answer: () => {},
    act: async ({ connect, tape, sidecar }) => {
      const peer = await connect();
      peer.send(GET);
      await tape.ran("a upstreamConnected");
      await sidecar.stop();
    },
    ends: [{ status: undefined, answeredBy: "none", code: "HF_DRAINING" }],
  },
  {
    name: "a stop cuts a tunnel",
    outbound: "pass",
    act: async ({ connect, origin, sidecar }) => {
      const peer = await connect();
      peer.send(`CONNECT 127.0.0.1:${origin.port} HTTP/1.1\r\nHost: a\r\n\r\n`);
      await peer.until(answered);
      await sidecar.stop();
    },
    ends: [{ status: 200, answeredBy: "holdfast", code: "HF_DRAINING" }],
  },
];

for (const forwarder of FORWARDERS) {
  for (const way of WAYS) {
    test(`${forwarder}: ${way.name}`, { timeout: 20_000 }, async (t) => {
      const tape = new Tape();
      const origin = await rawOrigin(t, (connection, _head, index) => {
        if (way.answer === undefined) connection.socket.write(OK);
        else way.answer(connection, index);
      });
      const a: Plugin<object> = tape.plugin("a", way.deeds);
      const sidecar = await testSidecar(t, {
        ...(way.outbound === undefined ? { upstream: origin.url } : { outbound: true }),
        plugins: [
          { plugin: a, ...(way.requestTimeout === undefined ? {} : { requestTimeout: way.requestTimeout }) },
          { plugin: tape.plugin("b") },
          ...(way.plugins ?? []),
        ],
        config: { forwarder, ...(way.outbound === undefined ? {} : { outbound: { unmatched: way.outbound } }) },
      });
      const url = way.outbound === undefined ? sidecar.inbound : sidecar.outbound;
      await way.act({ t, tape, origin, sidecar, connect: () => RawPeer.connect(t, url) });
      await tape.until(() => [...tape.outcomes.values()].every((given) => given.length > 0));
      await sidecar.stop();

      for (const [exchange, given] of tape.outcomes) assert.equal(given.length, 1, `${exchange}: end ran once`);
      for (const plugin of ["a", "b"]) {
        const given = [...tape.outcomes].filter(([key]) => key.startsWith(plugin)).map(([, [outcome]]) => outcome!);
        const expected = way.ends.map((end, at) => ({ ...actual(given[at]), ...end, code: end.code }));
        assert.deepEqual(given.map(actual), expected, `what plugin ${plugin} was told`);
      }
      for (const side of ["downstream", "upstream"]) {
        assert.equal(tape.count(`a close ${side}`), tape.count(`a connection ${side}`), `close on ${side}`);
      }
      assert.equal(tape.count("a close"), 1);
    });
  }
}

function actual(outcome: Outcome | undefined) {
  return {
    status: outcome?.status,
    answeredBy: outcome?.answeredBy,
    stale: outcome?.stale,
    code: outcome?.error?.code,
  };
}
