import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import tcpKeepalive, { effective, isForgotten, PATHS } from "../../plugins/tcp-keepalive.ts";
import { backendFacts, configFaults, connectionFacts, start, upstreamFacts } from "./facts.ts";

const DEFAULTS = { enable: true, timeMs: 60_000, intervalMs: 10_000, probes: 3 };

describe("tcp-keepalive", () => {
  it("sets each side as configured", async () => {
    const started = await start(tcpKeepalive, {
      downstream: { enable: false },
      upstream: { time: "300s", interval: "20s", probes: 5 },
    });
    assert.deepEqual(started.open(connectionFacts()).tcpKeepAlive, { ...DEFAULTS, enable: false });
    assert.deepEqual(started.open(upstreamFacts()).tcpKeepAlive, {
      enable: true,
      timeMs: 300_000,
      intervalMs: 20_000,
      probes: 5,
    });
  });

  it("rounds up to whole seconds, at least one, as the kernel counts", () => {
    const ms = fc.integer({ min: 0, max: 100_000 });
    fc.assert(
      fc.property(ms, ms, (timeMs, intervalMs) => {
        const settings = effective({ enable: true, time: 1000, interval: 1000, probes: 1 }, { timeMs, intervalMs });
        for (const [set, asked] of [
          [settings.timeMs, timeMs],
          [settings.intervalMs, intervalMs],
        ] as const) {
          assert.equal(set % 1000, 0);
          assert.ok(set >= 1000 && set >= asked && set < Math.max(1, asked) + 1000);
        }
      }),
    );
  });

  it("lets a backend outrank the configuration field by field, also when it changes", async () => {
    const started = await start(tcpKeepalive);
    const backend = backendFacts({ tcpKeepAlive: { timeMs: 5000 } });
    const connection = started.open(upstreamFacts({ backend }));
    assert.deepEqual(connection.tcpKeepAlive, { ...DEFAULTS, timeMs: 5000 });
    backend.tcpKeepAlive = { enable: false, probes: 9 };
    started.backendChanged(connection);
    assert.deepEqual(connection.tcpKeepAlive, { ...DEFAULTS, enable: false, probes: 9 });
  });

  it("leaves a connection that never opened alone", async () => {
    const started = await start(tcpKeepalive);
    const connection = started.open(upstreamFacts({ closeReason: "connect_failed", state: "closed" }));
    assert.equal(connection.tcpKeepAlive, undefined);
  });

  it("refuses what the kernel does not take", () => {
    const refused: [object, RegExp][] = [
      [{ downstream: { time: "500ms" } }, /downstream\.time.*at least "1s"/],
      [{ downstream: { time: "off" } }, /downstream\.time.*at most "32767s"/],
      [{ upstream: { interval: "32768s" } }, /upstream\.interval.*at most "32767s"/],
      [{ upstream: { probes: 0 } }, /upstream\.probes.*from 1 to 127/],
      [{ upstream: { probes: 128 } }, /upstream\.probes.*from 1 to 127/],
      [{ upstream: { probes: 2.5 } }, /upstream\.probes.*from 1 to 127/],
      [{ path: "dialup" }, /path.*"azure"/],
    ];
    for (const [json, reason] of refused) assert.match(configFaults(tcpKeepalive, json).join(), reason);
  });

  describe("warning", () => {
    it("holds for times that reach what the path forgets", () => {
      for (const path of Object.keys(PATHS) as (keyof typeof PATHS)[]) {
        const forgetsMs = PATHS[path];
        if (path === "none") {
          assert.equal(isForgotten({ ...DEFAULTS, timeMs: 32_767_000 }, path), false);
          continue;
        }
        assert.equal(isForgotten({ ...DEFAULTS, timeMs: forgetsMs - 1000 }, path), false, path);
        assert.equal(isForgotten({ ...DEFAULTS, timeMs: forgetsMs }, path), true, path);
        assert.equal(isForgotten({ ...DEFAULTS, timeMs: forgetsMs, enable: false }, path), false, path);
      }
      assert.deepEqual([PATHS.azure, PATHS.nlb], [240_000, 350_000]);
    });

    it("names side, time and path once at start, for the side that leaves the machine", async () => {
      const json = { downstream: { time: "300s" }, upstream: { time: "400s" }, path: "azure" };
      const inbound = await start(tcpKeepalive, json, "inbound");
      assert.equal(inbound.warnings.length, 1);
      assert.match(inbound.warnings[0]!, /^downstream\.time: first probe after 300 s, but azure .* 240 s/);
      const outbound = await start(tcpKeepalive, json, "outbound");
      assert.equal(outbound.warnings.length, 1);
      assert.match(outbound.warnings[0]!, /^upstream\.time: first probe after 400 s/);
      assert.deepEqual((await start(tcpKeepalive, { ...json, path: "gcp" })).warnings, []);
    });

    it("names a backend whose time is too long once, and again when it changes to another such time", async () => {
      const started = await start(tcpKeepalive, { path: "nlb" }, "outbound");
      const backend = backendFacts({ tcpKeepAlive: { timeMs: 400_000 } });
      const connections = [1, 2, 3].map(() => started.open(upstreamFacts({ backend })));
      assert.equal(started.warnings.length, 1);
      assert.match(started.warnings[0]!, /^backend orders: /);
      backend.tcpKeepAlive = { timeMs: 350_000 };
      for (const connection of connections) started.backendChanged(connection);
      assert.equal(started.warnings.length, 2);
      backend.tcpKeepAlive = { timeMs: 60_000 };
      for (const connection of connections) started.backendChanged(connection);
      assert.equal(started.warnings.length, 2);
    });
  });
});
