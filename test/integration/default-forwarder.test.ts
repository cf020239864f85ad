/**
 * A configuration that names no forwarder, with every built-in plugin: `wire` carries plain HTTP/1.x, and what leaves
 * it passes too, in the middle of a connection.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { authority, writePem } from "../support/certificates.ts";
import { httpOrigin } from "../support/http-origin.ts";
import { ask, http2Peer } from "../support/http2-peer.ts";
import { observer } from "../support/observer.ts";
import { RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const PLUGINS = [
  { use: "keep-alive" },
  { use: "tcp-keepalive" },
  { use: "idle-timeout" },
  { use: "connection-limits" },
  { use: "connection-close-on-logout", config: { match: [{ method: "POST", path: "/logout" }] } },
];
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SWITCHING = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: odd/1\r\n\r\n";

test("an upgrade behind plain requests, in one segment with them, loses no byte either way", async (t) => {
  const origin = await rawOrigin(t, ({ socket }, head) => {
    if (!head.startsWith("GET /up ")) {
      socket.write(OK);
      return;
    }
    socket.write(`${SWITCHING}first`);
    socket.on("data", (bytes: Buffer) => socket.write(bytes));
  });
  const watch = observer();
  const sidecar = await testSidecar(t, { upstream: origin.url, plugins: [...PLUGINS, { plugin: watch.plugin }] });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  peer.send("GET /0 HTTP/1.1\r\nHost: h\r\n\r\n");
  await peer.until((text) => text.endsWith("\r\n\r\nok"));
  const upgrade = "GET /up HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: odd/1\r\n\r\n";
  peer.send(
    `GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc${upgrade}\x00`,
  );
  await peer.until((text) => text.includes("first\x00"));
  const echoed = "\x00\xff".repeat(100_000);
  peer.send(echoed);
  const received = await peer.until((text) => text.endsWith(`first\x00${echoed}`));
  assert.deepEqual(received.match(/HTTP\/1\.1 \d+/g), [...Array(3).fill("HTTP/1.1 200"), "HTTP/1.1 101"]);
  assert.equal(watch.opened.filter(({ side }) => side === "downstream").length, 1);
});

test("HTTP/2 by prior knowledge and by ALPN, and HTTP/1.1 beside it on the same listener", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-default-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const ours = await authority("our authority");
  const pair = await ours.issue({ name: "server", hosts: ["127.0.0.1"] });
  const tls = { cert: writePem(folder, "cert.pem", pair.cert), key: writePem(folder, "key.pem", pair.key) };
  for (const inbound of [{}, { tls }]) {
    const origin = await httpOrigin(t, (_request, response, seen) => response.end(seen.body, "latin1"));
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [...PLUGINS, { plugin: watch.plugin }],
      config: { inbound },
    });
    const session = await http2Peer(t, sidecar.inbound, { ca: ours.cert });
    const answers = await Promise.all(
      ["one", "two", "three"].map((body) => ask(session, { ":method": "POST", ":path": "/" }, body)),
    );
    assert.deepEqual(
      answers.map(({ status, body }) => [status, body]),
      [
        [200, "one"],
        [200, "two"],
        [200, "three"],
      ],
    );
    if (sidecar.inbound.startsWith("http:")) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nfour");
      await peer.until((text) => text.endsWith("\r\n\r\nfour"));
    }
    await watch.end(sidecar.inbound.startsWith("http:") ? 4 : 3);
    assert.equal(watch.ended[0]!.exchange.request.version, "2");
  }
});

test("CONNECT behind plain requests, in one segment with them and with the tunnel's first bytes", async (t) => {
  const origin = await httpOrigin(t);
  const echo = net.createServer((socket) => socket.pipe(socket));
  echo.listen(0, "127.0.0.1");
  await once(echo, "listening");
  t.after(() => echo.close());
  const sidecar = await testSidecar(t, { plugins: PLUGINS });
  const peer = await RawPeer.connect(t, sidecar.outbound);
  const { host } = new URL(origin.url);
  const authorityForm = `127.0.0.1:${(echo.address() as AddressInfo).port}`;
  peer.send(
    `GET http://${host}/a HTTP/1.1\r\nHost: ${host}\r\n\r\nCONNECT ${authorityForm} HTTP/1.1\r\nHost: ${authorityForm}\r\n\r\n\x00early`,
  );
  const received = await peer.until((text) => text.endsWith("\x00early"));
  assert.deepEqual(received.match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 200"]);
  peer.send("more");
  await peer.until((text) => text.endsWith("\x00earlymore"));
});
