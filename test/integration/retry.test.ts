import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { definePlugin } from "../../src/plugin/api.ts";
import type { ProxyConnection } from "../../src/proxy/connection.ts";
import { observer } from "../support/observer.ts";
import {
  FORWARDERS,
  type OriginConnection,
  type RawOrigin,
  RawPeer,
  rawOrigin,
  testSidecar,
} from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET /warm HTTP/1.1\r\nHost: h\r\n\r\n";
const BODY = "a=1&b=2";

/** An origin that answers the first request of each connection, and does to every later one what the test says. */
async function fickleOrigin(t: TestContext, later: (connection: OriginConnection) => void): Promise<RawOrigin> {
  return await rawOrigin(t, (connection, _head, index) => {
    if (index === 1) connection.socket.write(OK);
    else later(connection);
  });
}

const BREAK = {
  FIN: ({ socket }: OriginConnection) => void socket.end(),
  RST: ({ socket }: OriginConnection) => void socket.resetAndDestroy(),
};

async function setting(t: TestContext, forwarder: string, origin: RawOrigin, config: object = {}) {
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    plugins: [{ plugin: watch.plugin }],
    config: { forwarder, ...config },
  });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  peer.send(GET);
  await peer.until((text) => text.endsWith("\r\n\r\nok"));
  await watch.until(() => watch.idled("upstream") === 1);
  peer.received = "";
  return { watch, peer };
}

const answered = (text: string): boolean => /\r\n\r\n(ok|502 HF_\w+\n)$/.test(text);
const count = (text: string, pattern: RegExp): number => text.match(pattern)?.length ?? 0;

/** Requests that may be repeated, and what of them must arrive the second time (RFC 9110 §9.2.2). */
const REPEATABLE = {
  GET: "GET /again HTTP/1.1\r\nHost: h\r\n\r\n",
  OPTIONS: "OPTIONS /again HTTP/1.1\r\nHost: h\r\n\r\n",
  "DELETE with a chunked body": `DELETE /again HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n${BODY}\r\n0\r\n\r\n`,
  "PUT with a body": `PUT /again HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n${BODY}`,
  "POST with Idempotency-Key and a body": `POST /again HTTP/1.1\r\nHost: h\r\nIdempotency-Key: "k"\r\nContent-Length: 7\r\n\r\n${BODY}`,
  "POST with Idempotency-Key and no body":
    'POST /again HTTP/1.1\r\nHost: h\r\nIdempotency-Key: "k"\r\nContent-Length: 0\r\n\r\n',
} as const;

const NEVER_TWICE = {
  "POST with a body": `POST /again HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n${BODY}`,
  "POST without a body": "POST /again HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
  "PATCH with a body": `PATCH /again HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n${BODY}`,
  "a method that is not idempotent": "LOCK /again HTTP/1.1\r\nHost: h\r\n\r\n",
  "PUT with a body beyond limits.replay": `PUT /again HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n${"x".repeat(2000)}`,
  "POST with Idempotency-Key and a body beyond limits.replay": `POST /again HTTP/1.1\r\nHost: h\r\nIdempotency-Key: "k"\r\nContent-Length: 2000\r\n\r\n${"x".repeat(2000)}`,
} as const;

/** As if the kernel had told of a reset between the choice of a reused connection and the first write. */
const breaker = definePlugin({
  name: "breaker",
  apiVersion: 1,
  description: "Destroys reused connections as they are taken",
  config: {},
  setup: () => ({
    exchange: () => ({
      upstreamConnected(connection) {
        if (connection.exchanges > 1) (connection as ProxyConnection).socket.destroy();
      },
    }),
  }),
});

for (const forwarder of FORWARDERS) {
  for (const [how, breakOff] of Object.entries(BREAK)) {
    for (const [what, request] of Object.entries(REPEATABLE)) {
      test(`${forwarder}: ${what}, met by ${how} on a reused connection, is sent once more on a fresh one`, async (t) => {
        const origin = await fickleOrigin(t, breakOff);
        const { watch, peer } = await setting(t, forwarder, origin);
        peer.send(request);
        assert.match(await peer.until(answered), /^HTTP\/1\.1 200 OK\r\n/);

        const { exchange, outcome } = await watch.end(2);
        assert.equal(outcome.stale, "retried");
        assert.equal(outcome.error, undefined);
        assert.equal(exchange.attempts, 2);
        assert.equal(exchange.upstreamIndex, 1);
        assert.equal(watch.retried.length, 1);
        assert.equal(watch.retried[0]!.code, "HF_UPSTREAM_CLOSED");
        assert.equal((await watch.closedOn("upstream")).reason, how === "FIN" ? "peer_closed" : "peer_reset");

        assert.equal(origin.connections.length, 2);
        const first = origin.connections[0]!.received;
        const second = origin.connections[1]!.received;
        // The same request, byte for byte, body and framing included.
        assert.equal(second, first.slice(first.indexOf("\r\n\r\n") + 4));
        if (request.includes(BODY)) assert.ok(second.includes(BODY));
      });
    }

    for (const [what, request] of Object.entries(NEVER_TWICE)) {
      test(`${forwarder}: ${what}, met by ${how} on a reused connection, is not sent twice`, async (t) => {
        const origin = await fickleOrigin(t, breakOff);
        const { watch, peer } = await setting(t, forwarder, origin, { limits: { replay: "1KiB" } });
        peer.send(request);
        assert.match(await peer.until(answered), /^HTTP\/1\.1 502 Bad Gateway\r\n/);
        const { exchange, outcome } = await watch.end(2);
        assert.equal(outcome.stale, "refused");
        assert.equal(outcome.error?.code, "HF_UPSTREAM_CLOSED");
        assert.equal(exchange.attempts, 1);
        assert.equal(origin.connections.length, 1);
        assert.equal(count(origin.received(), / \/again HTTP/g), 1);
        assert.equal(watch.retried.length, 0);
      });
    }

    test(`${forwarder}: after the first bytes of a response, ${how} is not followed by another attempt`, async (t) => {
      const origin = await fickleOrigin(t, (connection) => {
        connection.socket.write("HTTP/1.1 200 OK\r\nContent-Le", () => setImmediate(() => breakOff(connection)));
      });
      const { watch, peer } = await setting(t, forwarder, origin);
      peer.send(REPEATABLE.GET);
      assert.match(await peer.until(answered), /^HTTP\/1\.1 502 /);
      const { outcome } = await watch.end(2);
      assert.equal(outcome.stale, undefined);
      assert.equal(origin.connections.length, 1);
    });

    test(`${forwarder}: ${how} on a fresh connection is not followed by another attempt`, async (t) => {
      const origin = await rawOrigin(t, breakOff);
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(GET);
      const text = await peer.until(answered);
      assert.match(text, /^HTTP\/1\.1 502 /);
      assert.match(
        text,
        /\r\nProxy-Status: holdfast-test; error=connection_terminated; details="HF_UPSTREAM_CLOSED"\r\n/,
      );
      assert.match(text, /\r\nConnection: keep-alive\r\n/);
      const { outcome } = await watch.end();
      assert.equal(outcome.stale, undefined);
      assert.equal(origin.connections.length, 1);
    });

    test(`${forwarder}: a second ${how}, now on the fresh connection, ends in 502`, async (t) => {
      let requests = 0;
      const origin = await rawOrigin(t, (connection) => {
        if (++requests === 1) connection.socket.write(OK);
        else breakOff(connection);
      });
      const { watch, peer } = await setting(t, forwarder, origin);
      peer.send(REPEATABLE.GET);
      assert.match(await peer.until(answered), /^HTTP\/1\.1 502 /);
      const { exchange, outcome } = await watch.end(2);
      assert.equal(outcome.stale, "retried");
      assert.equal(exchange.attempts, 2);
      assert.equal(requests, 3);
      assert.equal(origin.connections.length, 2);
    });
  }

  test(`${forwarder}: nonsense on a reused connection is no reason for another attempt`, async (t) => {
    const origin = await fickleOrigin(t, ({ socket }) => socket.write("nonsense\r\n\r\n"));
    const { watch, peer } = await setting(t, forwarder, origin);
    peer.send(REPEATABLE.GET);
    assert.match(await peer.until(answered), /^HTTP\/1\.1 502 /);
    const { outcome } = await watch.end(2);
    assert.equal(outcome.stale, undefined);
    assert.equal(origin.connections.length, 1);
  });

  test(`${forwarder}: a connection found closed before a byte was written is raced, and even POST goes on`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }, { plugin: breaker }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    await peer.until(answered);
    await watch.until(() => watch.idled("upstream") === 1);
    peer.received = "";
    peer.send(NEVER_TWICE["POST with a body"]);
    assert.match(await peer.until(answered), /^HTTP\/1\.1 200 OK\r\n/);
    const { exchange, outcome } = await watch.end(2);
    assert.equal(outcome.stale, "raced");
    assert.equal(exchange.attempts, 2);
    assert.equal(count(origin.received(), /POST \/again HTTP/g), 1);
    assert.ok(origin.received().endsWith(BODY));
  });

  test(`${forwarder}: an idle connection that the upstream closed is not raced at all`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const { watch, peer } = await setting(t, forwarder, origin);
    for (const [round, breakOff] of [BREAK.FIN, BREAK.RST].entries()) {
      breakOff(origin.connections[round]!);
      const { reason } = await watch.closedOn("upstream", round + 1);
      assert.equal(reason, round === 0 ? "peer_closed" : "peer_reset");
      peer.received = "";
      peer.send(NEVER_TWICE["POST with a body"]);
      assert.match(await peer.until(answered), /^HTTP\/1\.1 200 OK\r\n/);
      const { outcome } = await watch.end(2 + round);
      assert.equal(outcome.stale, undefined);
      await watch.until(() => watch.idled("upstream") === 2 + round);
    }
    assert.equal(origin.connections.length, 3);
  });
}

for (const [name, close] of Object.entries(BREAK)) {
  test(`wire: a POST that meets a ${name} in the same turn has not left yet, and goes to another connection`, async (t) => {
    const posts: string[] = [];
    const origin = await rawOrigin(t, ({ socket }, head) => {
      if (head.startsWith("POST")) posts.push(head);
      socket.write(OK);
    });
    const { watch, peer } = await setting(t, "wire", origin);
    // Both are there when the sidecar looks next, the request first.
    peer.send("POST /once HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\na=1&b=2");
    close(origin.connections[0]!);
    assert.match(await peer.until(answered), /^HTTP\/1\.1 200 /);
    assert.equal(posts.length, 1);
    await watch.until(() => watch.idled("upstream") === 2);
  });
}
