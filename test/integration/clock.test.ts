/** The wall clock may jump, at start-up and with every correction; limits and durations must not notice. */
import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2026, 0, 15, 12);
/** Longer than two looks at the limits. */
const LOOKED_AT_MS = 250;

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a clock that jumps closes nothing, fails nothing and makes no duration wrong`, async (t) => {
    t.mock.timers.enable({ apis: ["Date"], now: START_MS });
    const answers: (() => void)[] = [];
    const origin = await rawOrigin(t, ({ socket }) => {
      answers.push(() => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const jumps = [0, DAY_MS, -DAY_MS, 30 * DAY_MS, -60 * DAY_MS];
    for (const [index, jumpMs] of jumps.entries()) {
      peer.received = "";
      peer.send(GET);
      while (answers.length <= index) await sleep(1);
      // In an exchange, and then while both connections are idle.
      t.mock.timers.setTime(START_MS + jumpMs / 2);
      await sleep(LOOKED_AT_MS);
      answers[index]!();
      const answer = await peer.until((text) => text.endsWith("\r\n\r\nok"));
      if (forwarder === "wire") {
        // node:http keeps its date for up to a second.
        assert.ok(answer.includes(`\r\nDate: ${new Date(START_MS + jumpMs / 2).toUTCString()}\r\n`), answer);
      }
      t.mock.timers.setTime(START_MS + jumpMs);
      await sleep(LOOKED_AT_MS);
    }
    assert.equal(origin.connections.length, 1);
    assert.equal(peer.ended, false);
    assert.deepEqual(watch.closed, []);
    for (const { outcome, exchange } of watch.ended) {
      assert.equal(outcome.error, undefined);
      assert.ok(outcome.durationMs >= LOOKED_AT_MS / 2 && outcome.durationMs < DAY_MS / 2, `${outcome.durationMs} ms`);
      assert.ok(exchange.upstreamIdleMs >= 0 && exchange.upstreamIdleMs < DAY_MS / 2);
    }
    for (const line of sidecar.log) {
      const { durationMs } = line as { durationMs?: number };
      if (durationMs !== undefined) assert.ok(durationMs > 0 && durationMs < DAY_MS / 2);
    }
  });
}

test("refused connections are reported also after the clock was set back", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: START_MS });
  const origin = await rawOrigin(t, () => {});
  const plugins = [{ use: "connection-limits", config: { maxConnections: 1 } }];
  const sidecar = await testSidecar(t, { upstream: origin.url, plugins });
  const steady = performance.now.bind(performance);
  let aheadMs = 0;
  t.mock.method(performance, "now", () => steady() + aheadMs);
  const held = await RawPeer.connect(t, sidecar.inbound);
  held.send("GET / HTTP/1.1\r\n");
  const reports = (): number => sidecar.log.filter(({ msg }) => String(msg).startsWith("connection refused:")).length;
  for (const expected of [1, 2]) {
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    assert.match(await peer.untilEnd(), /^HTTP\/1\.1 503 /);
    assert.equal(reports(), expected);
    t.mock.timers.setTime(START_MS - DAY_MS);
    // Longer than between two reports, shorter than a head may take.
    aheadMs += 15_000;
  }
});
