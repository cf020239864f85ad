import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin } from "../support/peers.ts";
import { type Running, runSidecar } from "./running.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: orders\r\n\r\n";
const LISTEN = "127.0.0.1:0";
const OUTBOUND_WAITS = "inbound is drained; outbound stays open until SIGTERM or the deadline";

/** An origin that answers at once, and the answers' number. */
async function answering(t: TestContext): Promise<string> {
  return (await rawOrigin(t, ({ socket }) => socket.write(OK))).url;
}

/** An origin that never answers by itself: each request comes out of `next()`. */
async function held(t: TestContext): Promise<{ url: string; next: () => Promise<OriginConnection> }> {
  const waiting: ((connection: OriginConnection) => void)[] = [];
  const came: OriginConnection[] = [];
  const { url } = await rawOrigin(t, (connection) => {
    const take = waiting.shift();
    if (take === undefined) came.push(connection);
    else take(connection);
  });
  return {
    url,
    next() {
      const connection = came.shift();
      return connection === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(connection);
    },
  };
}

/** Sends a request and resolves with the response of two bytes. */
async function ask(t: TestContext, url: string, target = "/"): Promise<string> {
  const peer = await RawPeer.connect(t, url);
  peer.send(`GET ${target} HTTP/1.1\r\nHost: orders\r\n\r\n`);
  const response = await peer.until((text) => text.endsWith("\r\n\r\nok"));
  peer.socket.destroy();
  return response;
}

/** Everything that came until the sidecar closed the connection; then our side closes too. */
async function rest(peer: RawPeer): Promise<string> {
  const received = await peer.untilEnd();
  peer.socket.destroy();
  return received;
}

async function isRefused(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const socket = net.connect(Number(port), hostname);
  const refused = await once(socket, "connect").then(
    () => false,
    () => true,
  );
  socket.destroy();
  return refused;
}

/** Resolves once the sidecar has read so many bytes from its one downstream connection. */
async function read({ admin }: Running, bytes: number): Promise<void> {
  for (;;) {
    const answer = await fetch(`${admin}/connections?side=downstream`);
    const { connections } = (await answer.json()) as { connections: { bytes: { read: number } }[] };
    if (connections[0]?.bytes.read === bytes) return;
  }
}

function forcedOrNot(log: readonly Record<string, unknown>[]): boolean {
  return log.some(({ msg }) => String(msg).startsWith("second signal"));
}

async function bothDirections(t: TestContext, drain: object, upstream?: string): Promise<Running & { origin: string }> {
  const origin = await answering(t);
  const sidecar = await runSidecar(t, {
    inbound: { listen: LISTEN, upstream: upstream ?? origin },
    outbound: { listen: LISTEN },
    drain,
  });
  return { ...sidecar, origin };
}

test("POST /drain ends inbound and leaves outbound open; SIGTERM then ends it with 0", async (t) => {
  const sidecar = await bothDirections(t, { idleGrace: "0s", deadline: "60s" });
  await sidecar.drain();
  await sidecar.logged(OUTBOUND_WAITS);
  assert.ok(await isRefused(sidecar.inbound));
  const ready = await fetch(`${sidecar.admin}/readyz`);
  assert.equal(ready.status, 503);
  assert.deepEqual(await ready.json(), { ready: false, state: "draining" });
  // The service may still need what it calls: kept alive, as ever.
  assert.doesNotMatch(await ask(t, sidecar.outbound, `${sidecar.origin}/`), /\r\nConnection: close/i);
  sidecar.signal("SIGTERM");
  const { code, log, stderr } = await sidecar.ended();
  assert.equal(stderr, "");
  assert.equal(code, 0);
  assert.ok(!forcedOrNot(log));
});

test("after POST /drain the deadline ends outbound, with 0 when it carries nothing", async (t) => {
  const sidecar = await bothDirections(t, { idleGrace: "0s", deadline: "300ms" });
  const idle = await RawPeer.connect(t, sidecar.outbound);
  await sidecar.drain();
  const { code, log } = await sidecar.ended();
  await rest(idle);
  assert.equal(code, 0);
  assert.ok(log.some(({ msg }) => msg === OUTBOUND_WAITS));
});

test("after POST /drain the deadline cuts what outbound carries, says how many, and ends with 1", async (t) => {
  const origin = await held(t);
  const sidecar = await bothDirections(t, { idleGrace: "0s", deadline: "300ms" });
  const peers = [await RawPeer.connect(t, sidecar.outbound), await RawPeer.connect(t, sidecar.outbound)];
  for (const peer of peers) peer.send(`GET ${origin.url}/ HTTP/1.1\r\nHost: orders\r\n\r\n`);
  await origin.next();
  await origin.next();
  await sidecar.drain();
  const { code, log } = await sidecar.ended();
  assert.equal(code, 1);
  const { level, cut } = log.find(({ msg }) => msg === "the drain deadline came: 2 exchanges were cut") ?? {};
  assert.deepEqual({ level, cut }, { level: "warn", cut: 2 });
});

test("without inbound, POST /drain only fails readiness; SIGTERM then ends it", async (t) => {
  const origin = await answering(t);
  const sidecar = await runSidecar(t, { outbound: { listen: LISTEN } });
  await sidecar.drain();
  assert.equal((await fetch(`${sidecar.admin}/readyz`)).status, 503);
  assert.match(await ask(t, sidecar.outbound, `${origin}/`), /^HTTP\/1\.1 200 OK\r\n/);
  sidecar.signal("SIGTERM");
  assert.equal((await sidecar.ended()).code, 0);
});

test("without outbound, POST /drain ends the process with 0", async (t) => {
  const sidecar = await runSidecar(t, { inbound: { listen: LISTEN, upstream: await answering(t) } });
  await sidecar.drain();
  assert.equal((await sidecar.ended()).code, 0);
});

test("POST /drain, SIGTERM while inbound is still busy: nothing is cut, the second SIGTERM is what forces", async (t) => {
  const origin = await held(t);
  const sidecar = await bothDirections(t, { idleGrace: "0s", deadline: "1h" }, origin.url);
  const peer = await RawPeer.connect(t, sidecar.inbound);
  peer.send(GET);
  const first = await origin.next();
  await sidecar.drain();
  sidecar.signal("SIGTERM");
  await sidecar.logged("SIGTERM: draining");
  // Outbound is open for as long as inbound is busy.
  assert.match(await ask(t, sidecar.outbound, `${sidecar.origin}/`), /\r\nConnection: close\r\n/);
  first.socket.write(OK);
  const response = await rest(peer);
  assert.match(response, /\r\nConnection: close\r\n/);
  assert.match(response, /ok$/);
  assert.equal((await sidecar.ended()).code, 0);
});

test("after POST /drain and a SIGTERM, another signal forces: exit code 1", async (t) => {
  const origin = await held(t);
  const sidecar = await bothDirections(t, { idleGrace: "0s", deadline: "1h" }, origin.url);
  const peer = await RawPeer.connect(t, sidecar.inbound);
  peer.send(GET);
  await origin.next();
  await sidecar.drain();
  sidecar.signal("SIGTERM");
  await sidecar.logged("SIGTERM: draining");
  sidecar.signal("SIGINT");
  const { code, log } = await sidecar.ended();
  assert.equal(code, 1);
  assert.ok(forcedOrNot(log));
  assert.ok(log.some(({ msg }) => msg === "forced: 1 exchange was cut"));
  assert.equal(await rest(peer), "");
});

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a connection that is idle when the drain begins is answered during the grace, with Connection: close`, async (t) => {
    const sidecar = await runSidecar(t, {
      forwarder,
      inbound: { listen: LISTEN, upstream: await answering(t) },
      drain: { idleGrace: "30m", deadline: "1h" },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    assert.doesNotMatch(await peer.until((text) => text.endsWith("ok")), /connection: close/i);
    sidecar.signal("SIGTERM");
    await sidecar.logged("SIGTERM: draining");
    peer.send(GET);
    assert.match(await rest(peer), /ok[\s\S]*\r\nConnection: close\r\n[\s\S]*ok$/);
    // A new connection finds us too.
    assert.match(await ask(t, sidecar.inbound), /\r\nConnection: close\r\n/);
    sidecar.signal("SIGTERM");
    assert.equal((await sidecar.ended()).code, 1);
  });

  test(`${forwarder}: a response that promised keep-alive before the drain keeps its promise: the next request is answered`, async (t) => {
    const origin = await held(t);
    const sidecar = await runSidecar(t, {
      forwarder,
      inbound: { listen: LISTEN, upstream: origin.url },
      drain: { idleGrace: "300ms", deadline: "60s" },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    const first = await origin.next();
    first.socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun");
    assert.doesNotMatch(await peer.until((text) => text.endsWith("begun")), /connection: close/i);
    sidecar.signal("SIGTERM");
    await sidecar.logged("inbound takes no new connections");
    peer.send(GET);
    first.socket.write("ended");
    (await origin.next()).socket.write(OK);
    assert.match(await rest(peer), /begunended[\s\S]*\r\nConnection: close\r\n[\s\S]*ok$/);
    assert.equal((await sidecar.ended()).code, 0);
  });

  test(`${forwarder}: a request whose head is half here when the grace is over is answered`, async (t) => {
    const sidecar = await runSidecar(t, { forwarder, inbound: { listen: LISTEN, upstream: await answering(t) } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET.slice(0, 20));
    await read(sidecar, 20);
    sidecar.signal("SIGTERM");
    await sidecar.logged("inbound takes no new connections");
    peer.send(GET.slice(20));
    assert.match(await rest(peer), /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\nConnection: close\r\n[\s\S]*ok$/);
    assert.equal((await sidecar.ended()).code, 0);
  });

  test(`${forwarder}: connections that the kernel holds for us when the grace is over are answered`, async (t) => {
    const sidecar = await runSidecar(t, {
      forwarder,
      inbound: { listen: LISTEN, upstream: await answering(t) },
      drain: { idleGrace: "300ms", deadline: "60s" },
    });
    sidecar.signal("SIGTERM");
    await sidecar.logged("SIGTERM: draining");
    sidecar.signal("SIGSTOP");
    const peers = await Promise.all(Array.from({ length: 20 }, () => RawPeer.connect(t, sidecar.inbound)));
    for (const peer of peers) peer.send(GET);
    await sleep(400);
    sidecar.signal("SIGCONT");
    for (const peer of peers) assert.match(await rest(peer), /\r\nConnection: close\r\n[\s\S]*ok$/);
    assert.equal((await sidecar.ended()).code, 0);
  });

  test(`${forwarder}: a stream and a tunnel that outlast the deadline are cut, counted and logged; exit code 1`, async (t) => {
    const streaming = await rawOrigin(t, ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
    });
    const silent = await rawOrigin(t, () => {});
    const sidecar = await runSidecar(t, {
      forwarder,
      inbound: { listen: LISTEN, upstream: streaming.url },
      outbound: { listen: LISTEN },
      drain: { idleGrace: "0s", deadline: "300ms" },
    });
    const stream = await RawPeer.connect(t, sidecar.inbound);
    stream.send(GET);
    await stream.until((text) => text.includes("begun"));
    const tunnel = await RawPeer.connect(t, sidecar.outbound);
    tunnel.send(`CONNECT 127.0.0.1:${silent.port} HTTP/1.1\r\nHost: 127.0.0.1:${silent.port}\r\n\r\n`);
    await tunnel.until((text) => text.endsWith("\r\n\r\n"));
    sidecar.signal("SIGTERM");
    const { code, log } = await sidecar.ended();
    assert.equal(code, 1);
    assert.ok(log.some(({ msg, cut }) => msg === "the drain deadline came: 2 exchanges were cut" && cut === 2));
    // No last chunk: the peer can tell that it is not whole.
    assert.match(await stream.untilEnd(), /5\r\nbegun\r\n$/);
    await tunnel.untilEnd();
    assert.equal(log.filter(({ part }) => part === "access").length, 2);
    assert.equal(log.at(-1)?.["msg"], "stopped");
  });
}

test("a second signal does not wait for a plugin that never closes", async (t) => {
  const plugin = `export default {
    name: "endless", description: "Never closes", apiVersion: 1, config: {},
    setup: () => ({ close: () => { console.log('{"msg":"closing"}'); return new Promise(() => setInterval(() => {}, 1000)); } }),
  };\n`;
  const sidecar = await runSidecar(
    t,
    { inbound: { listen: LISTEN, upstream: await answering(t) }, plugins: [{ use: "./endless.js" }] },
    { files: { "endless.js": plugin, "package.json": { type: "module" } } },
  );
  sidecar.signal("SIGTERM");
  await sidecar.logged("closing");
  sidecar.signal("SIGTERM");
  const { code, log } = await sidecar.ended();
  assert.equal(code, 1);
  assert.ok(forcedOrNot(log));
  // It was not waited for until its own time limit.
  assert.ok(log.every(({ plugin }) => plugin !== "endless"));
});
