import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import tls from "node:tls";
import { type ConnectOptions, connect, type Opened, type OpenFailure } from "../../src/proxy/connect.ts";

async function open(options: Partial<ConnectOptions> & { host: string; port: number }): Promise<{
  failure: OpenFailure | undefined;
  opened: Opened | undefined;
}> {
  const { host, port, security, timeoutMs = 5000 } = options;
  const origin = { scheme: security === undefined ? ("http" as const) : ("https" as const), host, port };
  let answers = 0;
  return await new Promise((resolve) => {
    connect({ origin, security, timeoutMs, reader: undefined }, (failure, opened) => {
      answers++;
      assert.equal(answers, 1);
      resolve({ failure, opened });
    });
  });
}

async function listening(t: TestContext, accept: (socket: Socket) => void): Promise<number> {
  const sockets: Socket[] = [];
  const server = net.createServer((socket) => {
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
  return (server.address() as AddressInfo).port;
}

const security = () => ({ context: tls.createSecureContext(), serverName: undefined, session: undefined });

test("an address needs no look-up; the phases are timed", async (t) => {
  const port = await listening(t, () => {});
  const beforeMs = Date.now();
  const { opened } = await open({ host: "127.0.0.1", port });
  t.after(() => opened!.socket.destroy());
  const { setup } = opened!;
  assert.equal(setup.dnsMs, undefined);
  assert.ok(setup.connectMs! >= 0);
  assert.equal(setup.tlsMs, undefined);
  assert.equal(setup.tlsResumed, undefined);
  assert.ok(setup.startedAtEpochMs >= beforeMs - 10 && setup.startedAtEpochMs <= Date.now() + 10);
});

test("a name is looked up", async (t) => {
  const port = await listening(t, () => {});
  const { opened } = await open({ host: "localhost", port });
  t.after(() => opened?.socket.destroy());
  assert.ok(opened!.setup.dnsMs! >= 0);
});

test("each failure has its code and names the address", async (t) => {
  const silent = await listening(t, () => {});
  const hangsUp = await listening(t, (socket) => socket.destroy());
  const talksPlain = await listening(t, (socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  const closed = net.createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  const nobody = (closed.address() as AddressInfo).port;
  closed.close();
  await once(closed, "close");

  const cases = [
    { host: "127.0.0.1", port: nobody, code: "HF_UPSTREAM_REFUSED" },
    { host: "no-such-host.invalid", port: 80, code: "HF_UPSTREAM_DNS" },
    { host: "127.0.0.1", port: silent, security: security(), timeoutMs: 100, code: "HF_UPSTREAM_CONNECT_TIMEOUT" },
    { host: "127.0.0.1", port: hangsUp, security: security(), code: "HF_UPSTREAM_TLS" },
    { host: "127.0.0.1", port: talksPlain, security: security(), code: "HF_UPSTREAM_TLS" },
  ] as const;
  for (const { code, ...options } of cases) {
    const { failure } = await open(options);
    assert.equal(failure?.error.code, code);
    assert.ok(failure.error.message.includes(options.host), failure.error.message);
    assert.ok(!failure.error.message.includes("\n"));
    if (!failure.socket.destroyed) await once(failure.socket, "close");
  }
});

test("a connection that opened leaves no timer that could hit it later", async (t) => {
  const port = await listening(t, () => {});
  const { opened } = await open({ host: "127.0.0.1", port, timeoutMs: 100 });
  t.after(() => opened!.socket.destroy());
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(opened!.socket.destroyed, false);
});
