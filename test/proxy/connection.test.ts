import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import type { CloseReason, Exchange, Side } from "../../src/plugin/api.ts";
import { Chain } from "../../src/plugin/chain.ts";
import { plainAddress } from "../../src/proxy/address.ts";
import { ProxyConnection, reasonOfSocketError } from "../../src/proxy/connection.ts";

const SETUP = {
  startedAtEpochMs: 0,
  dnsMs: undefined,
  connectMs: undefined,
  tlsMs: undefined,
  tlsVersion: undefined,
  tlsResumed: undefined,
};
const EXCHANGE = {} as Exchange;

interface Scene {
  readonly connection: ProxyConnection;
  /** The other end of its socket. */
  readonly far: Socket;
  /** Hooks in the order they were called. */
  readonly hooks: string[];
  /** `onIdle`, `onDraining` and `onClosed` in the order they were called. */
  readonly told: string[];
  closed(): Promise<CloseReason>;
}

async function scene(t: TestContext, side: Side): Promise<Scene> {
  const server = net.createServer({ allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const near = net.connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: side === "downstream" });
  const [[far]] = (await Promise.all([once(server, "connection"), once(near, "connect")])) as [[Socket], unknown];
  far.on("error", () => {});
  far.on("end", () => far.end());
  t.after(() => {
    near.destroy();
    far.destroy();
    server.close();
  });
  const connection = new ProxyConnection({
    direction: "inbound",
    side,
    socket: near,
    protocol: "http/1.1",
    setup: SETUP,
    idleTimeoutMs: 1000,
  });
  const hooks: string[] = [];
  const told: string[] = [];
  connection.onIdle = () => void told.push("idle");
  connection.onDraining = () => void told.push("draining");
  connection.onClosed = () => void told.push("closed");
  const done = Promise.withResolvers<CloseReason>();
  const filter = {
    connection: () => ({
      active: () => void hooks.push("active"),
      idle: () => void hooks.push("idle"),
      close: (reason: CloseReason) => {
        hooks.push("close");
        done.resolve(reason);
      },
    }),
  };
  connection.open(
    new Chain([{ name: "seen", filter, onError: "continue", requestTimeoutMs: 0 }], (failure) => {
      throw failure.error;
    }),
  );
  return { connection, far, hooks, told, closed: () => done.promise };
}

test("idle → active → idle → closed; counts and hooks follow", async (t) => {
  const { connection, hooks, told, closed, far } = await scene(t, "upstream");
  far.resume();
  assert.equal(connection.state, "idle");
  for (let round = 1; round <= 2; round++) {
    connection.begin(EXCHANGE);
    assert.equal(connection.state, "active");
    assert.equal(connection.exchanges, round);
    assert.equal(connection.activeExchanges, 1);
    assert.equal(connection.idleMs, 0);
    connection.finish();
    assert.equal(connection.state, "idle");
    assert.equal(connection.activeExchanges, 0);
  }
  connection.drain("logout");
  assert.equal(connection.state, "draining");
  assert.equal(await closed(), "logout");
  assert.equal(connection.state, "closed");
  assert.deepEqual(hooks, ["active", "idle", "active", "idle", "close"]);
  assert.deepEqual(told, ["idle", "idle", "draining", "closed"]);
});

test("draining while active: finishes first, takes nothing more, the first reason stays", async (t) => {
  const { connection, told, closed, far } = await scene(t, "upstream");
  far.resume();
  connection.begin(EXCHANGE);
  connection.drain("max_age");
  connection.drain("logout");
  assert.equal(connection.reasonToClose(), "max_age");
  assert.equal(connection.socket.destroyed, false);
  connection.finish();
  assert.equal(await closed(), "max_age");
  assert.deepEqual(told, ["draining", "closed"]);
});

test("several exchanges at once: it is idle after the last of them", async (t) => {
  const { connection, hooks } = await scene(t, "upstream");
  connection.begin(EXCHANGE);
  connection.begin(EXCHANGE);
  connection.finish();
  assert.equal(connection.state, "active");
  connection.finish();
  assert.equal(connection.state, "idle");
  assert.deepEqual(hooks, ["active", "active", "idle"]);
});

test("downstream, an age that was reached after the response promised to keep the connection closes nothing", async (t) => {
  const { connection, hooks } = await scene(t, "downstream");
  connection.begin(EXCHANGE);
  connection.keepAlive.maxAgeMs = 0;
  connection.finish();
  assert.equal(connection.state, "idle");
  assert.equal(connection.reasonToClose(), "max_age");
  assert.deepEqual(hooks, ["active", "idle"]);
});

for (const [reason, set] of Object.entries({
  max_requests: (connection: ProxyConnection) => Object.assign(connection.keepAlive, { maxRequests: 1 }),
  max_age: (connection: ProxyConnection) => Object.assign(connection.keepAlive, { maxAgeMs: 0 }),
  peer_closed: (connection: ProxyConnection) => connection.peerCloses(),
})) {
  test(`closes after its exchange for ${reason}`, async (t) => {
    const { connection, closed, far, hooks } = await scene(t, "upstream");
    far.resume();
    connection.begin(EXCHANGE);
    set(connection);
    assert.equal(connection.reasonToClose(), reason);
    connection.finish();
    assert.equal(await closed(), reason);
    assert.ok(!hooks.includes("idle"));
  });
}

test("keep-alive off counts as a limit of one request", async (t) => {
  const { connection, closed, far } = await scene(t, "downstream");
  far.resume();
  connection.keepAlive.enabled = false;
  connection.begin(EXCHANGE);
  connection.finish();
  assert.equal(await closed(), "max_requests");
});

const PEER = {
  FIN: { act: (far: Socket) => far.end(), reason: "peer_closed" },
  RST: { act: (far: Socket) => far.resetAndDestroy(), reason: "peer_reset" },
  bytes: { act: (far: Socket) => far.write("x"), reason: "protocol_error" },
} as const;

for (const [what, { act, reason }] of Object.entries(PEER)) {
  test(`an idle upstream connection that gets ${what} closes with ${reason}`, async (t) => {
    const { connection, far, closed, told } = await scene(t, "upstream");
    far.resume();
    act(far);
    assert.equal(await closed(), reason);
    assert.deepEqual(told, ["draining", "closed"]);
    assert.equal(connection.error !== undefined, what !== "FIN");
  });

  if (what === "bytes") continue;
  test(`an upstream connection that gets ${what} while it carries something says ${reason}`, async (t) => {
    const { connection, far, closed } = await scene(t, "upstream");
    far.resume();
    connection.begin(EXCHANGE);
    act(far);
    assert.equal(await closed(), reason);
    connection.finish();
    assert.equal(connection.state, "closed");
    assert.equal(connection.activeExchanges, 0);
  });
}

test("a socket that vanishes without a word: aborted downstream, protocol_error upstream, peer_closed when idle", async (t) => {
  for (const [side, active, reason] of [
    ["downstream", true, "aborted"],
    ["upstream", true, "protocol_error"],
    ["upstream", false, "peer_closed"],
  ] as const) {
    const { connection, closed } = await scene(t, side);
    if (active) connection.begin(EXCHANGE);
    connection.socket.destroy();
    assert.equal(await closed(), reason);
  }
});

test("cut destroys at once, reset by RST", async (t) => {
  const one = await scene(t, "downstream");
  one.connection.begin(EXCHANGE);
  one.connection.cut("aborted", new Error("why"));
  assert.equal(one.connection.socket.destroyed, true);
  assert.equal(await one.closed(), "aborted");
  assert.equal(one.connection.error?.message, "why");

  const two = await scene(t, "downstream");
  const seen = once(two.far, "error") as Promise<[NodeJS.ErrnoException]>;
  two.far.resume();
  two.connection.reset("aborted");
  assert.equal((await seen)[0].code, "ECONNRESET");
  assert.equal(await two.closed(), "aborted");
});

test("a gentle close lets the peer read what was written, though it still writes", async (t) => {
  const { connection, far, closed } = await scene(t, "downstream");
  let received = "";
  far.on("data", (bytes) => {
    received += bytes;
  });
  connection.begin(EXCHANGE);
  connection.socket.write("the response");
  connection.drain("drain");
  connection.finish();
  far.write("something that nobody asked for");
  await once(far, "end");
  assert.equal(received, "the response");
  assert.equal(await closed(), "drain");
});

test("a peer that is gone before anybody looks is still told of, once", async (t) => {
  const { connection, closed, hooks } = await scene(t, "upstream");
  connection.socket.destroy();
  connection.socket.destroy();
  await closed();
  connection.cut("drain");
  connection.drain("drain");
  assert.deepEqual(hooks, ["close"]);
});

test("errors of an open socket mean what they say", () => {
  const reason = (code: string) => reasonOfSocketError(Object.assign(new Error(code), { code }));
  assert.equal(reason("ECONNRESET"), "peer_reset");
  assert.equal(reason("EPIPE"), "peer_reset");
  assert.equal(reason("ETIMEDOUT"), "tcp_keepalive");
  assert.equal(reason("EHOSTUNREACH"), "tcp_keepalive");
  assert.equal(reason("ERR_SSL_WRONG_VERSION_NUMBER"), "protocol_error");
});

test("addresses are shown plainly", () => {
  assert.equal(plainAddress("::ffff:10.0.0.1"), "10.0.0.1");
  assert.equal(plainAddress("::1"), "::1");
  assert.equal(plainAddress("::ffff:1"), "::ffff:1");
  assert.equal(plainAddress(undefined), "");
});
