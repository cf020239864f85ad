import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import keepAlive, { jittered } from "../../plugins/keep-alive.ts";
import type { KeepAliveHint } from "../../src/plugin/api.ts";
import {
  type ConnectionFacts,
  configFaults,
  connectionFacts,
  exchangeFacts,
  poolFacts,
  responseHead,
  type Started,
  start,
  upstreamFacts,
} from "./facts.ts";

const hints = fc.record({
  timeoutMs: fc.option(
    fc.nat(1_000_000).map((seconds) => seconds * 1000),
    { nil: undefined },
  ),
  maxRequests: fc.option(fc.nat(30), { nil: undefined }),
});
/** What each message of a peer says: a new hint, or nothing, after which core still shows the last one. */
const conversation = fc.array(fc.option(hints, { nil: undefined }), { minLength: 1, maxLength: 40, size: "max" });
const policies = fc.nat(40);

/** Carries one exchange in which the peer of `connection` says `hint`. */
function carry(started: Started, connection: ConnectionFacts, hint: KeepAliveHint | undefined): void {
  if (connection.side === "downstream") {
    if (hint !== undefined) connection.hint = hint;
    started.begin(exchangeFacts({ downstream: connection })).response?.(responseHead());
    return;
  }
  const exchange = exchangeFacts();
  const hooks = started.begin(exchange);
  started.takeUpstream(exchange, connection);
  if (hint !== undefined) connection.hint = hint;
  hooks.response?.(responseHead());
}

/** What core does after an exchange. */
function mustClose(connection: ConnectionFacts): boolean {
  return !connection.keepAlive.enabled || connection.exchanges >= connection.keepAlive.maxRequests;
}

describe("keep-alive", () => {
  it("keeps both sides and advertises downstream only, unless told otherwise", async () => {
    const started = await start(keepAlive);
    const downstream = started.open(connectionFacts()).keepAlive;
    const upstream = started.open(upstreamFacts()).keepAlive;
    assert.deepEqual([downstream.enabled, downstream.advertise], [true, true]);
    assert.deepEqual([upstream.enabled, upstream.advertise], [true, false]);
    for (const side of [downstream, upstream]) {
      assert.equal(side.maxRequests, Number.POSITIVE_INFINITY);
      assert.equal(side.maxAgeMs, Number.POSITIVE_INFINITY);
    }
  });

  for (const downstream of [true, false]) {
    for (const upstream of [true, false]) {
      it(`downstream ${downstream ? "on" : "off"}, upstream ${upstream ? "on" : "off"}`, async () => {
        const started = await start(keepAlive, {
          downstream: { enabled: downstream },
          upstream: { enabled: upstream, advertise: true },
        });
        const below = started.open(connectionFacts()).keepAlive;
        const above = started.open(upstreamFacts()).keepAlive;
        assert.deepEqual([below.enabled, below.advertise], [downstream, downstream]);
        assert.deepEqual([above.enabled, above.advertise], [upstream, upstream]);
      });
    }
  }

  it("states the reuse policy of a pool", async () => {
    for (const reuse of ["never", "safe", "aggressive", "always"] as const) {
      const pool = poolFacts();
      (await start(keepAlive, { upstream: { reuse } })).filter.pool?.(pool);
      assert.equal(pool.reuse, reuse);
    }
    assert.match(configFaults(keepAlive, { upstream: { reuse: "sometimes" } }).join(), /upstream.reuse.*"never"/);
  });

  it("lets a pool size itself, within bounds, only when told to", async () => {
    const all = poolFacts();
    (await start(keepAlive, {})).filter.pool?.(all);
    assert.equal(all.autoIdle, undefined);
    const auto = poolFacts();
    (await start(keepAlive, { upstream: { poolSize: "auto" } })).filter.pool?.(auto);
    assert.deepEqual(auto.autoIdle, { least: 2, most: 256 });
    const bounded = poolFacts();
    const upstream = { poolSize: "auto", poolSizeLeast: 4, poolSizeMost: 32 };
    (await start(keepAlive, { upstream })).filter.pool?.(bounded);
    assert.deepEqual(bounded.autoIdle, { least: 4, most: 32 });
    assert.match(configFaults(keepAlive, { upstream: { poolSize: "some" } }).join(), /upstream.poolSize.*"all"/);
  });

  it("takes a jitter from 0 to below 1 only", () => {
    assert.deepEqual(configFaults(keepAlive, { downstream: { jitter: 0 }, upstream: { jitter: 0.99 } }), []);
    for (const jitter of [1, -0.1, "0.1", null]) {
      assert.match(configFaults(keepAlive, { downstream: { jitter } }).join(), /downstream\.jitter/);
    }
  });

  it("shortens limits at random, within the jitter and never to nothing", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1000 }),
        fc.double({ min: 0, max: 0.99, noNaN: true }),
        async (n, jitter) => {
          const side = { maxRequests: n, maxAge: `${n}s`, jitter };
          const started = await start(keepAlive, { downstream: side, upstream: side });
          for (const connection of [started.open(connectionFacts()), started.open(upstreamFacts())]) {
            const { maxRequests, maxAgeMs } = connection.keepAlive;
            assert.ok(Number.isInteger(maxRequests) && maxRequests >= 1);
            assert.ok(maxRequests <= n && maxRequests >= n * (1 - jitter));
            assert.ok(maxAgeMs <= n * 1000 && maxAgeMs >= n * 1000 * (1 - jitter));
          }
        },
      ),
    );
    assert.equal(jittered(Number.POSITIVE_INFINITY, 0.5, 0.5), Number.POSITIVE_INFINITY);
    assert.equal(jittered(100, 0.5, 0.5), 75);
  });

  it("gives connections that open together different limits", async () => {
    const started = await start(keepAlive, { downstream: { maxAge: "1h", jitter: 0.5 } });
    const ages = new Set(Array.from({ length: 50 }, () => started.open(connectionFacts()).keepAlive.maxAgeMs));
    assert.ok(ages.size > 25, `only ${ages.size} different ages`);
  });

  for (const side of ["downstream", "upstream"] as const) {
    it(`${side}: keeps to the smaller of policy and every max the peer said`, async () => {
      await fc.assert(
        fc.asyncProperty(policies, conversation, async (policy, said) => {
          const started = await start(keepAlive, { [side]: { maxRequests: policy, jitter: 0 } });
          const connection = started.open(side === "downstream" ? connectionFacts() : upstreamFacts());
          const { keepAlive: kept } = connection;
          let lowest = policy === 0 ? Number.POSITIVE_INFINITY : policy;
          for (const hint of said) {
            const before = connection.exchanges;
            carry(started, connection, hint);
            assert.equal(connection.exchanges, before + 1);
            if (hint?.maxRequests !== undefined) lowest = Math.min(lowest, connection.exchanges + hint.maxRequests);
            assert.equal(kept.maxRequests, lowest);
            // "N more": after `max=0` this exchange is the last one.
            if (hint?.maxRequests === 0) assert.ok(mustClose(connection));
            if (mustClose(connection)) return;
          }
        }),
      );
    });

    it(`${side}: a timeout of 0 makes this exchange the last one`, async () => {
      const started = await start(keepAlive);
      const connection = started.open(side === "downstream" ? connectionFacts() : upstreamFacts());
      carry(started, connection, undefined);
      assert.equal(mustClose(connection), false);
      carry(started, connection, { timeoutMs: 0, maxRequests: undefined });
      assert.equal(mustClose(connection), true);
    });

    it(`${side}: max=2 allows exactly two more, also when later messages say nothing`, async () => {
      const started = await start(keepAlive);
      const connection = started.open(side === "downstream" ? connectionFacts() : upstreamFacts());
      carry(started, connection, undefined);
      carry(started, connection, { timeoutMs: undefined, maxRequests: 2 });
      assert.equal(mustClose(connection), false);
      carry(started, connection, undefined);
      assert.equal(mustClose(connection), false);
      carry(started, connection, undefined);
      assert.equal(connection.exchanges, 4);
      assert.equal(mustClose(connection), true);
    });
  }

  it("agrees to the timeout that the caller said last, and the idle limit stays the longest", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 1_000_000 }), conversation, async (idleTimeoutMs, said) => {
        const started = await start(keepAlive);
        const connection = started.open(connectionFacts());
        connection.keepAlive.idleTimeoutMs = idleTimeoutMs;
        let last: number | undefined;
        for (const hint of said) {
          carry(started, connection, hint);
          if (hint !== undefined) last = hint.timeoutMs ?? last;
          assert.equal(connection.keepAlive.idleTimeoutMs, idleTimeoutMs);
          assert.equal(connection.keepAlive.agreedTimeoutMs, last ?? Number.POSITIVE_INFINITY);
        }
      }),
    );
  });

  it("leaves an upstream's timeout to idle-timeout, which knows the margin", async () => {
    const started = await start(keepAlive);
    const connection = started.open(upstreamFacts());
    carry(started, connection, { timeoutMs: 5000, maxRequests: undefined });
    assert.equal(connection.keepAlive.agreedTimeoutMs, Number.POSITIVE_INFINITY);
  });

  it("never lets a peer raise a limit that another plugin lowered", async () => {
    const started = await start(keepAlive, { downstream: { maxRequests: 100, jitter: 0 } });
    const connection = started.open(connectionFacts());
    connection.keepAlive.maxRequests = 3;
    carry(started, connection, { timeoutMs: undefined, maxRequests: 50 });
    assert.equal(connection.keepAlive.maxRequests, 3);
  });
});
