import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { test } from "node:test";
import { formatHostPort } from "../../src/config/address.ts";
import { listen } from "../../src/proxy/listener.ts";

test("connections that the kernel holds are taken before a busy listener closes, however slowly they are", async (t) => {
  const COUNT = 60;
  let accepted = 0;
  // Node takes one connection per socket in each turn of its loop, and under load a turn is long.
  const listener = await listen({ host: "127.0.0.1", port: 0 }, "test.listen", (socket) => {
    accepted++;
    socket.end("taken");
    const untilMs = performance.now() + 25;
    while (performance.now() < untilMs);
  });
  const results = Array.from({ length: COUNT }, async () => {
    const socket = net.connect(listener.address);
    t.after(() => socket.destroy());
    let received = "";
    socket.on("data", (bytes) => {
      received += bytes.toString();
    });
    await once(socket, "close");
    return received;
  });
  await new Promise((resolve) => setImmediate(resolve));
  await listener.closeWhenQuiet();
  assert.deepEqual(await Promise.all(results), new Array(COUNT).fill("taken"));
  assert.equal(accepted, COUNT);
});

test("connections that come while the event loop is busy elsewhere are taken before the listener closes", async (t) => {
  const COUNT = 32;
  let accepted = 0;
  const listener = await listen({ host: "127.0.0.1", port: 0 }, "test.listen", (socket) => {
    accepted++;
    socket.destroy();
  });
  t.after(() => listener.close());
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  // In a turn that found nobody to accept, and before the listener may close.
  setImmediate(() => execFileSync(process.execPath, ["-e", CONNECT, String(listener.address.port), String(COUNT)]));
  await listener.closeWhenQuiet();
  assert.equal(accepted, COUNT);
});

test("many connections are accepted in one turn of the event loop", async (t) => {
  const COUNT = 64;
  let accepted = 0;
  let turns = 0;
  const listener = await listen({ host: "127.0.0.1", port: 0 }, "test.listen", (socket) => {
    accepted++;
    socket.destroy();
  });
  t.after(() => listener.close());
  // Until all of its sockets listen.
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  // Connected from elsewhere while this loop is busy, so that the kernel holds them all.
  execFileSync(process.execPath, ["-e", CONNECT, String(listener.address.port), String(COUNT)]);
  for (; accepted < COUNT; turns++) {
    assert.ok(turns < COUNT / 2, `${accepted} of ${COUNT} accepted in ${turns} turns`);
    await new Promise((resolve) => setImmediate(resolve));
  }
});

const CONNECT = `
  const [port, count] = process.argv.slice(1).map(Number);
  let open = 0;
  for (let index = 0; index < count; index++) {
    require("node:net").connect(port, "127.0.0.1", () => ++open === count && process.exit());
  }
`;

test("an address that another sidecar listens on is refused, though its sockets share the port", async (t) => {
  const first = await listen({ host: "127.0.0.1", port: 0 }, "test.listen", (socket) => socket.destroy());
  t.after(() => first.close());
  await assert.rejects(
    listen(first.address, "inbound.listen", (socket) => socket.destroy()),
    (error: Error) => /inbound\.listen: cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/.test(error.message),
  );
});

test("an address that overlaps one of another sidecar is refused, though its sockets share the port", async (t) => {
  const everywhere = await listen({ host: "0.0.0.0", port: 0 }, "test.listen", (socket) => socket.destroy());
  t.after(() => everywhere.close());
  const { port } = everywhere.address;
  const loopback = await listen({ host: "127.0.0.1", port: 0 }, "test.listen", (socket) => socket.destroy());
  t.after(() => loopback.close());
  for (const address of [
    { host: "127.0.0.1", port },
    { host: "::ffff:127.0.0.1", port },
    { host: "::", port },
    { host: "0.0.0.0", port: loopback.address.port },
  ]) {
    await assert.rejects(
      listen(address, "inbound.listen", (socket) => socket.destroy()).then((listener) => listener.close()),
      (error: Error) => error.message.includes(`${formatHostPort(address)} (EADDRINUSE); it is in use`),
      `${address.host} port ${address.port}`,
    );
  }
});

test("a listener that closes at once leaves no socket behind", async () => {
  const listener = await listen({ host: "127.0.0.1", port: 0 }, "test.listen", (socket) => socket.destroy());
  listener.close();
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  const again = net.createServer().listen(listener.address.port, "127.0.0.1");
  await once(again, "listening");
  again.close();
});
