import assert from "node:assert/strict";
import { describe, it, mock } from "node:test";
import type { ExchangeHooks, Filter, PluginFailure } from "../../src/plugin/api.ts";
import { Chain } from "../../src/plugin/chain.ts";
import type { ChainLink } from "../../src/plugin/hooks.ts";
import { connectionFacts, exchangeFacts, poolFacts, requestHead } from "../plugins/facts.ts";
import { outcomeFacts } from "../telemetry/facts.ts";

function link(name: string, filter: Filter, onError: "continue" | "fail" = "continue"): ChainLink {
  return { name, filter, onError, requestTimeoutMs: 1000 };
}

/** A chain and what it reports. */
function chainOf(...links: ChainLink[]): { chain: Chain; reported: PluginFailure[] } {
  const reported: PluginFailure[] = [];
  return { chain: new Chain(links, (failure) => reported.push(failure)), reported };
}

function brief({ plugin, hook, onError }: PluginFailure): string {
  return `${plugin} ${hook} ${onError}`;
}

const broken = (): never => {
  throw new Error("broken");
};

describe("chain", () => {
  it("does not wait for ever for a filter that never closes, and closes the others", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const closed: string[] = [];
    const { chain, reported } = chainOf(
      link("first", { close: () => void closed.push("first") }),
      link("hangs", { close: () => new Promise<void>(() => {}) }),
      link("last", { close: async () => void closed.push("last") }),
    );
    const closing = chain.close();
    while (closed.length < 1) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(closed, ["last"]);
    t.mock.timers.tick(5000);
    await closing;
    assert.deepEqual(closed, ["last", "first"]);
    assert.deepEqual(reported.map(brief), ["hangs close continue"]);
  });

  it("takes a request hook without a time limit at its word", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const gate = Promise.withResolvers<void>();
    const unlimited = {
      ...link("a", { exchange: () => ({ request: () => gate.promise }) }),
      requestTimeoutMs: Infinity,
    };
    const { chain, reported } = chainOf(unlimited);
    const pending = chain.exchange(exchangeFacts()).request(requestHead());
    t.mock.timers.tick(2 ** 31 - 1);
    gate.resolve();
    assert.equal(await pending, undefined);
    assert.deepEqual(reported, []);
  });

  it("limits a request hook to what a timer can count, not to nothing", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const gate = Promise.withResolvers<void>();
    const long = { ...link("a", { exchange: () => ({ request: () => gate.promise }) }), requestTimeoutMs: 2 ** 33 };
    const { chain, reported } = chainOf(long);
    const pending = chain.exchange(exchangeFacts()).request(requestHead());
    t.mock.timers.tick(2 ** 31 - 2);
    gate.resolve();
    assert.equal(await pending, undefined);
    assert.deepEqual(reported, []);
  });

  it("tells each other listener of a listener that fails, and never that one again", () => {
    const heard: string[] = [];
    const { chain, reported } = chainOf(
      link("breaks", { pool: broken }),
      link("deaf", { pluginFailed: broken }),
      link("also deaf", { pluginFailed: broken }),
      link("hears", { pluginFailed: (failure) => void heard.push(brief(failure)) }),
    );
    chain.pool(poolFacts());
    assert.deepEqual(heard, ["also deaf pluginFailed continue", "deaf pluginFailed continue", "breaks pool continue"]);
    assert.deepEqual(new Set(reported.map(brief)), new Set(heard));
  });

  it("shows a pool to every filter before it refuses it", () => {
    const shown: string[] = [];
    const { chain, reported } = chainOf(
      link("a", { pool: broken }, "fail"),
      link("b", { pool: () => void shown.push("b") }),
    );
    assert.throws(() => chain.pool(poolFacts()), { code: "HF_PLUGIN_FAILED", message: /plugin a failed in pool/ });
    assert.deepEqual(shown, ["b"]);
    assert.deepEqual(reported.map(brief), ["a pool fail"]);
  });

  it("refuses a promise from a hook that must be synchronous, and swallows its rejection", () => {
    const later = mock.fn(() => Promise.reject(new Error("too late")));
    const { chain, reported } = chainOf(link("a", { connection: () => ({ close: later as () => void }) }));
    chain.connection(connectionFacts()).close("peer_closed");
    assert.equal(later.mock.callCount(), 1);
    assert.match(String(reported[0]?.error), /only request may be asynchronous/);
  });

  it("fails the exchange at its next step when a plugin with fail fails between two", () => {
    const { chain } = chainOf(link("a", { exchange: () => ({ retry: broken }) }, "fail"));
    const run = chain.exchange(exchangeFacts());
    const failure = Object.assign(new Error("stale"), { code: "HF_X", source: "upstream", status: 502 } as const);
    run.retry(failure);
    assert.throws(() => run.upstreamConnected(connectionFacts()), { code: "HF_PLUGIN_FAILED" });
  });

  for (const onError of ["continue", "fail"] as const) {
    it(`contains hooks that cannot be read, onError ${onError}`, () => {
      const connectionHooks = Object.defineProperty({}, "active", { get: broken });
      const exchangeHooks = Object.defineProperty({}, "end", { get: broken });
      const active = mock.fn(() => {});
      const end = mock.fn(() => {});
      const request = mock.fn(() => ({ status: 204 }));
      let given = { request };
      const { chain, reported } = chainOf(
        link("broken", { connection: () => connectionHooks, exchange: () => given }, onError),
        link("whole", { connection: () => ({ active }), exchange: () => ({ end }) }),
      );
      const connection = chain.connection(connectionFacts());
      connection.active(exchangeFacts());
      assert.equal(active.mock.callCount(), 1);
      assert.equal(connection.failure?.code, onError === "fail" ? "HF_PLUGIN_FAILED" : undefined);

      assert.deepEqual(chain.exchange(exchangeFacts()).request(requestHead()), { status: 204 });
      given = exchangeHooks as typeof given;
      // The second time too, when it is the same object as before.
      for (let time = 0; time < 2; time++) {
        const exchange = chain.exchange(exchangeFacts());
        assert.equal(exchange.failure?.code, onError === "fail" ? "HF_PLUGIN_FAILED" : undefined);
        if (onError === "continue") assert.equal(exchange.request(requestHead()), undefined);
        exchange.end(outcomeFacts());
      }
      assert.equal(request.mock.callCount(), 1, "hooks of another object are not called in their place");
      assert.equal(end.mock.callCount(), 2);
      assert.deepEqual(
        reported.map(brief),
        ["connection", "exchange", "exchange"].map((hook) => `broken ${hook} ${onError}`),
      );
    });
  }

  it("reads the hooks of an object when it is given, and of the same one not again", () => {
    const hooks: ExchangeHooks = {};
    const { chain } = chainOf(link("a", { exchange: () => hooks }));
    const run = chain.exchange(exchangeFacts());
    hooks.request = () => ({ status: 204 });
    assert.equal(run.request(requestHead()), undefined);
  });

  it("calls nothing for filters without hooks", () => {
    const { chain } = chainOf(link("a", {}), link("b", {}));
    const [first, second] = [chain.exchange(exchangeFacts()), chain.exchange(exchangeFacts())];
    assert.equal(first, second, "no run is made");
    assert.equal(chain.connection(connectionFacts()), chain.connection(connectionFacts()));
  });
});
