/** `keep-alive` on real sockets: what the origin counts and what stands on the wire. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

interface Opened {
  readonly origin: Awaited<ReturnType<typeof rawOrigin>>;
  readonly seen: ReturnType<typeof observer>;
  connect(): Promise<RawPeer>;
}

/** A sidecar with this `keep-alive` configuration, before an origin that answers `ok` with these fields. */
async function open(t: TestContext, forwarder: ForwarderName, config: object, originFields = ""): Promise<Opened> {
  const origin = await rawOrigin(t, ({ socket }) => {
    socket.write(`HTTP/1.1 200 OK\r\n${originFields}Content-Length: 2\r\n\r\nok`);
  });
  const seen = observer();
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    plugins: [{ use: "keep-alive", config }, { use: "idle-timeout" }, { plugin: seen.plugin }],
    config: { forwarder },
  });
  return { origin, seen, connect: () => RawPeer.connect(t, sidecar.inbound) };
}

/** Sends a request and returns the head of its response. */
async function ask(peer: RawPeer, request = GET): Promise<string> {
  const from = peer.received.length;
  peer.send(request);
  const received = await peer.until((text) => text.slice(from).endsWith("\r\n\r\nok"));
  return received.slice(from);
}

/** As {@link ask}, and waits until the upstream connection is idle or closed, so that the next request may find it so. */
async function askAndSettle({ seen }: Opened, peer: RawPeer, request = GET): Promise<string> {
  const settled = () =>
    seen.idled("upstream") + seen.closed.filter(({ connection }) => connection.side === "upstream").length;
  const before = settled();
  const head = await ask(peer, request);
  await seen.until(() => settled() > before);
  return head;
}

/** Value of a field in a head, `undefined` if it is not there. */
function field(head: string, name: string): string | undefined {
  return new RegExp(`^${name}: (.*?)\r$`, "im").exec(head)?.[1];
}

const requestHeads = ({ origin }: Opened): string[] => origin.received().split(/(?<=\r\n\r\n)(?=GET)/);

for (const forwarder of FORWARDERS) {
  for (const downstream of [true, false]) {
    for (const upstream of [true, false]) {
      const onOff = (on: boolean) => (on ? "on" : "off");
      test(`${forwarder}: downstream ${onOff(downstream)}, upstream ${onOff(upstream)}: 5 requests`, async (t) => {
        const opened = await open(t, forwarder, {
          downstream: { enabled: downstream },
          upstream: { enabled: upstream },
        });
        let peer = await opened.connect();
        let connections = 1;
        for (let request = 0; request < 5; request++) {
          if (peer.ended) {
            peer = await opened.connect();
            connections++;
          }
          const head = await askAndSettle(opened, peer);
          assert.equal(field(head, "Connection"), downstream ? "keep-alive" : "close");
          if (!downstream) await peer.untilEnd();
        }
        assert.equal(connections, downstream ? 1 : 5, "downstream connections");
        assert.equal(opened.origin.connections.length, upstream ? 1 : 5, "upstream connections, counted at the origin");
        for (const head of requestHeads(opened)) {
          assert.equal(field(head, "Connection"), upstream ? "keep-alive" : "close", head);
        }
        if (upstream) return;
        const reasons = opened.seen.closed.filter(({ connection }) => connection.side === "upstream");
        assert.deepEqual(new Set(reasons.map(({ reason }) => reason)), new Set(["max_requests"]));
      });
    }
  }

  for (const hint of [
    "timeout=7, max=3",
    "max=3, timeout=7",
    "MAX=3,Timeout=7",
    'timeout="7", max="3"',
    'Max = "3" ; TIMEOUT = 7',
    "parameter, timeout=7, x=y, max=3, timeout=99",
  ]) {
    test(`${forwarder}: reads "Keep-Alive: ${hint}" of a caller`, async (t) => {
      const opened = await open(t, forwarder, {});
      const peer = await opened.connect();
      const head = await ask(peer, `GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: ${hint}\r\n\r\n`);
      assert.equal(field(head, "Keep-Alive"), "timeout=7, max=3");
      await opened.seen.until(() => opened.seen.ended.length === 1);
      assert.deepEqual(opened.seen.opened[0]!.hint, { timeoutMs: 7000, maxRequests: 3 });
      assert.doesNotMatch(opened.origin.received(), /timeout=/i, "it is not passed on");
    });

    test(`${forwarder}: reads "Keep-Alive: ${hint}" of an upstream`, async (t) => {
      const opened = await open(t, forwarder, {}, `Keep-Alive: ${hint}\r\n`);
      const peer = await opened.connect();
      const head = await askAndSettle(opened, peer);
      assert.equal(field(head, "Keep-Alive"), "timeout=65", "it is not passed on: ours is told");
      const upstream = opened.seen.opened.find(({ side }) => side === "upstream")!;
      assert.deepEqual(upstream.hint, { timeoutMs: 7000, maxRequests: 3 });
      assert.equal(upstream.keepAlive.maxRequests, 4, "this one and three more");
      assert.equal(upstream.keepAlive.agreedTimeoutMs, 5600);
      for (let request = 0; request < 3; request++) await askAndSettle(opened, peer);
      assert.equal(opened.origin.connections.length, 1);
      await askAndSettle(opened, peer);
      assert.equal(opened.origin.connections.length, 2, "the fifth request finds a fresh connection");
    });
  }

  test(`${forwarder}: answers with the smaller of policy and request`, async (t) => {
    const opened = await open(t, forwarder, { downstream: { maxRequests: 100, jitter: 0 } });
    const answerTo = async (hint: string) => {
      const peer = await opened.connect();
      return field(await ask(peer, `GET / HTTP/1.1\r\nHost: a\r\n${hint}\r\n`), "Keep-Alive");
    };
    assert.equal(await answerTo(""), "timeout=65, max=99");
    assert.equal(await answerTo("Keep-Alive: timeout=5, max=2\r\n"), "timeout=5, max=2");
    assert.equal(await answerTo("Keep-Alive: timeout=500, max=200\r\n"), "timeout=65, max=99");
    assert.equal(await answerTo("Keep-Alive: timeout=5\r\n"), "timeout=5, max=99");
    assert.equal(await answerTo("Keep-Alive: max=2\r\n"), "timeout=65, max=2");
    assert.equal(await answerTo("Keep-Alive: soon\r\n"), "timeout=65, max=99");
  });

  test(`${forwarder}: a caller that asks for no time is not kept, nor told of any`, async (t) => {
    const opened = await open(t, forwarder, {});
    const peer = await opened.connect();
    const head = await ask(peer, "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=0\r\n\r\n");
    assert.equal(field(head, "Connection"), "close");
    assert.equal(field(head, "Keep-Alive"), undefined);
    await peer.untilEnd();
  });

  test(`${forwarder}: emits Keep-Alive only where the connection is kept`, async (t) => {
    const opened = await open(t, forwarder, {});
    const peer = await opened.connect();
    assert.match(await ask(peer), /\r\nKeep-Alive: timeout=65\r\n/);
    const last = await ask(peer, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert.equal(field(last, "Connection"), "close");
    assert.equal(field(last, "Keep-Alive"), undefined);
    await peer.untilEnd();
    const silent = await open(t, forwarder, { downstream: { advertise: false } });
    assert.equal(field(await ask(await silent.connect()), "Keep-Alive"), undefined);
  });

  test(`${forwarder}: keeps the max that it emits: the last response says close`, async (t) => {
    const opened = await open(t, forwarder, { downstream: { maxRequests: 3, jitter: 0 } });
    const peer = await opened.connect();
    assert.equal(field(await ask(peer), "Keep-Alive"), "timeout=65, max=2");
    assert.equal(field(await ask(peer), "Keep-Alive"), "timeout=65, max=1");
    const last = await ask(peer);
    assert.equal(field(last, "Connection"), "close");
    assert.equal(field(last, "Keep-Alive"), undefined);
    await peer.untilEnd();
    peer.socket.end();
    assert.equal((await opened.seen.closedOn("downstream")).reason, "max_requests");
    assert.equal(opened.origin.connections.length, 1, "the upstream connection stays");
  });

  test(`${forwarder}: keeps the timeout that it emits, and closes after it`, async (t) => {
    const opened = await open(t, forwarder, {});
    const peer = await opened.connect();
    const head = await ask(peer, "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=1\r\n\r\n");
    assert.equal(field(head, "Keep-Alive"), "timeout=1");
    await opened.seen.until(() => opened.seen.idled("downstream") === 1);
    const downstream = opened.seen.opened[0]!;
    assert.equal(downstream.keepAlive.agreedTimeoutMs, 1000);
    await peer.untilEnd();
    peer.socket.end();
    assert.equal((await opened.seen.closedOn("downstream")).reason, "idle_timeout");
  });

  test(`${forwarder}: an HTTP/1.0 caller is kept when it asks, and only then`, async (t) => {
    const opened = await open(t, forwarder, {});
    const asking = await opened.connect();
    for (let request = 0; request < 2; request++) {
      const head = await ask(asking, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
      assert.equal(field(head, "Connection"), "keep-alive");
      assert.equal(field(head, "Keep-Alive"), "timeout=65");
    }
    const silent = await opened.connect();
    const head = await ask(silent, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert.equal(field(head, "Connection"), "close");
    assert.equal(field(head, "Keep-Alive"), undefined);
    await silent.untilEnd();

    const off = await open(t, forwarder, { downstream: { enabled: false } });
    const refused = await off.connect();
    const answer = await ask(refused, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    assert.equal(field(answer, "Connection"), "close");
    await refused.untilEnd();
  });

  test(`${forwarder}: upstream maxRequests: the last request on a connection says close`, async (t) => {
    const opened = await open(t, forwarder, { upstream: { maxRequests: 2, jitter: 0, advertise: true } });
    const peer = await opened.connect();
    for (let request = 0; request < 4; request++) await askAndSettle(opened, peer);
    assert.equal(opened.origin.connections.length, 2);
    const heads = requestHeads(opened);
    assert.deepEqual(
      heads.map((head) => field(head, "Connection")),
      ["keep-alive", "close", "keep-alive", "close"],
    );
    assert.deepEqual(
      heads.map((head) => field(head, "Keep-Alive")),
      ["timeout=55, max=1", undefined, "timeout=55, max=1", undefined],
    );
    assert.equal((await opened.seen.closedOn("upstream")).reason, "max_requests");
  });

  test(`${forwarder}: tells an upstream nothing of Keep-Alive unless told to`, async (t) => {
    const opened = await open(t, forwarder, {});
    await ask(await opened.connect());
    assert.equal(field(opened.origin.received(), "Keep-Alive"), undefined);
  });

  test(`${forwarder}: maxAge closes an idle upstream connection; a downstream one with its next response`, async (t) => {
    const opened = await open(t, forwarder, { upstream: { maxAge: "200ms", jitter: 0.5 } });
    const peer = await opened.connect();
    await ask(peer);
    const [downstream, upstream] = opened.seen.opened;
    // The sweep that finds the younger upstream connection too old finds this one too old as well.
    downstream!.keepAlive.maxAgeMs = 1;
    const { maxAgeMs } = upstream!.keepAlive;
    assert.ok(maxAgeMs > 100 && maxAgeMs <= 200, `jittered: ${maxAgeMs}`);
    assert.equal((await opened.seen.closedOn("upstream")).reason, "max_age");
    // Nobody knows when a caller sends its next request: only a response can tell it that there must be none.
    assert.equal(downstream!.state, "idle");
    assert.equal(field(await ask(peer), "Connection"), "close");
    await peer.untilEnd();
    peer.socket.end();
    assert.equal((await opened.seen.closedOn("downstream")).reason, "max_age");
  });

  test(`${forwarder}: maxAge never cuts an exchange: its response says close`, async (t) => {
    const origin = await rawOrigin(t, () => {});
    const seen = observer();
    const age = { maxAge: "1ms", jitter: 0 };
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "keep-alive", config: { downstream: age, upstream: age } }, { plugin: seen.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    await origin.connected(1);
    await seen.until(() => seen.opened.length === 2);
    while (seen.opened.some(({ ageMs }) => ageMs < 5)) await new Promise((resolve) => setImmediate(resolve));
    origin.connections[0]!.socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    const received = await peer.untilEnd();
    assert.equal(field(received, "Connection"), "close");
    assert.match(received, /ok$/);
    peer.socket.end();
    assert.equal((await seen.closedOn("downstream")).reason, "max_age");
    assert.equal((await seen.closedOn("upstream")).reason, "max_age");
  });

  test(`${forwarder}: limits differ between connections by the jitter`, async (t) => {
    const opened = await open(t, forwarder, { downstream: { maxRequests: 1_000_000, jitter: 0.5 } });
    for (let connection = 0; connection < 4; connection++) await ask(await opened.connect());
    const limits = opened.seen.opened
      .filter(({ side }) => side === "downstream")
      .map(({ keepAlive }) => keepAlive.maxRequests);
    for (const limit of limits) assert.ok(limit > 500_000 && limit <= 1_000_000, String(limit));
    assert.equal(new Set(limits).size, 4);
  });

  /** Each step: which downstream connection asks, and how many upstream connections there have been after it. */
  const reuse = {
    // Connection B never gets A's upstream connection, each reuses its own.
    never: { steps: ["A1", "A1", "B2", "B2", "A2"] },
    // A first request gets a fresh one; later ones take any.
    safe: { steps: ["A1", "A1", "B2", "B2", "C3"] },
    // A first request may take one that was reused before.
    aggressive: { steps: ["A1", "B2", "B2", "C2"] },
    always: { steps: ["A1", "B1", "C1", "A1"] },
  };
  for (const [policy, { steps }] of Object.entries(reuse)) {
    test(`${forwarder}: reuse "${policy}": ${steps.join(" ")}`, async (t) => {
      const opened = await open(t, forwarder, { upstream: { reuse: policy } });
      const peers = new Map<string, RawPeer>();
      for (const step of steps) {
        const name = step[0]!;
        const peer = peers.get(name) ?? (await opened.connect());
        peers.set(name, peer);
        await askAndSettle(opened, peer);
        assert.equal(opened.origin.connections.length, Number(step[1]), step);
      }
    });
  }
}
