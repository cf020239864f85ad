import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { OriginView } from "../../src/admin/view.ts";
import type { Callers } from "../../src/learning/callers.ts";
import type { LearnedPeer } from "../../src/learning/peer.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const POST = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";

/** Waits for the answer to a request. Whoever waits for the last bytes of {@link OK} alone waits for ever after a 502. */
async function answered(peer: RawPeer): Promise<void> {
  const head = await peer.until((text) => text.includes("\r\n\r\n"));
  assert.match(head, /^HTTP\/1\.1 200 /);
  await peer.until((text) => text.endsWith("\r\n\r\nok"));
}

type Answer = (connection: OriginConnection, index: number) => void;

async function setting(t: TestContext, forwarder: string, answer: Answer, config: object = {}) {
  const origin = await rawOrigin(t, (connection, _head, index) => answer(connection, index));
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    plugins: [{ use: "idle-timeout", config }, { plugin: watch.plugin }],
    config: { forwarder },
  });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  let exchanges = 0;
  const exchange = async (request = GET) => {
    peer.received = "";
    peer.send(request);
    await answered(peer);
    return await watch.end(++exchanges);
  };
  /** Resolves once so many upstream connections have closed. */
  const closed = async (count: number) => {
    await watch.until(() => watch.closed.filter(({ connection }) => connection.side === "upstream").length >= count);
  };
  const known = (): OriginView => {
    const [one] = sidecar.sidecar.view.origins();
    return one!;
  };
  return {
    origin,
    watch,
    exchange,
    closed,
    known,
    /** Lets connections become idle until the limit is known: three closes, or more where the machine is busy. */
    async learn() {
      for (let count = 1; ; count++) {
        await exchange();
        await closed(count);
        const { limit } = known().learned.whole;
        if (limit === undefined) continue;
        assert.ok(count >= 2);
        return limit;
      }
    },
  };
}

for (const forwarder of FORWARDERS) {
  for (const how of ["FIN", "RST"] as const) {
    test(`${forwarder}: where the origin closes idle connections is learned from three of its closes (${how})`, async (t) => {
      const { exchange, learn, watch } = await setting(t, forwarder, ({ socket }) => {
        socket.write(OK);
        setTimeout(() => (how === "FIN" ? socket.end() : socket.resetAndDestroy()), 150);
      });
      const limit = await learn();
      assert.ok(limit.limitMs > 50, `${limit.limitMs}`);
      // A timer never fires early, and whatever is late only makes what was seen longer.
      const { exchange: next } = await exchange();
      const upstream = next.upstream!;
      assert.equal(upstream.idleLimitSource, "learned");
      assert.equal(upstream.learned!.idleTimeoutMs, limit.limitMs);
      assert.ok(upstream.idleLimitMs < limit.limitMs);
      assert.equal(watch.retried.length, 0);
    });
  }

  test(`${forwarder}: with learn off, what was learned shows and does not hold`, async (t) => {
    const answer: Answer = ({ socket }) => {
      socket.write(OK);
      setTimeout(() => socket.end(), 100);
    };
    const { exchange, learn } = await setting(t, forwarder, answer, { learn: false });
    await learn();
    const { exchange: next } = await exchange();
    assert.equal(next.upstream!.idleLimitSource, "configured");
    assert.equal(next.upstream!.idleLimitMs, 55_000);
  });

  test(`${forwarder}: after one close, a POST gets a fresh connection where the idle one is in doubt; a GET does not`, async (t) => {
    const { exchange, closed, known, origin, watch } = await setting(t, forwarder, ({ socket }) => {
      socket.write(OK);
    });
    await exchange();
    await watch.until(() => watch.idled("upstream") === 1);
    await sleep(100);
    origin.connections[0]!.socket.end();
    await closed(1);
    const [group] = known().learned.whole.memory.idle.groups;
    // As long as the first one may have lived, which on a busy machine is not sure, and so much longer that it tells.
    const beyondMs = 2 * group!.closes[0]!.closedMs;

    await exchange();
    await sleep(beyondMs);
    const { exchange: post } = await exchange(POST);
    assert.equal(post.upstreamIndex, 1);
    assert.equal(origin.connections.length, 3);
    await sleep(beyondMs);
    const { exchange: get } = await exchange();
    assert.equal(get.upstreamIndex, 2);
    assert.equal(origin.connections.length, 3);
    // It was open after all: nothing is in doubt any more.
    await sleep(100);
    const { exchange: again } = await exchange(POST);
    assert.equal(again.upstreamIndex, 3);
  });

  test(`${forwarder}: an idle connection is left alone beyond the learned limit, and given up when it stays open`, async (t) => {
    const { exchange, known, watch } = await setting(t, forwarder, ({ socket }) => void socket.write(OK));
    const startedAtMs = performance.now();
    await exchange();
    const [[, peer]] = [...known().learned.addresses()] as [[string, LearnedPeer]];
    for (const atMs of [-3000, -2000, -1000]) {
      peer.closed({ openMs: 299, closedMs: 300, atMs: performance.now() + atMs });
    }
    const { limit } = peer;
    assert.ok(limit!.limitMs < 300);
    const { reason } = await watch.closedOn("upstream");
    assert.equal(reason, "idle_timeout");
    assert.ok(performance.now() - startedAtMs > limit!.outlivedMs);
    // One more that outlived it: the limit stands, but not as sure.
    assert.ok(peer.limit!.confidence < limit!.confidence);
  });

  test(`${forwarder}: how many requests the origin takes is learned where it announces its end`, async (t) => {
    const { exchange, closed, known } = await setting(t, forwarder, ({ socket }, index) => {
      socket.write(index < 5 ? OK : OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
      if (index === 5) socket.end();
    });
    for (let count = 1; count <= 15; count++) {
      await exchange();
      if (count % 5 === 0) await closed(count / 5);
    }
    assert.deepEqual(known().learned.whole.ending.requests, { limit: 5, announced: true });
  });

  test(`${forwarder}: where the origin ends connections after so many requests without a word, they are left before`, async (t) => {
    const { exchange, closed, known, watch } = await setting(t, forwarder, ({ socket }, index) => {
      socket.write(OK);
      if (index === 5) socket.end();
    });
    const limit = () => known().learned.whole.ending.requests;
    let connections = 0;
    do {
      for (let count = 1; count <= 5; count++) await exchange();
      await closed(++connections);
    } while (limit() === undefined);
    assert.deepEqual(limit(), { limit: 5, announced: false });
    for (let count = 1; count <= 5; count++) await exchange();
    assert.equal((await watch.closedOn("upstream", connections + 1)).reason, "max_requests");
  });
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: callers that keep connections longer than we do are warned of once`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => void socket.write(OK));
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "idle-timeout", config: { downstream: "300ms" } }],
      config: { forwarder },
    });
    const [[, callers]] = [...sidecar.sidecar.view.callers()] as [[string, Callers]];
    for (let round = 1; round <= 2; round++) {
      const visits = Array.from({ length: 10 }, async () => {
        const peer = await RawPeer.connect(t, sidecar.inbound);
        peer.send(GET);
        await peer.untilEnd();
        assert.match(peer.received, /ok$/);
        peer.socket.end();
      });
      await Promise.all(visits);
      while (callers.closedByUs.of < 10 * round) await sleep(10);
    }
    assert.deepEqual(callers.closedByUs, { count: 20, of: 20 });
    const warnings = sidecar.log.filter(({ msg }) => /^callers keep idle connections longer/.test(String(msg)));
    assert.equal(warnings.length, 1);
    assert.match(String(warnings[0]!["msg"]), /10 of the last 10 were closed by our limit of 0\.3 s/);
  });

  test(`${forwarder}: who closes idle connections of callers is known`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => void socket.write(OK));
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "idle-timeout" }],
      config: { forwarder },
    });
    const [[, callers]] = [...sidecar.sidecar.view.callers()] as [[string, Callers]];
    for (let count = 1; callers.limit(performance.now()) === undefined; count++) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(GET);
      await answered(peer);
      await sleep(150);
      peer.socket.end();
      while (callers.closedByUs.of < Math.min(20, count)) await sleep(10);
    }
    assert.equal(callers.closedByUs.count, 0);
    const body = (await (await fetch(`${sidecar.admin}/origins`)).json()) as {
      callers: { direction: string; idle: { timeoutMs: number } | null }[];
    };
    const shown = body.callers.find(({ direction }) => direction === "inbound");
    // A timer never fires early, and what is late only makes it longer.
    assert.ok(shown!.idle!.timeoutMs > 75 && shown!.idle!.timeoutMs < 1000, JSON.stringify(shown));
  });
}

test("a sidecar that is started again goes on from what was learned", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-state-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const origin = await rawOrigin(t, ({ socket }) => {
    socket.write(OK);
    setTimeout(() => socket.end(), 100);
  });
  const watch = observer();
  const options = {
    upstream: origin.url,
    plugins: [{ use: "idle-timeout" }, { plugin: watch.plugin }],
    config: { learning: { stateFile: path.join(folder, "learned.json") } },
  };
  const first = await testSidecar(t, options);
  const peer = await RawPeer.connect(t, first.inbound);
  let count = 0;
  // On a busy machine a close may be seen so late that it takes a fourth.
  do {
    peer.send(GET);
    await watch.closedOn("upstream", ++count);
  } while (count < 3 || [...first.sidecar.view.origins()].every(({ learned }) => learned.whole.limit === undefined));
  await first.stop();

  const second = await testSidecar(t, options);
  const other = await RawPeer.connect(t, second.inbound);
  other.send(GET);
  await answered(other);
  const { exchange } = await watch.end(count + 1);
  assert.equal(exchange.upstream!.idleLimitSource, "learned");
});

/** An origin that closes connections after a time that may be changed, and eight callers at once. */
async function moving(t: TestContext, forwarder: string, limitMs: number) {
  const timers = new WeakMap<object, NodeJS.Timeout>();
  const keeps = { limitMs };
  const origin = await rawOrigin(t, ({ socket }) => {
    clearTimeout(timers.get(socket));
    socket.write(OK);
    timers.set(
      socket,
      setTimeout(() => socket.end(), keeps.limitMs),
    );
  });
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    plugins: [{ use: "idle-timeout", config: { canaries: 8 } }, { plugin: watch.plugin }],
    config: { forwarder },
  });
  const callers = await Promise.all(Array.from({ length: 8 }, () => RawPeer.connect(t, sidecar.inbound)));
  return {
    sidecar,
    keeps,
    /** All of them ask at once what may be sent again: a POST that meets the first close of a new limit is lost. */
    async ask() {
      for (const caller of callers) caller.received = "";
      for (const caller of callers) caller.send(GET);
      await Promise.all(callers.map(answered));
    },
    known(): LearnedPeer {
      const [one] = sidecar.sidecar.view.origins();
      return one!.learned.whole;
    },
  };
}

for (const forwarder of FORWARDERS) {
  // How many races that may cost is for the simulation to tell: here eight callers ask at once, on a real clock.
  test(`${forwarder}: an origin that shortens its limit is learned again, and no request that may be sent again fails`, async (t) => {
    const { ask, keeps, known } = await moving(t, forwarder, 900);
    do {
      await ask();
      await sleep(1000);
    } while (known().limit === undefined);
    assert.ok(known().limit!.limitMs > 500, `${known().limit!.limitMs}`);

    keeps.limitMs = 200;
    while (known().usableIdleMs > 250) {
      await ask();
      await sleep(100 + 200 * Math.random());
    }
    assert.ok(known().usableIdleMs > 0);
  });
}

test("what was learned is in GET /origins and in the metrics of a running sidecar", async (t) => {
  const { ask, known, sidecar } = await moving(t, "wire", 150);
  do {
    await ask();
    await sleep(200);
  } while (known().limit === undefined);
  await ask();
  const { origins } = (await (await fetch(`${sidecar.admin}/origins`)).json()) as {
    origins: { idleLimit: { source: string; effectiveMs: number }; learned: { idle: { timeoutMs: number } } }[];
  };
  const [{ idleLimit, learned }] = origins as [(typeof origins)[0]];
  assert.equal(idleLimit.source, "learned");
  assert.ok(learned.idle.timeoutMs < 400);
  assert.ok(idleLimit.effectiveMs < learned.idle.timeoutMs);
  const metrics = await (await fetch(`${sidecar.admin}/metrics`)).text();
  const [, seconds] = /^holdfast_upstream_idle_timeout\S*source="learned"\S* (\S+)$/m.exec(metrics)!;
  assert.ok(Number(seconds) > 0.05 && Number(seconds) < 0.4, `${seconds}`);
});
