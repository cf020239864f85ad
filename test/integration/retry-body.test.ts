/** What a second attempt sends is the request, all of it, and nothing else. */
import assert from "node:assert/strict";
import { once } from "node:events";
import test, { type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { definePlugin } from "../../src/plugin/api.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async function arrived(connection: OriginConnection, text: string): Promise<void> {
  while (!connection.received.includes(text)) await once(connection.socket, "data");
}

async function setting(t: TestContext, forwarder: string, url: string, config: object = {}) {
  const watch = observer();
  const plugins = [{ plugin: watch.plugin }];
  const sidecar = await testSidecar(t, { upstream: url, plugins, config: { forwarder, ...config } });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  return { watch, peer };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a GET that is sent again brings nothing of the POST before it`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, head) => {
      if (head.includes(" /stale ") && origin.connections.length === 1) socket.end();
      else socket.write(OK);
    });
    const { watch, peer } = await setting(t, forwarder, origin.url);
    peer.send("POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\na=1&b=2\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    await watch.until(() => watch.idled("upstream") === 1);
    peer.send("GET /stale HTTP/1.1\r\nHost: h\r\n\r\n");
    await peer.until((text) => text.split("\r\n\r\nok").length === 3);
    peer.send("GET /third HTTP/1.1\r\nHost: h\r\n\r\n");
    await peer.until((text) => text.split("\r\n\r\nok").length === 4);

    assert.equal((await watch.end(2)).outcome.stale, "retried");
    assert.equal(origin.connections.length, 2);
    const second = origin.connections[1]!.received;
    assert.deepEqual(
      second.split(/(?<=\r\n\r\n)/).map((head) => head.split("\r\n")[0]),
      ["GET /stale HTTP/1.1", "GET /third HTTP/1.1"],
    );
  });

  test(`${forwarder}: a body that outgrows limits.replay between two attempts is sent whole`, async (t) => {
    const [first, rest] = ["a".repeat(500), "b".repeat(3000)];
    const held: (() => void)[] = [];
    const origin = await rawOrigin(t, async (connection, head) => {
      const answer = () => connection.socket.write(OK);
      if (head.includes(" /held ")) held.push(answer);
      else if (head.startsWith("GET")) answer();
      else if (origin.connections.length === 2) {
        await arrived(connection, first);
        broken.resolve(connection);
      } else {
        await arrived(connection, rest);
        answer();
      }
    });
    const broken = Promise.withResolvers<OriginConnection>();
    const watch = observer();
    const two = definePlugin({
      name: "two",
      apiVersion: 1,
      description: "two upstream connections",
      config: {},
      setup: () => ({
        pool(pool) {
          pool.maxConnections = 2;
        },
      }),
    });
    const { inbound, sidecar } = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }, { plugin: two }],
      config: { forwarder, limits: { replay: "1KiB" } },
    });
    const isHeld = async (count: number): Promise<void> => {
      while (held.length < count) await turn();
    };
    const peers = [
      await RawPeer.connect(t, inbound),
      await RawPeer.connect(t, inbound),
      await RawPeer.connect(t, inbound),
    ] as const;
    const [before, peer, behind] = peers;
    before.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n");
    await isHeld(1);
    peer.send("GET /warm HTTP/1.1\r\nHost: h\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    await watch.until(() => watch.idled("upstream") === 1);
    peer.received = "";
    peer.send(`PUT /again HTTP/1.1\r\nHost: h\r\nContent-Length: ${first.length + rest.length}\r\n\r\n${first}`);
    const { socket } = await broken.promise;
    behind.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n");
    const pool = [...sidecar.view.pools()][0]!;
    while (pool.queued < 1) await turn();
    // The place that becomes free is the one's who waits already, so the second attempt has to wait too.
    socket.end();
    await isHeld(2);
    while (pool.queued < 1) await turn();
    const downstream = watch.opened.find(({ side, exchanges }) => side === "downstream" && exchanges === 2)!;
    const read = downstream.bytesRead;
    peer.send(rest);
    while (downstream.bytesRead < read + rest.length) await turn();
    for (const answer of held) answer();
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.equal(watch.ended.at(-1)!.outcome.stale, "retried");
    assert.ok(origin.connections.at(-1)!.received.endsWith(`\r\n\r\n${first}${rest}`));
  });

  test(`${forwarder}: an empty chunked body keeps its end in a second attempt, or there is none`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, head) => {
      if (head.includes(" /again ") && origin.connections.length === 1) socket.end();
      else socket.write(OK);
    });
    for (const replay of ["64KiB", "0B"]) {
      const { watch, peer } = await setting(t, forwarder, origin.url, { limits: { replay } });
      const before = origin.connections.length;
      peer.send("GET /warm HTTP/1.1\r\nHost: h\r\n\r\n");
      await peer.until((text) => text.endsWith("\r\n\r\nok"));
      await watch.until(() => watch.idled("upstream") === 1);
      peer.received = "";
      peer.send("DELETE /again HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
      await peer.until((text) => /\r\n\r\n(ok|502 HF_\w+\n)$/.test(text));
      for (const connection of origin.connections.slice(before + 1)) await arrived(connection, "\r\n\r\n0\r\n\r\n");
    }
  });
}
