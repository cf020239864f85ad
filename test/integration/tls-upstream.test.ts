import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { after, type TestContext } from "node:test";
import tls, { type TLSSocket } from "node:tls";
import { Worker } from "node:worker_threads";
import { definePlugin } from "../../src/plugin/api.ts";
import { authority, type Pair, writePem } from "../support/certificates.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const failed = (text: string): boolean => /\r\n\r\n5\d\d HF_\w+\n$/.test(text);
const answered = (text: string): boolean => text.endsWith("\r\n\r\nok");

const folder = mkdtempSync(path.join(tmpdir(), "holdfast-tls-"));
after(() => rmSync(folder, { recursive: true }));
const ours = await authority("our authority");
const theirs = await authority("somebody else's authority");
const good = await ours.issue({ name: "good", hosts: ["127.0.0.1", "origin.internal"] });
const ca = writePem(folder, "ca.pem", ours.cert);

interface TlsOrigin {
  readonly port: number;
  readonly sockets: readonly TLSSocket[];
  /** Whether each connection resumed a session. */
  readonly resumed: readonly boolean[];
}

async function tlsOrigin(t: TestContext, pair: Pair, options: tls.TlsOptions = {}): Promise<TlsOrigin> {
  const sockets: TLSSocket[] = [];
  const resumed: boolean[] = [];
  const server = tls.createServer({ ...pair, ...options }, (socket) => {
    sockets.push(socket);
    resumed.push(socket.isSessionReused());
    socket.on("error", () => {});
    let text = "";
    socket.on("data", (bytes: Buffer) => {
      text += bytes.toString("latin1");
      if (!text.endsWith("\r\n\r\n")) return;
      if (text.includes("/close")) socket.end();
      else socket.write(OK);
      text = "";
    });
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { port: (server.address() as AddressInfo).port, sockets, resumed };
}

async function setting(t: TestContext, forwarder: string, port: number, settings: object) {
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream: "secure",
    plugins: [{ plugin: watch.plugin }],
    config: { forwarder, backends: { secure: { address: "127.0.0.1", port, tls: settings } } },
  });
  return { watch, peer: await RawPeer.connect(t, sidecar.inbound) };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: an https upstream is verified against ca; the connection is secure and reused`, async (t) => {
    const origin = await tlsOrigin(t, good);
    const { watch, peer } = await setting(t, forwarder, origin.port, { ca });
    for (let round = 1; round <= 3; round++) {
      peer.received = "";
      peer.send(GET);
      await peer.until(answered);
    }
    assert.equal(origin.sockets.length, 1);
    const [upstream] = watch.opened.filter(({ side }) => side === "upstream");
    assert.equal(upstream!.secure, true);
    assert.equal(upstream!.exchanges, 3);
    assert.match(String(upstream!.setup.tlsVersion), /^TLSv1\.[23]$/);
    assert.ok(upstream!.setup.connectMs !== undefined && upstream!.setup.tlsMs !== undefined);
    assert.equal(upstream!.setup.tlsResumed, false);
    assert.ok(upstream!.bytesWritten > 0 && upstream!.bytesRead > 0);
    assert.equal(origin.sockets[0]!.alpnProtocol || "http/1.1", "http/1.1");
  });

  for (const [what, make] of Object.entries({
    "an unknown authority": () => theirs.issue({ name: "unknown", hosts: ["127.0.0.1"] }),
    "an expired certificate": () => ours.issue({ name: "late", hosts: ["127.0.0.1"], expired: true }),
    "a certificate for another host": () => ours.issue({ name: "other", hosts: ["other.internal"] }),
  })) {
    test(`${forwarder}: ${what} is refused: 502 tls_certificate_error, and nothing was sent`, async (t) => {
      const origin = await tlsOrigin(t, await make());
      const { watch, peer } = await setting(t, forwarder, origin.port, { ca });
      // Twice: what one handshake left behind must not let the next one in.
      for (let round = 1; round <= 2; round++) {
        peer.received = "";
        peer.send(GET);
        const text = await peer.until(failed);
        assert.match(text, /^HTTP\/1\.1 502 Bad Gateway\r\n/);
        assert.match(
          text,
          /\r\nProxy-Status: holdfast-test; error=tls_certificate_error; details="HF_UPSTREAM_CERTIFICATE"\r\n/,
        );
        const { reason, connection } = await watch.closedOn("upstream", round);
        assert.equal(reason, "connect_failed");
        assert.match(String(connection.error), /certificate of 127\.0\.0\.1:\d+ refused/);
      }
      assert.ok(origin.sockets.every(({ bytesRead }) => bytesRead === 0));
    });
  }

  test(`${forwarder}: an upstream without a common cipher: 502 tls_protocol_error`, async (t) => {
    const origin = await tlsOrigin(t, good, {
      minVersion: "TLSv1.3",
      maxVersion: "TLSv1.3",
      ciphers: "TLS_AES_128_CCM_SHA256",
    });
    const { peer } = await setting(t, forwarder, origin.port, { ca });
    peer.send(GET);
    const text = await peer.until(failed);
    assert.match(text, /\r\nProxy-Status: holdfast-test; error=tls_protocol_error; details="HF_UPSTREAM_TLS"\r\n/);
  });

  test(`${forwarder}: serverName is asked for and verified instead of the host`, async (t) => {
    const named = await ours.issue({ name: "named", hosts: ["origin.internal"] });
    const origin = await tlsOrigin(t, named);
    const { peer } = await setting(t, forwarder, origin.port, { ca, serverName: "origin.internal" });
    peer.send(GET);
    await peer.until(answered);
    assert.equal(origin.sockets[0]!.servername, "origin.internal");
  });

  test(`${forwarder}: a client certificate is presented where the upstream asks for one`, async (t) => {
    const client = await ours.issue({ name: "our service" });
    const origin = await tlsOrigin(t, good, { requestCert: true, rejectUnauthorized: true, ca: ours.cert });
    const cert = writePem(folder, `client-${forwarder}.pem`, client.cert);
    const key = writePem(folder, `client-${forwarder}.key`, client.key);
    const { peer } = await setting(t, forwarder, origin.port, { ca, cert, key });
    peer.send(GET);
    await peer.until(answered);
    assert.equal(origin.sockets[0]!.authorized, true);
    assert.equal(origin.sockets[0]!.getPeerCertificate().subject.CN, "our service");

    const without = await setting(t, forwarder, origin.port, { ca });
    without.peer.send(GET);
    assert.match(await without.peer.until(failed), /^HTTP\/1\.1 502 /);
    assert.equal(origin.sockets.length, 1);
  });

  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    test(`${forwarder}: ${version} sessions are resumed, as the origin sees it`, async (t) => {
      const origin = await tlsOrigin(t, good, { minVersion: version, maxVersion: version });
      const { watch, peer } = await setting(t, forwarder, origin.port, { ca });
      for (let round = 1; round <= 3; round++) {
        peer.received = "";
        peer.send(GET);
        await peer.until(answered);
        await watch.until(() => watch.idled("upstream") === round);
        // The next request needs a connection of its own.
        origin.sockets[round - 1]!.end();
        await watch.closedOn("upstream", round);
      }
      assert.deepEqual(origin.resumed, [false, true, true]);
      const upstream = watch.opened.filter(({ side }) => side === "upstream");
      assert.deepEqual(
        upstream.map(({ setup }) => setup.tlsResumed),
        [false, true, true],
      );
      assert.ok(watch.closed.every(({ reason }) => reason === "peer_closed"));
    });
  }

  test(`${forwarder}: a stale TLS connection is retried like any other`, async (t) => {
    const origin = await tlsOrigin(t, good);
    const { watch, peer } = await setting(t, forwarder, origin.port, { ca });
    peer.send(GET);
    await peer.until(answered);
    await watch.until(() => watch.idled("upstream") === 1);
    peer.received = "";
    peer.send("GET /close HTTP/1.1\r\nHost: h\r\n\r\n");
    await peer.until(failed);
    const { outcome, exchange } = await watch.end(2);
    assert.equal(outcome.stale, "retried");
    assert.equal(exchange.attempts, 2);
    assert.equal(origin.sockets.length, 2);
  });

  test(`${forwarder}: a large body goes through TLS whole, both ways`, async (t) => {
    const body = "0123456789abcdef".repeat(200_000);
    const sockets: TLSSocket[] = [];
    const server = tls.createServer(good, (socket) => {
      sockets.push(socket);
      let text = "";
      socket.on("data", (bytes: Buffer) => {
        text += bytes.toString("latin1");
        const start = text.indexOf("\r\n\r\n") + 4;
        if (start > 3 && text.length - start === body.length) {
          socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${text.slice(start)}`);
        }
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    const { peer } = await setting(t, forwarder, (server.address() as AddressInfo).port, { ca });
    peer.send(`POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    const text = await peer.until((received) => received.endsWith(body));
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
  });

  test(`${forwarder}: WebSocket-like upgrades go through TLS`, async (t) => {
    const server = tls.createServer(good, (socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        socket.on("data", (bytes) => socket.write(bytes));
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => void server.close());
    const { watch, peer } = await setting(t, forwarder, (server.address() as AddressInfo).port, { ca });
    peer.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\n"));
    peer.send("there and back");
    await peer.until((text) => text.endsWith("there and back"));
    peer.socket.end();
    const { outcome } = await watch.end();
    assert.equal(outcome.error, undefined);
  });
}

/** What a worker runs: an origin that answers while this thread is busy. */
const WORKER = `
  const { parentPort, workerData } = require("node:worker_threads");
  const server = require("node:tls").createServer(workerData.pair, (socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.write(workerData.response));
  });
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
`;

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: an https connection is reused after a response that was there at once`, async (t) => {
    const worker = new Worker(WORKER, { eval: true, workerData: { pair: good, response: OK } });
    t.after(() => worker.terminate());
    const [port] = (await once(worker, "message")) as [number];
    // After the request has left, nothing else happens before its response is there.
    const busy = definePlugin({
      name: "busy",
      apiVersion: 1,
      description: "Keeps the thread busy while the origin answers",
      config: {},
      setup: () => ({
        exchange: () => ({
          upstreamConnected() {
            queueMicrotask(() => setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)));
          },
        }),
      }),
    });
    const sidecar = await testSidecar(t, {
      upstream: "secure",
      plugins: [{ plugin: busy }],
      config: { forwarder, backends: { secure: { address: "127.0.0.1", port, tls: { ca } } } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    for (let count = 1; count <= 3; count++) {
      peer.send(GET);
      await peer.until((text) => text.split("\r\n\r\nok").length === count + 1);
    }
    const upstream = [...sidecar.sidecar.view.connections()].filter(({ side }) => side === "upstream");
    assert.deepEqual(
      upstream.map(({ exchanges }) => exchanges),
      [3],
    );
  });
}
