import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import idleTimeout, { leaveAfter } from "../../plugins/idle-timeout.ts";
import {
  backendFacts,
  connectionFacts,
  exchangeFacts,
  poolFacts,
  type Started,
  start,
  upstreamFacts,
} from "./facts.ts";

function hint(seconds: number) {
  return { timeoutMs: seconds * 1000, maxRequests: undefined };
}

function openMany(started: Started, side: "downstream" | "upstream", count: number) {
  const make = side === "downstream" ? connectionFacts : upstreamFacts;
  return Array.from({ length: count }, () => started.open(make()));
}

describe("idle-timeout", () => {
  describe("leaveAfter", () => {
    it("takes the whole margin from long hints and less from short ones", () => {
      const table = [
        [600, 595],
        [60, 55],
        [25, 20],
        [20, 16],
        [10, 8],
        [5, 4],
        [3, 2.4],
        [2, 1.5],
        [1, 0.5],
        [0, 0],
      ] as const;
      for (const [said, left] of table) assert.equal(leaveAfter(said * 1000, 5000), left * 1000, `timeout=${said}`);
    });

    const ms = fc.nat(10_000_000);
    it("leaves before the peer, keeps at least half, and never takes more than the margin", () => {
      fc.assert(
        fc.property(ms, ms, (hintMs, marginMs) => {
          const left = leaveAfter(hintMs, marginMs);
          assert.ok(left <= hintMs && left >= hintMs / 2 && left >= hintMs - marginMs);
          if (marginMs > 0 && hintMs > 0) assert.ok(left < hintMs);
        }),
      );
    });

    it("never leaves a longer hint sooner than a shorter one", () => {
      fc.assert(
        fc.property(ms, ms, ms, (one, other, marginMs) => {
          const [short, long] = one < other ? [one, other] : [other, one];
          assert.ok(leaveAfter(short, marginMs) <= leaveAfter(long, marginMs) + 1e-6);
        }),
      );
    });
  });

  it("limits each side by its own setting", async () => {
    const started = await start(idleTimeout, { downstream: "75s", upstream: "off" });
    assert.equal(started.open(connectionFacts()).keepAlive.idleTimeoutMs, 75_000);
    assert.equal(started.open(upstreamFacts()).keepAlive.idleTimeoutMs, Number.POSITIVE_INFINITY);
  });

  it("leaves an upstream before the time it last announced", async () => {
    const started = await start(idleTimeout);
    const connection = started.open(upstreamFacts());
    const { keepAlive } = connection;
    started.idle(connection);
    assert.equal(Math.min(keepAlive.idleTimeoutMs, keepAlive.agreedTimeoutMs), 55_000);
    connection.hint = hint(5);
    started.idle(connection);
    assert.equal(Math.min(keepAlive.idleTimeoutMs, keepAlive.agreedTimeoutMs), 4000);
    connection.hint = hint(30);
    started.idle(connection);
    assert.equal(Math.min(keepAlive.idleTimeoutMs, keepAlive.agreedTimeoutMs), 25_000);
    connection.hint = hint(3600);
    started.idle(connection);
    assert.equal(Math.min(keepAlive.idleTimeoutMs, keepAlive.agreedTimeoutMs), 55_000);
  });

  it("keeps an upstream for the smaller of configuration and announcement, whatever they are", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(100_000), fc.nat(100), async (configuredMs, seconds) => {
        const started = await start(idleTimeout, { upstream: `${configuredMs}ms` });
        const connection = started.open(upstreamFacts());
        connection.hint = hint(seconds);
        started.idle(connection);
        const { idleTimeoutMs, agreedTimeoutMs } = connection.keepAlive;
        const keptMs = Math.min(idleTimeoutMs, agreedTimeoutMs);
        assert.ok(keptMs <= configuredMs && keptMs <= seconds * 1000);
      }),
    );
  });

  it("heeds what was learned of an upstream, and watches one idle connection, unless told otherwise", async () => {
    const table = [
      [{}, true, 1],
      [{ canaries: 3 }, true, 3],
      [{ learn: false, canaries: 3 }, false, 0],
    ] as const;
    for (const [config, heeds, canaries] of table) {
      const started = await start(idleTimeout, config);
      const pool = poolFacts();
      started.filter.pool?.(pool);
      assert.equal(pool.canaries, canaries);
      assert.equal(started.open(upstreamFacts()).keepAlive.heedLearned, heeds);
    }
  });

  it("does not touch what a caller asked for", async () => {
    const started = await start(idleTimeout);
    const connection = started.open(connectionFacts({ hint: hint(5) }));
    connection.keepAlive.agreedTimeoutMs = 5000;
    started.begin(exchangeFacts({ downstream: connection }));
    started.idle(connection);
    assert.equal(connection.keepAlive.agreedTimeoutMs, 5000);
  });

  it("lets a backend's own limit outrank the configuration, also when it changes", async () => {
    const started = await start(idleTimeout, { upstream: "30s" });
    const backend = backendFacts({ idleTimeoutMs: 90_000 });
    const connection = started.open(upstreamFacts({ backend }));
    assert.equal(connection.keepAlive.idleTimeoutMs, 90_000);
    backend.idleTimeoutMs = 2000;
    started.backendChanged(connection);
    assert.equal(connection.keepAlive.idleTimeoutMs, 2000);
    backend.idleTimeoutMs = undefined;
    started.backendChanged(connection);
    assert.equal(connection.keepAlive.idleTimeoutMs, 30_000);
  });

  it("leaves the limit to a plugin behind it unless load may change it", async () => {
    for (const make of [connectionFacts, upstreamFacts]) {
      for (const [json, keptMs] of [
        [{}, 7000],
        [{ underLoad: { connections: 3 } }, make === upstreamFacts ? 55_000 : 65_000],
      ] as const) {
        const started = await start(idleTimeout, json);
        const connection = started.open(make());
        connection.keepAlive.idleTimeoutMs = 7000;
        const exchange = exchangeFacts(make === connectionFacts ? { downstream: connection } : {});
        started.begin(exchange);
        if (make === upstreamFacts) started.takeUpstream(exchange, connection);
        started.idle(connection);
        assert.equal(connection.keepAlive.idleTimeoutMs, keptMs);
      }
    }
  });

  describe("under load", () => {
    const config = { underLoad: { connections: 3, timeout: "10s" } };

    for (const side of ["downstream", "upstream"] as const) {
      it(`${side}: shortens as connections become idle, and goes back with the load`, async () => {
        const started = await start(idleTimeout, config);
        const ordinaryMs = side === "downstream" ? 65_000 : 55_000;
        const [first, second, third] = openMany(started, side, 3);
        started.idle(first!);
        assert.equal(first!.keepAlive.idleTimeoutMs, ordinaryMs, "three are not more than three");
        const fourth = started.open(side === "downstream" ? connectionFacts() : upstreamFacts());
        started.idle(second!);
        assert.equal(second!.keepAlive.idleTimeoutMs, 10_000);
        assert.equal(first!.keepAlive.idleTimeoutMs, ordinaryMs, "was idle before");
        started.close(fourth);
        started.idle(third!);
        assert.equal(third!.keepAlive.idleTimeoutMs, ordinaryMs);
        started.idle(second!);
        assert.equal(second!.keepAlive.idleTimeoutMs, ordinaryMs);
      });

      it(`${side}: keeps what the peer was told, and tells the shorter time with the next message`, async () => {
        const started = await start(idleTimeout, config);
        const [first] = openMany(started, side, 3);
        first!.keepAlive.advertise = true;
        const ordinaryMs = first!.keepAlive.idleTimeoutMs;
        openMany(started, side, 1);
        started.idle(first!);
        assert.equal(first!.keepAlive.idleTimeoutMs, ordinaryMs);
        const exchange = exchangeFacts(side === "downstream" ? { downstream: first! } : {});
        started.begin(exchange);
        if (side === "upstream") started.takeUpstream(exchange, first!);
        assert.equal(first!.keepAlive.idleTimeoutMs, 10_000);
      });
    }

    it("counts each side for itself", async () => {
      const started = await start(idleTimeout, config);
      openMany(started, "upstream", 10);
      assert.equal(started.open(connectionFacts()).keepAlive.idleTimeoutMs, 65_000);
    });

    it("never makes a limit longer", async () => {
      const started = await start(idleTimeout, { downstream: "2s", underLoad: { connections: 1, timeout: "10s" } });
      const [, second] = openMany(started, "downstream", 2);
      assert.equal(second!.keepAlive.idleTimeoutMs, 2000);
    });

    it("is off by default", async () => {
      const started = await start(idleTimeout);
      const connections = openMany(started, "downstream", 50);
      assert.equal(connections.at(-1)!.keepAlive.idleTimeoutMs, 65_000);
    });
  });
});
