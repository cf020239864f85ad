import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import net, { type AddressInfo, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { definePlugin } from "../../src/plugin/api.ts";
import { httpOrigin } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

/** A TCP server that is told of each connection. */
async function tcpOrigin(t: TestContext, accept: (socket: Socket) => void): Promise<string> {
  const sockets: Socket[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    accept(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Writes all of it, waiting where it has to, then ends. */
async function writeAll(socket: Socket, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 50_000) {
    if (!socket.write(bytes.subarray(at, at + 50_000))) await once(socket, "drain");
  }
  socket.end();
}

/** Digest of everything up to the end. */
async function digestOf(socket: Socket, hash = createHash("sha256")): Promise<string> {
  socket.on("data", (bytes: Buffer) => hash.update(bytes));
  await once(socket, "end");
  return hash.digest("hex");
}

const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
const ESTABLISHED = /^HTTP\/1\.1 200 [^\r\n]+\r\n\r\n$/;

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a tunnel carries large random bytes both ways at once, and ends on each side alone`, async (t) => {
    const up = randomBytes(3_000_000);
    const down = randomBytes(4_000_000);
    const arrived = Promise.withResolvers<string>();
    const address = await tcpOrigin(t, (socket) => {
      digestOf(socket).then(arrived.resolve, arrived.reject);
      void writeAll(socket, down);
    });
    const sidecar = await testSidecar(t, { config: { forwarder } });
    const { hostname, port } = new URL(sidecar.outbound);
    const socket = net.connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    t.after(() => socket.destroy());
    socket.write(`CONNECT ${address} HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
    const chunks: Buffer[] = [];
    while (!Buffer.concat(chunks).includes("\r\n\r\n")) chunks.push((await once(socket, "data"))[0] as Buffer);
    const begun = Buffer.concat(chunks);
    const end = begun.indexOf("\r\n\r\n") + 4;
    assert.match(begun.toString("latin1", 0, end), ESTABLISHED);
    const received = digestOf(socket, createHash("sha256").update(begun.subarray(end)));
    await writeAll(socket, up);
    assert.equal(await received, sha256(down));
    assert.equal(await arrived.promise, sha256(up));
    while ([...sidecar.sidecar.view.connections()].length > 0) await turn();
  });

  test(`${forwarder}: bytes that come with the head of CONNECT are the first in the tunnel`, async (t) => {
    const address = await tcpOrigin(t, (socket) => socket.pipe(socket));
    const sidecar = await testSidecar(t, { config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`CONNECT ${address} HTTP/1.1\r\nHost: ${address}\r\n\r\nearly\0\r\n\r\nGET / HTTP/1.1\r\n\r\n`);
    peer.send("later");
    const text = await peer.until((received) => received.endsWith("later"));
    assert.match(text, /^HTTP\/1\.1 200 [^\r\n]+\r\n\r\nearly\0\r\n\r\nGET \/ HTTP\/1\.1\r\n\r\nlater$/);
  });

  for (const who of ["downstream", "upstream"] as const) {
    test(`${forwarder}: when ${who} ends its side, the other can still send`, async (t) => {
      const accepted = Promise.withResolvers<Socket>();
      const address = await tcpOrigin(t, accepted.resolve);
      const sidecar = await testSidecar(t, { config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.outbound);
      peer.send(`CONNECT ${address} HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
      await peer.until((text) => ESTABLISHED.test(text));
      const origin = await accepted.promise;
      if (who === "downstream") {
        let arrived = "";
        origin.on("data", (bytes: Buffer) => {
          arrived += bytes.toString();
        });
        peer.socket.end("last words");
        await once(origin, "end");
        assert.equal(arrived, "last words");
        origin.write("still here");
        await peer.until((text) => text.endsWith("still here"));
        origin.end();
      } else {
        origin.end("last words");
        assert.match(await peer.untilEnd(), /last words$/);
        peer.send("still here");
        const [bytes] = await once(origin, "data");
        assert.equal(String(bytes), "still here");
        peer.socket.end();
      }
      while ([...sidecar.sidecar.view.connections()].length > 0) await turn();
    });

    test(`${forwarder}: when ${who} resets, so do we on the other side`, async (t) => {
      const accepted = Promise.withResolvers<Socket>();
      const address = await tcpOrigin(t, accepted.resolve);
      const sidecar = await testSidecar(t, { config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.outbound);
      peer.send(`CONNECT ${address} HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
      await peer.until((text) => ESTABLISHED.test(text));
      const origin = await accepted.promise;
      const [breaks, other] = who === "downstream" ? [peer.socket, origin] : [origin, peer.socket];
      const failed = Promise.withResolvers<NodeJS.ErrnoException>();
      other.on("error", failed.resolve);
      other.resume();
      breaks.resetAndDestroy();
      assert.equal((await failed.promise).code, "ECONNRESET");
    });
  }

  test(`${forwarder}: a tunnel can follow ordinary requests on a connection, also in one segment with them`, async (t) => {
    const address = await tcpOrigin(t, (socket) => socket.pipe(socket));
    const origin = await httpOrigin(t);
    const { host } = new URL(origin.url);
    const sidecar = await testSidecar(t, { config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    const get = `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
    peer.send(get);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    peer.send(`${get}CONNECT ${address} HTTP/1.1\r\nHost: ${address}\r\n\r\nearly`);
    for (const byte of "later") {
      await turn();
      peer.send(byte);
    }
    const text = await peer.until((received) => received.endsWith("earlylater"));
    assert.match(text, /\r\n\r\nokHTTP\/1\.1 200 [\s\S]*\r\n\r\nokHTTP\/1\.1 200 [^\r\n]+\r\n\r\nearlylater$/);
  });

  test(`${forwarder}: inbound refuses CONNECT, and reads nothing after it as a request`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 405 Method Not Allowed\r\n/);
    assert.match(answer, /\r\nConnection: close\r\n/i);
    assert.equal(answer.split("HTTP/1.1 ").length, 2);
    assert.equal(origin.requests.length, 0);
  });

  test(`${forwarder}: CONNECT to where no route leads gets 403, to where nobody listens 502; both close`, async (t) => {
    const closed = net.createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const { port } = closed.address() as AddressInfo;
    closed.close();
    await once(closed, "close");
    for (const [unmatched, status] of [
      ["deny", 403],
      ["pass", 502],
    ] as const) {
      const sidecar = await testSidecar(t, { config: { forwarder, outbound: { unmatched } } });
      const peer = await RawPeer.connect(t, sidecar.outbound);
      const request = `CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
      peer.send(`${request}${request}`);
      const answer = await peer.untilEnd();
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
      assert.match(answer, /\r\nConnection: close\r\n/i);
      assert.equal(answer.split("HTTP/1.1 ").length, 2);
    }
  });

  test(`${forwarder}: a plugin can answer CONNECT itself, and may fail at it`, async (t) => {
    for (const [fails, status] of [
      [false, 407],
      [true, 500],
    ] as const) {
      const plugin = definePlugin({
        name: "asks",
        apiVersion: 1,
        description: "asks who it is",
        config: {},
        setup: () => ({
          exchange: () => ({
            request: () => ({ status: 407, headers: [["Proxy-Authenticate", "Basic"]], body: "who?" }),
            response() {
              if (fails) throw new Error("no");
            },
          }),
        }),
      });
      const sidecar = await testSidecar(t, { plugins: [{ plugin, onError: "fail" }], config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.outbound);
      peer.send("CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n");
      const answer = await peer.untilEnd();
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
      if (!fails) assert.match(answer, /\r\nProxy-Authenticate: Basic\r\n[\s\S]*\r\n\r\nwho\?$/);
    }
  });

  test(`${forwarder}: a peer that leaves while the tunnel is being opened leaves nothing behind`, async (t) => {
    const address = await tcpOrigin(t, (socket) => socket.resume());
    const plugin = definePlugin({
      name: "holds",
      apiVersion: 1,
      description: "holds requests",
      config: {},
      setup: () => ({ exchange: () => ({ request: () => held.promise }) }),
    });
    const held = Promise.withResolvers<void>();
    const sidecar = await testSidecar(t, { plugins: [{ plugin }], config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`CONNECT ${address} HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
    while ([...sidecar.sidecar.view.connections()].every(({ state }) => state !== "active")) await turn();
    peer.socket.resetAndDestroy();
    held.resolve();
    while ([...sidecar.sidecar.view.connections()].length > 0) await turn();
  });
}
