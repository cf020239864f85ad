/** What a plugin's `setup` and the filter's `close` may do to a sidecar: nothing worse than stop its start. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Filter, Plugin } from "../../src/plugin/api.ts";
import { startTestSidecar } from "../../src/testing.ts";
import { FORWARDERS, testSidecar } from "../support/peers.ts";

function plugin(name: string, setup: () => Filter | Promise<Filter>): Plugin<object> {
  return { name, apiVersion: 1, description: "For its setup", config: {}, setup };
}

const upstream = "http://127.0.0.1:9";

for (const forwarder of FORWARDERS) {
  for (const [what, setup, message] of [
    [
      "throws",
      () => {
        throw new Error("no licence");
      },
      /^plugin own cannot start inbound: no licence$/,
    ],
    ["rejects", () => Promise.reject(new Error("no licence")), /^plugin own cannot start inbound: no licence$/],
    ["returns nothing", () => undefined as never, /^plugin own cannot start inbound: setup must return a filter/],
    ["returns a number", () => 42 as never, /^plugin own cannot start inbound: setup must return a filter/],
  ] as const) {
    test(`${forwarder}: setup ${what}: the start fails, and filters that were set up are closed`, async () => {
      const closed: string[] = [];
      const first = plugin("first", () => ({ close: () => void closed.push("first") }));
      const plugins = [{ plugin: first }, { plugin: plugin("own", setup) }];
      await assert.rejects(startTestSidecar({ upstream, plugins, config: { forwarder } }), { message });
      assert.deepEqual(closed, ["first"]);
    });
  }
}

test("setup hangs: the start fails and says where", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const called = Promise.withResolvers<void>();
  const hanging = plugin("own", () => {
    called.resolve();
    return new Promise(() => {});
  });
  const starting = startTestSidecar({ upstream, plugins: [{ plugin: hanging }] });
  await called.promise;
  t.mock.timers.tick(30_000);
  await assert.rejects(starting, { message: "plugin own cannot start inbound: setup took over 30 s" });
});

test("setup may take its time; the sidecar listens after it", async (t) => {
  const gate = Promise.withResolvers<Filter>();
  const starting = testSidecar(t, { upstream, plugins: [{ plugin: plugin("own", () => gate.promise) }] });
  const first = await Promise.race([starting, new Promise((resolve) => setImmediate(resolve, "not yet"))]);
  assert.equal(first, "not yet");
  gate.resolve({});
  assert.match((await starting).inbound, /^http:/);
});

test("a filter for each direction, and only for those of its entry", async (t) => {
  const directions: string[] = [];
  const own: Plugin<object> = {
    ...plugin("own", () => ({})),
    setup({ direction, service }) {
      directions.push(`${service} ${direction}`);
      return {};
    },
  };
  await testSidecar(t, { upstream, outbound: true, plugins: [{ plugin: own }] });
  assert.deepEqual(directions.splice(0), ["test inbound", "test outbound"]);
  await testSidecar(t, { upstream, outbound: true, plugins: [{ plugin: own, directions: ["outbound"] }] });
  assert.deepEqual(directions, ["test outbound"]);
});
