/** Heads of responses in odd sizes and numbers: nothing is lost, nothing piles up, and nothing stays paused. */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

function filled(start: string, bytes: number): string {
  const fields = `${start}\r\nX-Fill: `;
  return `${fields}${"f".repeat(bytes - fields.length - 4)}\r\n\r\n`;
}

async function start(t: TestContext, forwarder: string, head: string, answer: string) {
  const origin = await rawOrigin(t, ({ socket }) => socket.write(answer));
  const watch = observer();
  const plugins = [{ plugin: watch.plugin }];
  const config = { forwarder, limits: { head, target: "1KiB" } };
  const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config });
  return { origin, watch, peer: await RawPeer.connect(t, sidecar.inbound) };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: interim and final head, each within limits.head, may come at once with a large body`, async (t) => {
    const body = "0123456789".repeat(2000);
    const interim = filled("HTTP/1.1 103 Early Hints", 900);
    const final = filled(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}`, 900);
    const { peer } = await start(t, forwarder, "1KiB", interim + interim + final + body);
    for (let round = 0; round < 2; round++) {
      peer.received = "";
      peer.send(GET);
      const answer = await peer.until((text) => text.endsWith(`\r\n\r\n${body}`));
      assert.equal(answer.match(/HTTP\/1\.1 103 /g)?.length, 2);
    }
  });

  test(`${forwarder}: a response that comes whole while the peer does not read leaves nothing paused`, async (t) => {
    const answer = `${filled("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", 20_000)}5\r\nhello\r\n0\r\n\r\n`;
    const count = 600;
    const { origin, watch, peer } = await start(t, forwarder, "64KiB", answer);
    peer.socket.pause();
    peer.send(GET.repeat(count));
    await watch.end(1);
    for (let last = 0, quiet = 0; quiet < 200; quiet++) {
      await turn();
      if (watch.ended.length !== last) quiet = 0;
      last = watch.ended.length;
    }
    assert.ok(watch.ended.length < count, "not all are answered yet");
    peer.socket.resume();
    await watch.end(count);
    assert.ok(watch.ended.every(({ outcome }) => outcome.error === undefined));
    assert.equal(origin.connections.length, 1);
  });

  test(`${forwarder}: an interim response has no length, whatever it says`, async (t) => {
    const answer = "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    const { peer } = await start(t, forwarder, "64KiB", answer);
    peer.send(GET);
    const text = await peer.until((text) => / 204 .*\r\n(.+\r\n)*\r\n$/.test(text));
    assert.match(text, /^HTTP\/1\.1 103 Early Hints\r\n(.+\r\n)*Link: <\/a>\r\n/);
    assert.doesNotMatch(text, /content-length/i);
  });

  test(`${forwarder}: an upstream that greets in another protocol gets no time to finish its head`, async (t) => {
    const { peer } = await start(t, forwarder, "64KiB", "SSH-2.0-OpenSSH_9.2\r\n");
    peer.send(GET);
    assert.match(await peer.until((text) => text.endsWith("\n") && text.includes("HF_")), /^HTTP\/1\.1 502 /);
  });
}

test("wire: interim responses without end do not pile up for a peer that does not read", async (t) => {
  const hint = filled("HTTP/1.1 103 Early Hints", 1000);
  const origin = await rawOrigin(t, ({ socket }) => {
    const send = (): void => {
      while (!socket.destroyed && socket.write(hint));
    };
    socket.on("drain", send);
    send();
  });
  const watch = observer();
  const plugins = [{ plugin: watch.plugin }];
  const config = { forwarder: "wire", limits: { head: "16MiB" } };
  const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  peer.socket.pause();
  peer.send(GET);
  await origin.connected(1);
  const { socket } = watch.opened.find(({ side }) => side === "downstream") as unknown as {
    readonly socket: { readonly writableLength: number };
  };
  // As much as goes is taken, until nothing moves for many turns.
  const upstream = (): number => watch.opened.find(({ side }) => side === "upstream")?.bytesRead ?? 0;
  let last = -1;
  for (let quiet = 0; quiet < 200 && socket.writableLength < 1_000_000; quiet++) {
    await turn();
    if (upstream() !== last) quiet = 0;
    last = upstream();
  }
  assert.ok(last > 0);
  assert.ok(socket.writableLength < 300_000, `${socket.writableLength} bytes wait for the peer`);
  // Reading again moves it again.
  peer.socket.resume();
  while (upstream() < last + 1_000_000) await turn();
  peer.socket.destroy();
});
