import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import test, { type TestContext } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { type Observer, observer } from "../support/observer.ts";
import { FORWARDERS, testSidecar } from "../support/peers.ts";

interface Setting {
  readonly watch: Observer;
  /** Opens a WebSocket through the sidecar; `far` is the upstream's end of it. */
  open(protocols?: string[]): Promise<{ near: WebSocket; far: WebSocket }>;
}

async function setting(t: TestContext, forwarder: string, config: object = {}): Promise<Setting> {
  const origin = http.createServer((_request, response) => response.end("not a socket"));
  const server = new WebSocketServer({ server: origin, handleProtocols: (offered) => [...offered].at(-1) ?? false });
  origin.listen(0, "127.0.0.1");
  await once(origin, "listening");
  t.after(() => {
    for (const far of server.clients) far.terminate();
    origin.closeAllConnections();
    origin.close();
  });
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream: `http://127.0.0.1:${(origin.address() as AddressInfo).port}`,
    plugins: [{ plugin: watch.plugin }],
    config: { forwarder, ...config },
  });
  return {
    watch,
    async open(protocols = []) {
      const near = new WebSocket(`${sidecar.inbound.replace("http", "ws")}/chat?room=1`, protocols);
      t.after(() => near.terminate());
      const [[far]] = (await Promise.all([once(server, "connection"), once(near, "open")])) as [[WebSocket], unknown];
      return { near, far };
    },
  };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: WebSocket messages go both ways, in order, small and large, text and binary`, async (t) => {
    const { open } = await setting(t, forwarder);
    const { near, far } = await open();
    far.on("message", (message, isBinary) => far.send(message, { binary: isBinary }));
    const messages = [
      "",
      "hello",
      "ü€",
      randomBytes(1),
      randomBytes(65_536),
      randomBytes(5_000_000),
      "x".repeat(200_000),
    ];
    const received: (string | Buffer)[] = [];
    const all = new Promise<void>((resolve) => {
      near.on("message", (message: Buffer, isBinary) => {
        received.push(isBinary ? message : message.toString());
        if (received.length === messages.length) resolve();
      });
    });
    for (const message of messages) near.send(message);
    await all;
    assert.ok(received.every((message, index) => Buffer.from(message).equals(Buffer.from(messages[index]!))));
    assert.deepEqual(
      received.map((message) => typeof message),
      messages.map((message) => typeof message),
    );
  });

  test(`${forwarder}: the subprotocol that the upstream chose is passed on`, async (t) => {
    const { open } = await setting(t, forwarder);
    const { near } = await open(["chat", "superchat"]);
    assert.equal(near.protocol, "superchat");
  });

  test(`${forwarder}: the first message may come with the upstream's 101`, async (t) => {
    const origin = http.createServer();
    const server = new WebSocketServer({ noServer: true });
    origin.on("upgrade", (request, socket, head) => {
      socket.cork();
      server.handleUpgrade(request, socket, head, (far) => {
        far.send("first");
        socket.uncork();
      });
    });
    origin.listen(0, "127.0.0.1");
    await once(origin, "listening");
    t.after(() => void origin.close());
    const sidecar = await testSidecar(t, {
      upstream: `http://127.0.0.1:${(origin.address() as AddressInfo).port}`,
      config: { forwarder },
    });
    const near = new WebSocket(sidecar.inbound.replace("http", "ws"));
    t.after(() => near.terminate());
    const [message] = await once(near, "message");
    assert.equal(String(message), "first");
  });

  for (const side of ["downstream", "upstream"] as const) {
    test(`${forwarder}: a close from ${side} carries its code and reason, and both connections end`, async (t) => {
      const { open, watch } = await setting(t, forwarder);
      const { near, far } = await open();
      const [closing, other] = side === "downstream" ? [near, far] : [far, near];
      const seen = once(other, "close");
      closing.close(4321, "that was all");
      const [code, reason] = (await seen) as [number, Buffer];
      assert.equal(code, 4321);
      assert.equal(String(reason), "that was all");
      const { exchange, outcome } = await watch.end();
      assert.equal(exchange.kind, "upgrade");
      assert.equal(outcome.status, 101);
      assert.equal(outcome.error, undefined);
      for (const closed of [await watch.closedOn("downstream"), await watch.closedOn("upstream")]) {
        assert.equal(closed.reason, "peer_closed");
        assert.equal(closed.connection.protocol, "tunnel");
      }
    });

    test(`${forwarder}: when ${side} breaks, so does the other side`, async (t) => {
      const { open, watch } = await setting(t, forwarder);
      const { near, far } = await open();
      const [breaking, other] = side === "downstream" ? [near, far] : [far, near];
      const seen = once(other, "close");
      other.on("error", () => {});
      breaking.terminate();
      const [code] = (await seen) as [number];
      assert.equal(code, 1006);
      await watch.end();
      assert.equal(watch.closed.length, 2);
    });
  }

  test(`${forwarder}: ping and pong go through`, async (t) => {
    const { open } = await setting(t, forwarder);
    const { near, far } = await open();
    const pong = once(near, "pong");
    near.ping("are you there");
    assert.equal(String((await pong)[0]), "are you there");
    const ping = once(near, "ping");
    far.ping("and you");
    assert.equal(String((await ping)[0]), "and you");
  });

  test(`${forwarder}: a tunnel that is silent for tunnelIdleTimeout is closed; traffic keeps it`, async (t) => {
    const { open, watch } = await setting(t, forwarder, { inbound: { tunnelIdleTimeout: "1s" } });
    const { near, far } = await open();
    // Well beyond the limit in all, never beyond it at once.
    for (let beat = 0; beat < 12; beat++) {
      const message = once(near, "message");
      setTimeout(() => far.send("beat"), 100);
      await message;
    }
    assert.equal(watch.ended.length, 0);
    const [code] = (await once(near, "close")) as [number];
    assert.equal(code, 1006);
    const { outcome } = await watch.end();
    assert.equal(outcome.error, undefined);
    assert.equal((await watch.closedOn("downstream")).reason, "idle_timeout");
    assert.equal((await watch.closedOn("upstream")).reason, "idle_timeout");
  });

  test(`${forwarder}: many sockets at once, each gets its own messages`, async (t) => {
    const { open, watch } = await setting(t, forwarder);
    const pairs = [];
    for (let index = 0; index < 20; index++) pairs.push(await open());
    for (const { far } of pairs) far.on("message", (message) => far.send(message));
    await Promise.all(
      pairs.map(async ({ near }, index) => {
        const echo = once(near, "message");
        near.send(`number ${index}`);
        assert.equal(String((await echo)[0]), `number ${index}`);
      }),
    );
    assert.equal(watch.opened.filter(({ side }) => side === "upstream").length, 20);
    for (const { near } of pairs) near.close();
    await watch.until(() => watch.closed.length === 40);
  });
}
