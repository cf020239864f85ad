/** Pipelines that are longer than what is read ahead, and peers that do not read their answers. */
import assert from "node:assert/strict";
import test from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Connection } from "../../src/plugin/api.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

/** Resolves once a number has not changed for many turns of the event loop. */
async function settled(count: () => number): Promise<number> {
  let last = count();
  for (let quiet = 0; quiet < 200; quiet++) {
    await turn();
    if (count() === last) continue;
    last = count();
    quiet = 0;
  }
  return last;
}

/** The targets of the requests that were answered, in the order of the answers. */
function answered(text: string): string[] {
  return [...text.matchAll(/\r\nX-Target: (\S+)\r\n/g)].map(([, target]) => target!);
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a long pipeline behind a slow request keeps its order`, async (t) => {
    let release: (() => void) | undefined;
    const origin = await rawOrigin(t, ({ socket }, head) => {
      const answer = (): void => {
        socket.write(`HTTP/1.1 200 OK\r\nX-Target: ${head.split(" ")[1]}\r\nContent-Length: 0\r\n\r\n`);
      };
      if (release === undefined) release = answer;
      else answer();
    });
    const watch = observer();
    const plugins = [{ plugin: watch.plugin }];
    const { inbound } = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, inbound);
    const targets = Array.from({ length: 500 }, (_, index) => `/${index}`);
    const padding = "p".repeat(1000);
    peer.send(targets.map((target) => `GET ${target} HTTP/1.1\r\nHost: h\r\nX-Padding: ${padding}\r\n\r\n`).join(""));
    await watch.until(({ opened }) => opened.length === 2);
    const downstream = watch.opened.find(({ side }) => side === "downstream")!;
    const read = await settled(() => downstream.bytesRead);
    assert.ok(read < 400_000, `it has read ${read} bytes ahead`);
    release!();
    await peer.until((text) => answered(text).length === targets.length);
    assert.deepEqual(answered(peer.received), targets);
    assert.deepEqual(
      [...origin.received().matchAll(/^GET (\S+) /gm)].map(([, target]) => target),
      targets,
    );
  });

  test(`${forwarder}: a pipeline behind an upload that the upstream takes slowly keeps its order`, async (t) => {
    const size = 8_000_000;
    const origin = await rawOrigin(t, (connection, head) => {
      const { socket } = connection;
      const target = head.split(" ")[1];
      const answer = (): void => {
        socket.write(`HTTP/1.1 200 OK\r\nX-Target: ${target}\r\nContent-Length: 0\r\n\r\n`);
      };
      if (target !== "/upload") return answer();
      socket.pause();
      const count = (): void => {
        if (connection.received.length < size + head.length) return;
        socket.off("data", count);
        answer();
      };
      socket.on("data", count);
    });
    const { inbound } = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, inbound);
    const targets = ["/upload", ...Array.from({ length: 2000 }, (_, index) => `/${index}`)];
    peer.send(`POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: ${size}\r\n\r\n`);
    peer.send("u".repeat(size - 4));
    peer.send("\r\n\r\n");
    for (const target of targets.slice(1)) peer.send(`GET ${target} HTTP/1.1\r\nHost: h\r\n\r\n`);
    await origin.connected(1);
    await settled(() => peer.socket.writableLength);
    origin.connections[0]!.socket.resume();
    await peer.until((text) => answered(text).length === targets.length);
    assert.deepEqual(answered(peer.received), targets);
  });

  test(`${forwarder}: a peer that does not read its answers gets no more of them made`, async (t) => {
    const body = "b".repeat(15_000);
    const count = 2000;
    const origin = await rawOrigin(t, ({ socket }, head) => {
      const target = head.split(" ")[1];
      socket.write(`HTTP/1.1 200 OK\r\nX-Target: ${target}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    });
    const watch = observer();
    const plugins = [{ plugin: watch.plugin }];
    const { inbound } = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, inbound);
    peer.socket.pause();
    const targets = Array.from({ length: count }, (_, index) => `/${index}`);
    peer.send(targets.map((target) => `GET ${target} HTTP/1.1\r\nHost: h\r\n\r\n`).join(""));
    await watch.end(1);
    const ended = await settled(() => watch.ended.length);
    assert.ok(ended < count, "not all are answered");
    const downstream = watch.opened.find(({ side }) => side === "downstream") as Connection & {
      readonly socket: { readonly writableLength: number };
    };
    const buffered = downstream.socket.writableLength;
    assert.ok(buffered < 300_000, `${buffered} bytes wait for the peer`);
    peer.socket.resume();
    await peer.until((text) => text.length > count * (body.length + 100));
    await peer.until((text) => answered(text).length === count && text.endsWith(body));
    assert.deepEqual(answered(peer.received), targets);
  });
}
