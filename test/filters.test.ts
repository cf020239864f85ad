import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { Filters } from "../src/filters.ts";
import type { Loaded } from "../src/load.ts";
import type { Filter, Plugin } from "../src/plugin/api.ts";
import { OpenConnections } from "../src/proxy/open-connections.ts";
import type { Telemetry } from "../src/telemetry/start.ts";

function filters(): Filters {
  return new Filters({
    direction: "inbound",
    telemetry: { filters: () => [] } as unknown as Telemetry,
    log: pino({ level: "silent" }),
    connections: new OpenConnections(),
  });
}

function loaded(setup: () => Promise<Filter>): Loaded {
  const plugin: Plugin<object> = { name: "slow", description: "Takes its time", apiVersion: 1, config: {}, setup };
  const entry = { use: "slow", config: {}, directions: ["inbound"], onError: "continue", requestTimeoutMs: 1 } as const;
  const config = { service: "orders", log: { level: "info", access: false } };
  return {
    loaded: { config } as unknown as Loaded["loaded"],
    plugins: [{ plugin: plugin as Plugin<unknown>, entry, config: {}, values: [] }],
  };
}

test("a setup that takes over 30 s is given up; the filter that it comes with after all is closed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const late = Promise.withResolvers<Filter>();
  const failures: unknown[] = [];
  const chain = filters().chain(
    loaded(() => late.promise),
    undefined,
    failures,
  );
  t.mock.timers.tick(29_999);
  await Promise.resolve();
  assert.deepEqual(failures, []);
  t.mock.timers.tick(1);
  await chain;
  assert.equal(String(failures[0]), "HoldfastError: plugin slow cannot start inbound: setup took over 30 s");
  const closed = Promise.withResolvers<void>();
  late.resolve({ close: () => closed.resolve() });
  await closed.promise;
});

test("the same plugins with the same configuration are the same chain; anything else is another", async () => {
  let setUps = 0;
  const one = loaded(async () => {
    setUps++;
    return {};
  });
  const made = filters();
  const failures: unknown[] = [];
  const chain = await made.chain(one, undefined, failures);
  const inForce = { from: one, chain };
  const [entry] = one.plugins;
  const same: Loaded = { ...one, plugins: [{ ...entry!, entry: { ...entry!.entry } }] };
  assert.equal(await made.chain(same, inForce, failures), chain);
  assert.equal(setUps, 1);
  const others: Loaded[] = [
    { ...one, plugins: [] },
    { ...one, plugins: [{ ...entry!, config: { other: true } }] },
    { ...one, plugins: [{ ...entry!, entry: { ...entry!.entry, onError: "fail" } }] },
    { ...one, plugins: [{ ...entry!, entry: { ...entry!.entry, requestTimeoutMs: 2 } }] },
    { ...one, plugins: [entry!, entry!] },
    {
      ...one,
      loaded: { config: { service: "orders", log: { level: "info", access: true } } } as unknown as Loaded["loaded"],
    },
  ];
  for (const other of others) assert.notEqual(await made.chain(other, inForce, failures), chain);
  assert.deepEqual(failures, []);
});
