import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { after, type TestContext } from "node:test";
import tls, { type TLSSocket } from "node:tls";
import { authority, writePem } from "../support/certificates.ts";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { type Observer, observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const answered = (text: string): boolean => text.endsWith("\r\n\r\nok");

const folder = mkdtempSync(path.join(tmpdir(), "holdfast-tls-"));
after(() => rmSync(folder, { recursive: true }));
const ours = await authority("our authority");
const theirs = await authority("somebody else's authority");
const server = await ours.issue({ name: "server", hosts: ["127.0.0.1"] });
const client = await ours.issue({ name: "client" });
const stranger = await theirs.issue({ name: "stranger" });
const files = {
  cert: writePem(folder, "cert.pem", server.cert),
  key: writePem(folder, "key.pem", server.key),
};
const clientCa = writePem(folder, "ca.pem", ours.cert);

interface Setting {
  readonly watch: Observer;
  readonly port: number;
  readonly log: readonly Record<string, unknown>[];
  /** Resolves when the sidecar has said something like this. */
  logged(pattern: RegExp): Promise<Record<string, unknown>>;
}

async function setting(
  t: TestContext,
  upstream: string,
  forwarder: string,
  settings: object = {},
  options: { plugins?: object[]; inbound?: object } = {},
): Promise<Setting> {
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream,
    plugins: [{ plugin: watch.plugin }, ...((options.plugins ?? []) as { use: string }[])],
    config: { forwarder, inbound: { tls: { ...files, ...settings }, ...options.inbound } },
  });
  const find = (pattern: RegExp) => sidecar.log.find(({ msg }) => pattern.test(String(msg)));
  return {
    watch,
    port: Number(new URL(sidecar.inbound).port),
    log: sidecar.log,
    async logged(pattern) {
      while (find(pattern) === undefined) await new Promise((resolve) => setImmediate(resolve));
      return find(pattern)!;
    },
  };
}

function begin(t: TestContext, port: number, options: tls.ConnectionOptions = {}): TLSSocket {
  const socket = tls.connect({ host: "127.0.0.1", port, ca: ours.cert, ...options });
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  return socket;
}

async function secure(t: TestContext, port: number, options: tls.ConnectionOptions = {}): Promise<RawPeer> {
  const socket = begin(t, port, options);
  const peer = RawPeer.over(t, socket);
  await once(socket, "secureConnect");
  return peer;
}

/** Why a peer never got through. */
async function refused(t: TestContext, { watch, port }: Setting, options: tls.ConnectionOptions): Promise<string> {
  const before = watch.closed.length;
  const peer = RawPeer.over(t, begin(t, port, options));
  peer.send(GET);
  assert.equal(await peer.untilEnd(), "");
  await watch.until(({ closed }) => closed.length > before);
  const { connection, reason } = watch.closed[before]!;
  assert.equal(connection.side, "downstream");
  assert.equal(connection.exchanges, 0);
  assert.equal(reason, "connect_failed");
  return connection.error!.message;
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: requests over TLS are served on one connection, and the upstream is told`, async (t) => {
    const origin = await httpOrigin(t);
    const { watch, port } = await setting(t, origin.url, forwarder);
    const peer = await secure(t, port);
    for (let round = 0; round < 3; round++) {
      peer.received = "";
      peer.send(GET);
      await peer.until(answered);
    }
    assert.equal(origin.requests.length, 3);
    assert.deepEqual(valuesOf(origin.requests[0]!.fields, "x-forwarded-proto"), ["https"]);
    const downstream = watch.opened.filter(({ side }) => side === "downstream");
    assert.equal(downstream.length, 1);
    const [connection] = downstream;
    assert.equal(connection!.secure, true);
    assert.equal(connection!.protocol, "http/1.1");
    assert.equal(connection!.exchanges, 3);
    assert.equal(connection!.setup.tlsVersion, "TLSv1.3");
    assert.equal(connection!.setup.tlsResumed, false);
    assert.ok(connection!.setup.tlsMs! > 0);
    assert.equal(connection!.remotePort, (peer.socket as TLSSocket).localPort);
    peer.socket.end();
    assert.equal((await watch.closedOn("downstream")).reason, "peer_closed");
  });

  test(`${forwarder}: a session is resumed by its ticket`, async (t) => {
    const origin = await httpOrigin(t);
    const { watch, port } = await setting(t, origin.url, forwarder);
    const first = begin(t, port);
    const [session] = (await once(first, "session")) as [Buffer];
    const second = await secure(t, port, { session });
    assert.equal((second.socket as TLSSocket).isSessionReused(), true);
    second.send(GET);
    await second.until(answered);
    assert.equal(watch.ended[0]!.exchange.downstream.setup.tlsResumed, true);
  });

  test(`${forwarder}: bodies of any kind and size pass both ways`, async (t) => {
    const size = 3_000_000;
    const origin = await httpOrigin(t, (_request, response, seen) => response.end(seen.body, "latin1"));
    const { port } = await setting(t, origin.url, forwarder);
    const peer = await secure(t, port);
    const body = Buffer.alloc(size, "0123456789abcdef").toString("latin1");
    peer.send(`POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ${size}\r\n\r\n${body}`);
    const answer = await peer.until((text) => text.length > size && text.endsWith(body.slice(-1000)));
    assert.ok(answer.endsWith(`\r\n\r\n${body}`));
    peer.received = "";
    peer.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nhello"));
  });

  test(`${forwarder}: an upgrade passes on, in the middle of a connection`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, head) => {
      if (!head.includes("Upgrade: echo")) {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        return;
      }
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
      socket.on("data", (bytes: Buffer) => socket.write(bytes));
    });
    const { port } = await setting(t, origin.url, forwarder);
    const peer = await secure(t, port);
    peer.send(GET);
    await peer.until(answered);
    peer.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    await peer.until((text) => text.includes(" 101 ") && text.endsWith("\r\n\r\n"));
    peer.send("\x00over and back");
    await peer.until((text) => text.endsWith("\r\n\r\n\x00over and back"));
    peer.socket.end();
    await peer.untilEnd();
  });
}

test("wire: a peer that ends its side after its request still gets the answer", async (t) => {
  const origin = await httpOrigin(t);
  const { port } = await setting(t, origin.url, "wire");
  const peer = await secure(t, port, { allowHalfOpen: true } as tls.ConnectionOptions);
  peer.socket.end(GET);
  assert.ok(answered(await peer.untilEnd()));
});

test("a peer must show a certificate of clientCa, where one is required", async (t) => {
  const origin = await httpOrigin(t);
  const at = await setting(t, origin.url, "wire", { clientCa });
  assert.match(await refused(t, at, {}), /PEER_DID_NOT_RETURN_A_CERTIFICATE|peer did not return a certificate/i);
  assert.match(await refused(t, at, stranger), /client certificate was refused/);
  assert.match(
    await refused(t, at, await ours.issue({ name: "late", expired: true })),
    /client certificate was refused: CERT_HAS_EXPIRED/,
  );
  const peer = await secure(t, at.port, client);
  peer.send(GET);
  await peer.until(answered);
  assert.equal(origin.requests.length, 1);
});

test("where a certificate is optional, none will do, but a wrong one will not", async (t) => {
  const origin = await httpOrigin(t);
  const at = await setting(t, origin.url, "wire", { clientCa, requireClientCertificate: false });
  assert.match(await refused(t, at, stranger), /client certificate was refused/);
  for (const options of [{}, client]) {
    const peer = await secure(t, at.port, options);
    peer.send(GET);
    await peer.until(answered);
  }
  assert.equal(origin.requests.length, 2);
});

test("the oldest version that is spoken can be raised", async (t) => {
  const origin = await httpOrigin(t);
  const at = await setting(t, origin.url, "wire", { minVersion: "TLSv1.3" });
  assert.match(await refused(t, at, { maxVersion: "TLSv1.2" }), /the TLS handshake failed: unsupported protocol/);
  const { watch, port } = await setting(t, origin.url, "wire");
  const peer = await secure(t, port, { maxVersion: "TLSv1.2" });
  peer.send(GET);
  await peer.until(answered);
  assert.equal(watch.ended[0]!.exchange.downstream.setup.tlsVersion, "TLSv1.2");
});

test("ALPN offers http/1.1, and h2 only where HTTP/2 is taken", async (t) => {
  const origin = await httpOrigin(t);
  const { port } = await setting(t, origin.url, "wire", {}, { inbound: { http2: false } });
  const peer = await secure(t, port, { ALPNProtocols: ["h2", "http/1.1"] });
  assert.equal((peer.socket as TLSSocket).alpnProtocol, "http/1.1");
  peer.send(GET);
  await peer.until(answered);
});

test("what is not TLS is refused and logged with its peer, and nothing else suffers", async (t) => {
  const origin = await httpOrigin(t);
  const { watch, port, logged } = await setting(t, origin.url, "wire");
  const plain = await RawPeer.connect(t, `http://127.0.0.1:${port}`);
  plain.send(GET);
  await plain.untilEnd();
  const line = await logged(/^refused: the TLS handshake failed: /);
  assert.equal(line["code"], "HF_DOWNSTREAM_TLS");
  assert.equal(line["peer"], "127.0.0.1");
  const { reason, connection } = await watch.closedOn("downstream");
  assert.equal(reason, "connect_failed");
  assert.equal(connection.exchanges, 0);
  assert.equal(watch.ended.length, 0);
  const peer = await secure(t, port);
  peer.send(GET);
  await peer.until(answered);
});

test("a peer that goes away before or during the handshake harms nothing", async (t) => {
  const origin = await httpOrigin(t);
  const { watch, port, log } = await setting(t, origin.url, "wire");
  const silent = await RawPeer.connect(t, `http://127.0.0.1:${port}`);
  await watch.until(({ opened }) => opened.length === 1);
  silent.socket.end();
  assert.equal((await watch.closedOn("downstream", 1)).reason, "connect_failed");
  // A probe of the port is nothing to report.
  assert.ok(!log.some(({ msg }) => String(msg).startsWith("refused")));
  const broken = await RawPeer.connect(t, `http://127.0.0.1:${port}`);
  broken.send("\x16\x03\x01");
  broken.socket.resetAndDestroy();
  assert.equal((await watch.closedOn("downstream", 2)).reason, "connect_failed");
});

test("a handshake counts as a part of the head's time, and its connection counts against limits", async (t) => {
  const origin = await httpOrigin(t);
  const limits = { use: "connection-limits", config: { headTimeout: "150ms", maxConnections: 1 } };
  const { watch, port, logged } = await setting(t, origin.url, "wire", {}, { plugins: [limits] });
  const slow = await RawPeer.connect(t, `http://127.0.0.1:${port}`);
  slow.send("\x16\x03\x01\x02");
  await watch.until(({ opened }) => opened.length === 1);
  const over = RawPeer.over(t, begin(t, port));
  over.send(GET);
  assert.match(await over.untilEnd(), /^HTTP\/1\.1 503 /);
  await slow.untilEnd();
  assert.equal((await logged(/the TLS handshake was not over within 150 ms/))["code"], "HF_REQUEST_TIMEOUT");
  await watch.until(({ closed }) => closed.some(({ reason }) => reason === "request_timeout"));
});

test("a drain does not wait for handshakes", async (t) => {
  const origin = await httpOrigin(t);
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    plugins: [{ plugin: watch.plugin }],
    config: { inbound: { tls: files } },
  });
  const silent = net.connect(Number(new URL(sidecar.inbound).port), "127.0.0.1");
  t.after(() => silent.destroy());
  const peer = await secure(t, Number(new URL(sidecar.inbound).port));
  peer.send(GET);
  await peer.until(answered);
  await watch.until(({ opened }) => opened.filter(({ side }) => side === "downstream").length === 2);
  assert.deepEqual(await sidecar.sidecar.drain(), { cut: 0 });
  assert.ok(answered(await peer.untilEnd()));
  assert.deepEqual(
    watch.closed.filter(({ connection }) => connection.side === "downstream").map(({ reason }) => reason),
    ["drain", "drain"],
  );
});
