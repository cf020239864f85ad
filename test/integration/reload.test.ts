import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { type TestContext, test } from "node:test";
import type { CloseReason, Filter, Plugin } from "../../src/plugin/api.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: orders\r\n\r\n";

/** An origin that answers at once with its name. */
function named(t: TestContext, name: string) {
  return rawOrigin(t, ({ socket }) => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${name.length}\r\n\r\n${name}`));
}

/** Sends a request on a kept connection; resolves with the body of the response that follows. */
async function ask(peer: RawPeer, request = GET): Promise<string> {
  const from = peer.received.length;
  peer.send(request);
  let body = "";
  await peer.until((text) => {
    const [head = "", rest = ""] = text.slice(from).split("\r\n\r\n", 2);
    const length = /\r\nContent-Length: (\d+)/i.exec(head)?.[1];
    body = rest;
    return length !== undefined && rest.length === Number(length);
  });
  return body;
}

/** What a plugin under test was asked to do, in order, as `instance hook`. */
class Diary {
  readonly entries: string[] = [];
  #instances = 0;
  #next = Promise.withResolvers<void>();

  note(entry: string): void {
    this.entries.push(entry);
    this.#next.resolve();
    this.#next = Promise.withResolvers<void>();
  }

  count(entry: string): number {
    return this.entries.filter((other) => other === entry).length;
  }

  /** Resolves once it was noted. */
  async until(entry: string): Promise<void> {
    while (!this.entries.includes(entry)) await this.#next.promise;
  }

  /** A plugin whose instances are `1`, `2`, … in the order of their setup. */
  plugin(more: (instance: number) => Filter = () => ({})): Plugin<{ mark: string }> {
    return {
      name: "diary",
      description: "Notes what happens",
      apiVersion: 1,
      config: { mark: { default: "", format: String, doc: "Anything." } },
      setup: () => {
        const instance = ++this.#instances;
        this.note(`${instance} setup`);
        return {
          connection: ({ side }) => {
            this.note(`${instance} connection ${side}`);
            return { close: (reason: CloseReason) => this.note(`${instance} close ${side} ${reason}`) };
          },
          exchange: () => ({ end: () => this.note(`${instance} end`) }),
          close: () => this.note(`${instance} close`),
          ...more(instance),
        };
      },
    };
  }
}

for (const forwarder of FORWARDERS) {
  const config = { forwarder };

  test(`${forwarder}: the next exchange on an open connection takes the new route; what runs finishes on the old one`, async (t) => {
    const heads: OriginConnection[] = [];
    const came = Promise.withResolvers<void>();
    const slow = await rawOrigin(t, (connection) => {
      heads.push(connection);
      connection.socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
      came.resolve();
    });
    const fast = await named(t, "new");
    const sidecar = await testSidecar(t, { upstream: slow.url, config });
    const streaming = await RawPeer.connect(t, sidecar.inbound);
    streaming.send(GET);
    await came.promise;
    await streaming.until((text) => text.includes("begun"));
    const idle = await RawPeer.connect(t, sidecar.inbound);

    const report = await sidecar.reload({ upstream: fast.url, config });
    assert.deepEqual([report.result, report.changed, report.faults], ["applied", ["inbound.upstream"], []]);
    assert.equal(await ask(idle), "new");
    assert.equal(await ask(idle), "new");
    heads[0]!.socket.write("5\r\nended\r\n0\r\n\r\n");
    await streaming.until((text) => text.endsWith("0\r\n\r\n"));
    assert.equal(await ask(streaming), "new");
    assert.equal(heads.length, 1);
    assert.ok(!streaming.ended && !idle.ended);
  });

  test(`${forwarder}: limits, forwarding fields and the log level hold from the next exchange on`, async (t) => {
    const origin = await named(t, "ok");
    const sidecar = await testSidecar(t, { upstream: origin.url, config });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    assert.equal(await ask(peer), "ok");
    assert.match(origin.received(), /\r\nVia: /);
    const seen = origin.received().length;
    const changed = { ...config, limits: { fields: 3 }, forwarding: { via: false }, log: { level: "error" } };
    assert.equal((await sidecar.reload({ upstream: origin.url, config: changed })).result, "applied");
    assert.equal(await ask(peer), "ok");
    assert.doesNotMatch(origin.received().slice(seen), /\r\nVia: /);
    assert.equal(sidecar.sidecar.view.logLevel, "error");
    peer.send("GET / HTTP/1.1\r\nHost: orders\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n");
    assert.match(await peer.untilEnd(), /HTTP\/1\.1 431 /);
  });

  test(`${forwarder}: origins that stay keep their warm connections, others give theirs up`, async (t) => {
    const [stays, goes] = [await named(t, "stays"), await named(t, "goes")];
    const routes = (...hosts: (readonly [string, string])[]) => ({
      ...config,
      outbound: { routes: hosts.map(([host, upstream]) => ({ host, upstream })), unmatched: "deny" },
    });
    const both = routes(["stays", stays.url], ["goes", goes.url]);
    const sidecar = await testSidecar(t, { config: both });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    const to = (host: string): string => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
    assert.equal(await ask(peer, to("stays")), "stays");
    assert.equal(await ask(peer, to("goes")), "goes");
    const closed = once(goes.connections[0]!.socket, "close");
    const only = routes(["stays", stays.url], ["too", stays.url]);
    assert.equal((await sidecar.reload({ config: only })).result, "applied");
    await closed;
    assert.equal(await ask(peer, to("stays")), "stays");
    assert.equal(await ask(peer, to("too")), "stays");
    assert.equal(stays.connections.length, 1);
    peer.send(to("goes"));
    await peer.until((text) => text.includes("HTTP/1.1 403 "));
    assert.equal(goes.connections.length, 1);
  });

  test(`${forwarder}: plugins that are the same stay, with all they know`, async (t) => {
    const diary = new Diary();
    const [one, two] = [await named(t, "one"), await named(t, "two")];
    const plugins = [{ plugin: diary.plugin() }];
    const sidecar = await testSidecar(t, { upstream: one.url, plugins: [{ use: "keep-alive" }], config });
    // The file of a plugin under test is another at every reload; a built-in's is not.
    const before = sidecar.sidecar.view.plugins;
    assert.equal(
      (await sidecar.reload({ upstream: two.url, plugins: [{ use: "keep-alive" }], config })).result,
      "applied",
    );
    assert.deepEqual(sidecar.sidecar.view.plugins, before);
    assert.equal((await sidecar.reload({ upstream: two.url, plugins, config })).result, "applied");
    assert.deepEqual(diary.entries, ["1 setup"]);
    const again = await sidecar.reload({ upstream: one.url, plugins, config });
    assert.equal(again.result, "applied");
    assert.deepEqual(diary.entries, ["1 setup"]);
  });

  test(`${forwarder}: other plugins take open connections over; those before see what they began to its end, and close once`, async (t) => {
    const diary = new Diary();
    const waiting: OriginConnection[] = [];
    const came = Promise.withResolvers<void>();
    const origin = await rawOrigin(t, (connection, head) => {
      if (head.startsWith("GET /slow")) {
        waiting.push(connection);
        came.resolve();
      } else connection.socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    const plugin = diary.plugin();
    const with_ = (mark: string) => ({ upstream: origin.url, plugins: [{ plugin, config: { mark } }], config });
    const sidecar = await testSidecar(t, with_("a"));
    const [idle, busy] = [await RawPeer.connect(t, sidecar.inbound), await RawPeer.connect(t, sidecar.inbound)];
    assert.equal(await ask(idle), "ok");
    busy.send("GET /slow HTTP/1.1\r\nHost: orders\r\n\r\n");
    await came.promise;
    // Both sides of the busy exchange use the connection that is idle upstream.
    diary.entries.length = 0;

    assert.equal((await sidecar.reload(with_("b"))).result, "applied");
    assert.deepEqual(diary.entries, [
      "2 setup",
      "1 close downstream reload",
      "2 connection downstream",
      "2 connection downstream",
      "2 connection upstream",
    ]);
    diary.entries.length = 0;
    assert.equal(await ask(idle), "ok");
    await diary.until("2 end");
    assert.deepEqual(diary.entries, ["2 connection upstream", "2 end"]);

    diary.entries.length = 0;
    waiting[0]!.socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    await busy.until((text) => text.endsWith("ok"));
    await diary.until("1 close");
    assert.deepEqual(diary.entries.toSorted(), [
      "1 close",
      "1 close downstream reload",
      "1 close upstream reload",
      "1 end",
    ]);
    assert.equal(diary.entries[0], "1 end");
    assert.equal(diary.entries.at(-1), "1 close");

    diary.entries.length = 0;
    assert.equal(await ask(busy), "ok");
    await sidecar.sidecar.stop();
    assert.equal(diary.count("2 close"), 1);
    assert.equal(diary.count("1 close"), 0);
    assert.ok(!diary.entries.some((entry) => entry.startsWith("1 ")));
  });

  test(`${forwarder}: an exchange that waits in a plugin across a reload goes on with the plugins it began with`, async (t) => {
    const diary = new Diary();
    const held = Promise.withResolvers<void>();
    const arrived = Promise.withResolvers<void>();
    const origin = await named(t, "ok");
    const plugin = diary.plugin((instance) => ({
      exchange: () => ({
        async request() {
          if (instance > 1) return;
          arrived.resolve();
          await held.promise;
        },
        upstreamConnected: () => diary.note(`${instance} upstreamConnected`),
        end: () => diary.note(`${instance} end`),
      }),
    }));
    const with_ = (mark: string) => ({ upstream: origin.url, plugins: [{ plugin, config: { mark } }], config });
    const sidecar = await testSidecar(t, with_("a"));
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    await arrived.promise;
    assert.equal((await sidecar.reload(with_("b"))).result, "applied");
    const other = await RawPeer.connect(t, sidecar.inbound);
    assert.equal(await ask(other), "ok");
    diary.entries.length = 0;
    held.resolve();
    await peer.until((text) => text.endsWith("ok"));
    await diary.until("1 close");
    // It was shown the connection before it was given it, and its hooks were closed.
    const upstream = diary.entries.filter((entry) => /upstream/.test(entry));
    assert.deepEqual(upstream, [
      "2 close upstream reload",
      "1 connection upstream",
      "1 upstreamConnected",
      "1 close upstream reload",
      "2 connection upstream",
    ]);
    assert.equal(await ask(peer), "ok");
    assert.equal(origin.connections.length, 1);
  });

  test(`${forwarder}: a promise to keep a connection outlives the plugin that made it, until the next response`, async (t) => {
    const origin = await named(t, "ok");
    const keep = (timeout: string) => ({
      upstream: origin.url,
      plugins: [{ use: "keep-alive" }, { use: "idle-timeout", config: { downstream: timeout } }],
      config,
    });
    const sidecar = await testSidecar(t, keep("60s"));
    const peer = await RawPeer.connect(t, sidecar.inbound);
    assert.equal(await ask(peer), "ok");
    assert.match(peer.received, /\r\nKeep-Alive: timeout=60\r\n/);
    assert.equal((await sidecar.reload(keep("2s"))).result, "applied");
    const [connection] = [...sidecar.sidecar.view.connections()].filter(({ side }) => side === "downstream");
    assert.equal((connection as unknown as { idleLimitMs: number }).idleLimitMs, 60_000);
    assert.equal(await ask(peer), "ok");
    assert.match(peer.received, /\r\nKeep-Alive: timeout=2\r\n/);
    const limitMs = (): number => (connection as unknown as { idleLimitMs: number }).idleLimitMs;
    assert.equal(limitMs(), 2000);
    // What was promised without a limit is kept for the new one from then on, not for ever.
    assert.equal((await sidecar.reload(keep("off"))).result, "applied");
    assert.equal(await ask(peer), "ok");
    assert.equal(limitMs(), Number.POSITIVE_INFINITY);
    assert.equal((await sidecar.reload(keep("30m"))).result, "applied");
    assert.ok(limitMs() >= 1_800_000 && limitMs() < 3_600_000);
  });

  test(`${forwarder}: keep-alive that is turned off is told before it is done`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok"));
    const keep = (enabled: boolean) => ({
      upstream: origin.url,
      plugins: [{ use: "keep-alive", config: { downstream: { enabled } } }],
      config,
    });
    const sidecar = await testSidecar(t, keep(true));
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    assert.doesNotMatch(await peer.until((text) => text.endsWith("ok")), /connection: close/i);
    assert.equal((await sidecar.reload(keep(false))).result, "applied");
    origin.connections[0]!.socket.write("ay");
    await peer.until((text) => text.endsWith("okay"));
    // The response said nothing of it, so the next request still has its connection.
    peer.send(GET);
    await peer.until((text) => text.endsWith("okayHTTP/1.1 200 OK\r\n") || /okay[\s\S]*ok$/.test(text));
    origin.connections.at(-1)!.socket.write("ay");
    assert.match(await peer.untilEnd(), /okay[\s\S]*\r\nConnection: close\r\n[\s\S]*okay$/);
  });
}

test("a configuration with faults changes nothing, and all of them are told", async (t) => {
  const origin = await named(t, "ok");
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const report = await sidecar.reload({
    upstream: origin.url,
    config: { limits: { head: "1" }, drain: { deadline: "soon" }, nonsense: true },
  });
  assert.equal(report.result, "invalid");
  assert.equal(report.faults.length, 3);
  for (const key of ["limits.head", "drain.deadline", "nonsense"]) {
    assert.ok(
      report.faults.some((fault) => fault.includes(`${key}: `) || fault.includes(key)),
      key,
    );
  }
  const line = sidecar.log.find(({ msg }) => String(msg).startsWith("not reloaded"));
  assert.deepEqual(line?.["faults"], report.faults);
  assert.equal(await ask(await RawPeer.connect(t, sidecar.inbound)), "ok");
});

test("what needs a restart is named, and nothing of the file is applied", async (t) => {
  const [one, two] = [await named(t, "one"), await named(t, "two")];
  const sidecar = await testSidecar(t, { upstream: one.url });
  const report = await sidecar.reload({
    upstream: two.url,
    outbound: true,
    config: { service: "other", telemetry: { traces: { ratio: 0.5 } } },
  });
  assert.equal(report.result, "needs_restart");
  assert.deepEqual(report.faults, [
    "service: another value needs a restart",
    "telemetry.traces.ratio: another value needs a restart",
    "outbound: another value needs a restart",
  ]);
  assert.equal(await ask(await RawPeer.connect(t, sidecar.inbound)), "one");
});

test("a plugin that throws in its setup leaves the configuration before, and what was set up beside it is closed", async (t) => {
  const diary = new Diary();
  const broken: Plugin<object> = {
    name: "broken",
    description: "Cannot start",
    apiVersion: 1,
    config: {},
    setup() {
      throw new Error("no licence");
    },
  };
  const [origin, inTheWay] = [await named(t, "ok"), await named(t, "in the way")];
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const report = await sidecar.reload({
    upstream: origin.url,
    plugins: [{ plugin: diary.plugin() }, { plugin: broken }],
    config: { inbound: { listen: `127.0.0.1:${inTheWay.port}` } },
  });
  assert.equal(report.result, "failed");
  assert.equal(report.faults.length, 2);
  assert.equal(report.faults[0], "plugin broken cannot start inbound: no licence");
  assert.match(report.faults[1]!, /^inbound\.listen: cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/);
  assert.deepEqual(diary.entries, ["1 setup", "1 close"]);
  assert.equal(await ask(await RawPeer.connect(t, sidecar.inbound)), "ok");
});

test("an address that overlaps the one before is in use, and nothing changes", async (t) => {
  const origin = await named(t, "ok");
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const { port } = new URL(sidecar.inbound);
  const report = await sidecar.reload({
    upstream: origin.url,
    config: { inbound: { listen: `0.0.0.0:${port}` } },
  });
  assert.equal(report.result, "failed");
  assert.match(report.faults[0]!, /^inbound\.listen: cannot listen on 0\.0\.0\.0:\d+ \(EADDRINUSE\)/);
  assert.equal(await ask(await RawPeer.connect(t, sidecar.inbound)), "ok");
});

test("an address that is another is listened on, and the one before is given up; connections stay", async (t) => {
  const origin = await named(t, "ok");
  const sidecar = await testSidecar(t, { upstream: origin.url });
  const before = sidecar.inbound;
  const peer = await RawPeer.connect(t, before);
  const report = await sidecar.reload({ upstream: origin.url, config: { inbound: { listen: "127.0.0.2:0" } } });
  assert.equal(report.result, "applied");
  assert.match(sidecar.inbound, /^http:\/\/127\.0\.0\.2:/);
  assert.equal(await ask(await RawPeer.connect(t, sidecar.inbound)), "ok");
  assert.equal(await ask(peer), "ok");
  const { hostname, port } = new URL(before);
  for (;;) {
    const socket = net.connect(Number(port), hostname);
    const refused = await once(socket, "connect").then(
      () => false,
      () => true,
    );
    socket.destroy();
    if (refused) break;
  }
});

test("reloads run one after the other; those that come while one waits share it", async (t) => {
  const [one, two] = [await named(t, "one"), await named(t, "two")];
  const sidecar = await testSidecar(t, { upstream: one.url });
  const reports = await Promise.all([
    sidecar.reload({ upstream: two.url, config: { limits: { fields: 10 } } }),
    sidecar.sidecar.reload("SIGHUP"),
    sidecar.sidecar.reload("file"),
  ]);
  assert.deepEqual(
    reports.map(({ result }) => result),
    ["applied", "applied", "applied"],
  );
  assert.equal(reports[1], reports[0]);
  assert.equal(await ask(await RawPeer.connect(t, sidecar.inbound)), "two");
});

test("a drain refuses reloads, also one that is being made ready", async (t) => {
  const diary = new Diary();
  const setUp = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const origin = await named(t, "ok");
  const slow: Plugin<object> = {
    name: "slow",
    description: "Takes its time",
    apiVersion: 1,
    config: {},
    async setup() {
      begun.resolve();
      await setUp.promise;
      return { close: () => diary.note("slow close") };
    },
  };
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    config: { drain: { idleGrace: "1s", deadline: "1m" } },
  });
  const first = sidecar.reload({ upstream: origin.url, plugins: [{ plugin: slow }] });
  await begun.promise;
  const drained = sidecar.sidecar.drain();
  setUp.resolve();
  assert.equal((await first).result, "draining");
  assert.deepEqual(diary.entries, ["slow close"]);
  assert.equal((await sidecar.sidecar.reload("SIGHUP")).result, "draining");
  assert.deepEqual(await drained, { cut: 0 });
});
