import assert from "node:assert/strict";
import { describe, it, mock } from "node:test";
import fc from "fast-check";
import connectionLimits from "../../plugins/connection-limits.ts";
import type { Reply } from "../../src/plugin/api.ts";
import {
  type ConnectionFacts,
  configFaults,
  connectionFacts,
  exchangeFacts,
  poolFacts,
  requestHead,
  type Started,
  start,
  upstreamFacts,
} from "./facts.ts";

function open(started: Started, remoteAddress = "198.51.100.7"): ConnectionFacts {
  return started.open(connectionFacts({ remoteAddress }));
}

/** Answer of the plugin to the first request on a connection; `undefined` when it lets it through. */
async function ask(started: Started, downstream: ConnectionFacts): Promise<Reply | undefined> {
  const reply = await started.begin(exchangeFacts({ downstream })).request?.(requestHead());
  return reply === undefined ? undefined : reply;
}

function fields(reply: Reply | undefined): Record<string, string> {
  return Object.fromEntries(reply?.headers ?? []);
}

describe("connection-limits", () => {
  it("limits nothing but time by default", async () => {
    const started = await start(connectionLimits);
    const connections = Array.from({ length: 2000 }, () => open(started));
    assert.equal(await ask(started, connections.at(-1)!), undefined);
    assert.deepEqual(connections.at(-1)!.requestTimeouts, { headMs: 60_000, requestMs: 300_000 });
  });

  it("sets time limits on callers only", async () => {
    const started = await start(connectionLimits, { headTimeout: "5s", requestTimeout: "off" });
    assert.deepEqual(open(started).requestTimeouts, { headMs: 5000, requestMs: Number.POSITIVE_INFINITY });
    const upstream = upstreamFacts();
    const before = { ...upstream.requestTimeouts };
    assert.deepEqual(started.open(upstream).requestTimeouts, before);
  });

  it("states the limits of a pool; 0 means no limit", async () => {
    const pool = poolFacts();
    const upstream = { maxConnections: 20, maxIdle: 5, maxQueue: 7, queueTimeout: "250ms" };
    (await start(connectionLimits, { upstream })).filter.pool?.(pool);
    assert.deepEqual([pool.maxConnections, pool.maxIdle, pool.maxQueue, pool.queueTimeoutMs], [20, 5, 7, 250]);
    const unlimited = { maxConnections: 0, maxIdle: 0, maxQueue: 0, queueTimeout: "off" };
    (await start(connectionLimits, { upstream: unlimited })).filter.pool?.(pool);
    const none = Number.POSITIVE_INFINITY;
    assert.deepEqual([pool.maxConnections, pool.maxIdle, pool.maxQueue, pool.queueTimeoutMs], [none, none, none, none]);
  });

  it("answers 503 with Retry-After on connections over the total, and drains them", async () => {
    const started = await start(connectionLimits, { maxConnections: 2, retryAfter: "1500ms" });
    const [first, second, third] = [open(started), open(started), open(started)];
    assert.equal(await ask(started, first), undefined);
    assert.equal(await ask(started, second), undefined);
    const reply = await ask(started, third);
    assert.equal(reply?.status, 503);
    assert.equal(fields(reply)["Retry-After"], "2");
    assert.match(String(reply?.body), /^503 too many connections\n$/);
    assert.equal(third.closeReason, "limit");
    assert.equal(third.keepAlive.enabled, false);
    assert.equal(first.closeReason, undefined);
  });

  it("gives connections over a limit little time, and never more than others", async () => {
    const started = await start(connectionLimits, { maxConnections: 1 });
    open(started);
    assert.deepEqual(open(started).requestTimeouts, { headMs: 5000, requestMs: 5000 });
    const strict = await start(connectionLimits, { maxConnections: 1, headTimeout: "1s" });
    open(strict);
    assert.deepEqual(open(strict).requestTimeouts, { headMs: 1000, requestMs: 5000 });
  });

  it("answers 429 over an address's limit, or 503 if told so, and leaves other addresses alone", async () => {
    for (const [json, status] of [
      [{ maxConnectionsPerAddress: 1 }, 429],
      [{ maxConnectionsPerAddress: 1, perAddressStatus: 503 }, 503],
    ] as const) {
      const started = await start(connectionLimits, json);
      const first = open(started, "203.0.113.1");
      const second = open(started, "203.0.113.1");
      const other = open(started, "203.0.113.2");
      assert.equal(await ask(started, first), undefined);
      assert.equal((await ask(started, second))?.status, status);
      assert.equal(await ask(started, other), undefined);
    }
  });

  it("counts IPv6 callers by network", async () => {
    const started = await start(connectionLimits, { maxConnectionsPerAddress: 1 });
    open(started, "2001:db8::1");
    assert.equal((await ask(started, open(started, "2001:db8::ffff")))?.status, 429);
    assert.equal(await ask(started, open(started, "2001:db8:0:1::1")), undefined);
  });

  it("names the address's limit when both are reached", async () => {
    const started = await start(connectionLimits, { maxConnections: 1, maxConnectionsPerAddress: 1 });
    open(started);
    assert.equal((await ask(started, open(started)))?.status, 429);
    assert.equal((await ask(started, open(started, "203.0.113.9")))?.status, 503);
  });

  it("does not hold the service beside us to the limit per address", async () => {
    const started = await start(connectionLimits, { maxConnectionsPerAddress: 1 }, "outbound");
    open(started, "127.0.0.1");
    assert.equal(await ask(started, open(started, "127.0.0.1")), undefined);
  });

  it("does not count upstream connections", async () => {
    const started = await start(connectionLimits, { maxConnections: 1 });
    for (let count = 0; count < 5; count++) started.open(upstreamFacts());
    assert.equal(await ask(started, open(started)), undefined);
  });

  it("closes at once, without an answer, what comes while enough wait for theirs", async () => {
    const started = await start(connectionLimits, { maxConnections: 1, maxRefused: 1 });
    open(started);
    const waiting = open(started);
    assert.equal(waiting.closeReason, undefined);
    assert.equal(open(started).closeReason, "limit");
    started.close(waiting);
    assert.equal(open(started).closeReason, undefined);
  });

  it("never admits more than the limits, answers all others, and forgets what closed", async () => {
    const addresses = ["203.0.113.1", "203.0.113.2", "2001:db8::1"];
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ open: fc.constantFrom(...addresses) }) },
      { weight: 2, arbitrary: fc.record({ close: fc.nat() }) },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 3 }),
        fc.array(step, { maxLength: 60, size: "max" }),
        async (maxConnections, maxConnectionsPerAddress, steps) => {
          const started = await start(connectionLimits, { maxConnections, maxConnectionsPerAddress });
          const live: { connection: ConnectionFacts; admitted: boolean }[] = [];
          const admittedFrom = (address?: string): number =>
            live.filter(
              ({ connection, admitted }) =>
                admitted && (address ?? connection.remoteAddress) === connection.remoteAddress,
            ).length;
          for (const what of steps) {
            if ("open" in what) {
              const expected =
                admittedFrom(what.open) >= maxConnectionsPerAddress
                  ? 429
                  : admittedFrom() >= maxConnections
                    ? 503
                    : undefined;
              const connection = open(started, what.open);
              assert.equal((await ask(started, connection))?.status, expected);
              live.push({ connection, admitted: expected === undefined });
            } else if (live.length > 0) {
              const [closing] = live.splice(what.close % live.length, 1);
              started.close(closing!.connection);
            }
            assert.ok(admittedFrom() <= maxConnections);
            for (const address of addresses) assert.ok(admittedFrom(address) <= maxConnectionsPerAddress);
          }
          for (const { connection } of live) started.close(connection);
          assert.equal(await ask(started, open(started, addresses[0])), undefined);
        },
      ),
    );
  });

  it("logs refusals at intervals, with their number", async () => {
    let nowMs = 1_000_000;
    const clock = mock.method(performance, "now", () => nowMs);
    try {
      const started = await start(connectionLimits, { maxConnections: 1 });
      open(started);
      for (let count = 0; count < 5; count++) open(started);
      assert.deepEqual(started.warnings, [
        "connection refused: maxConnections is 1; 1 refused since the last such line",
      ]);
      nowMs += 10_000;
      open(started);
      assert.match(started.warnings[1] ?? "", /; 5 refused since/);
      assert.equal(started.warnings.length, 2);
    } finally {
      clock.mock.restore();
    }
  });

  it("refuses limits that mean nothing", () => {
    const refused: [object, RegExp][] = [
      [{ maxConnections: -1 }, /maxConnections/],
      [{ maxConnectionsPerAddress: 1.5 }, /maxConnectionsPerAddress/],
      [{ perAddressStatus: 418 }, /perAddressStatus.*429/],
      [{ ipv6Prefix: 0 }, /ipv6Prefix.*from 1 to 128/],
      [{ ipv6Prefix: 129 }, /ipv6Prefix.*from 1 to 128/],
      [{ refusedTimeout: "off" }, /refusedTimeout.*at most "1m"/],
      [{ upstream: { queueTimeout: 5 } }, /upstream\.queueTimeout.*duration with a unit/],
    ];
    for (const [json, reason] of refused) assert.match(configFaults(connectionLimits, json).join(), reason);
  });
});
