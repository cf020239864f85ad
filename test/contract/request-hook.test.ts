/** `request` is the one hook that may take its time: what that means, with every forwarder. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import type { Reply } from "../../src/plugin/api.ts";
import type { TestPlugin } from "../../src/testing.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";
import { type Deeds, Tape } from "./tape.ts";

const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async function open(
  t: TestContext,
  forwarder: ForwarderName,
  request: NonNullable<Deeds["request"]>,
  entry: Pick<TestPlugin, "onError" | "requestTimeout"> = {},
) {
  const origin = await rawOrigin(t, ({ socket }, head) => {
    if (head.startsWith("GET")) socket.write(OK);
  });
  const tape = new Tape();
  const plugins = [{ plugin: tape.plugin("slow", { request }), ...entry }, { plugin: tape.plugin("next") }];
  const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
  return { origin, tape, sidecar, peer: await RawPeer.connect(t, sidecar.inbound) };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: the exchange waits for a request hook, edits included`, async (t) => {
    const gate = Promise.withResolvers<void>();
    const { origin, tape, peer } = await open(t, forwarder, async (head) => {
      await gate.promise;
      head.headers.set("X-Token", "fetched");
    });
    peer.send(GET);
    await tape.ran("slow request");
    assert.equal(tape.count("next request"), 0, "the next plugin waits too");
    assert.equal(origin.received(), "");
    gate.resolve();
    await peer.until((text) => text.endsWith("ok"));
    assert.match(origin.received(), /\r\nX-Token: fetched\r\n/);
    assert.equal(tape.count("next request"), 1);
  });

  test(`${forwarder}: a body that arrives meanwhile is sent after it`, async (t) => {
    const gate = Promise.withResolvers<void>();
    const { origin, tape, peer } = await open(t, forwarder, () => gate.promise);
    const body = "x".repeat(300_000);
    peer.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await tape.ran("slow request");
    gate.resolve();
    await origin.connected(1);
    const { socket } = origin.connections[0]!;
    while (!origin.received().endsWith(`\r\n\r\n${body}`)) await once(socket, "data");
    socket.write(OK);
    await peer.until((text) => text.endsWith("ok"));
  });

  test(`${forwarder}: a reply may be promised`, async (t) => {
    const { origin, tape, peer } = await open(t, forwarder, async () => ({ status: 429, body: "later\n" }));
    peer.send(GET);
    const received = await peer.until((text) => text.endsWith("later\n"));
    assert.match(received, /^HTTP\/1\.1 429 Too Many Requests\r\n/);
    assert.equal(tape.count("next request"), 0);
    assert.equal(origin.connections.length, 0);
  });

  for (const [name, request, logged] of [
    ["rejects", () => Promise.reject(new Error("no luck")), /no luck/],
    ["resolves to nonsense", async () => 42 as never, /must return a reply/],
    ["takes longer than its requestTimeout", () => new Promise<void>(() => {}), /took over 20 ms/],
  ] as const) {
    test(`${forwarder}: a request hook that ${name}: the exchange goes on without the plugin`, async (t) => {
      const { tape, peer, sidecar } = await open(t, forwarder, request, { requestTimeout: "20ms" });
      peer.send(GET);
      await peer.until((text) => text.endsWith("ok"));
      await tape.ran("next end");
      assert.equal(tape.count("next request"), 1);
      assert.equal(tape.count("slow response"), 0, "left out for the rest of the exchange");
      assert.equal(tape.count("slow end"), 1);
      const lines = sidecar.log.filter((line) => line["plugin"] === "slow" && line["hook"] === "request");
      assert.equal(lines.length, 1);
      assert.match(JSON.stringify(lines[0]), logged);
    });

    test(`${forwarder}: a request hook that ${name}: 500 with onError fail`, async (t) => {
      const entry = { requestTimeout: "20ms", onError: "fail" } as const;
      const { origin, tape, peer } = await open(t, forwarder, request, entry);
      peer.send(GET);
      const received = await peer.until((text) => /\r\n\r\n500 HF_PLUGIN_\w+\n$/.test(text));
      assert.match(received, /^HTTP\/1\.1 500 /);
      const code = name.startsWith("takes") ? "HF_PLUGIN_TIMEOUT" : "HF_PLUGIN_FAILED";
      assert.ok(received.includes(`details="${code}"`), received);
      await tape.ran("slow end");
      assert.equal((await tape.outcome()).error?.code, code);
      assert.equal(tape.count("next request"), 0);
      assert.equal(origin.connections.length, 0);
    });
  }

  test(`${forwarder}: what a hook does after its time is over changes nothing`, async (t) => {
    const late = Promise.withResolvers<Reply>();
    const answers = [late.promise, undefined];
    const { origin, peer } = await open(t, forwarder, () => answers.shift(), { requestTimeout: "20ms" });
    peer.send(GET);
    await peer.until((text) => text.endsWith("ok"));
    late.resolve({ status: 403, body: "late" });
    peer.send(GET.replace("Host", "X-Second: 1\r\nHost"));
    const received = await peer.until((text) => text.split("\r\n\r\nok").length === 3);
    assert.doesNotMatch(received, /403/);
    assert.match(origin.received(), /X-Second/);
  });

  test(`${forwarder}: no hook runs after end, though a request hook was still under way`, async (t) => {
    const gate = Promise.withResolvers<void>();
    const { tape, peer } = await open(t, forwarder, () => gate.promise);
    peer.send(GET);
    await tape.ran("slow request");
    peer.socket.resetAndDestroy();
    await tape.ran("slow end");
    const before = tape.events.length;
    gate.resolve();
    await tape.ran("slow close downstream");
    // Whatever the promise would set off has run by the next turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(
      tape.events.slice(before).filter((event) => !/ close downstream$/.test(event)),
      [],
    );
  });

  test(`${forwarder}: requests on other connections do not wait for it`, async (t) => {
    const gate = Promise.withResolvers<void>();
    let first = true;
    const { tape, peer, sidecar } = await open(t, forwarder, () => {
      if (!first) return;
      first = false;
      return gate.promise;
    });
    peer.send(GET);
    await tape.ran("slow request");
    const other = await RawPeer.connect(t, sidecar.inbound);
    other.send(GET);
    await other.until((text) => text.endsWith("ok"));
    assert.equal(peer.received, "");
    gate.resolve();
    await peer.until((text) => text.endsWith("ok"));
  });
}
