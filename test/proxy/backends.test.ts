import assert from "node:assert/strict";
import { test } from "node:test";
import type { BackendConfig } from "../../src/config/sidecar-config.ts";
import { Backends } from "../../src/proxy/backends.ts";

function backend(name: string, settings: Omit<BackendConfig["settings"], "name">): [string, BackendConfig] {
  const origin = { scheme: "http", host: `${name}.internal`, port: 8081 } as const;
  return [name, { origin, backend: name, tls: undefined, settings: { name, ...settings } }];
}

function registry(): Backends {
  return new Backends(
    new Map([
      backend("inventory", { idleTimeoutMs: 55_000, tcpKeepAlive: { enable: true, timeMs: 30_000 } }),
      backend("billing", { idleTimeoutMs: undefined, tcpKeepAlive: {} }),
    ]),
  );
}

test("names() keeps the order of the configuration, get() knows only those", () => {
  const backends = registry();
  assert.deepEqual(backends.names(), ["inventory", "billing"]);
  assert.equal(backends.get("inventory")?.origin.host, "inventory.internal");
  assert.equal(backends.get("toString"), undefined);
});

test("an update changes the live object in place and leaves what it does not name", () => {
  const backends = registry();
  const live = backends.get("inventory");
  assert.ok(live);
  const returned = backends.update("inventory", { tcpKeepAlive: { probes: 3, timeMs: 45_000 } });
  assert.equal(returned, live);
  assert.equal(live.idleTimeoutMs, 55_000);
  assert.deepEqual(live.tcpKeepAlive, { enable: true, timeMs: 45_000, probes: 3 });
  assert.deepEqual(backends.get("billing")?.tcpKeepAlive, {});
});

test("null gives a setting back to the plugins: it is absent, not undefined", () => {
  const backends = registry();
  const live = backends.update("inventory", { idleTimeoutMs: null, tcpKeepAlive: { enable: null } });
  assert.equal(live.idleTimeoutMs, undefined);
  assert.deepEqual(Object.keys(live.tcpKeepAlive), ["timeMs"]);
});

test("listeners hear of each change once, after it, and not of an update that changes nothing", () => {
  const backends = registry();
  const heard: unknown[] = [];
  const end = backends.subscribe((changed) => heard.push([changed.name, changed.idleTimeoutMs]));
  backends.update("inventory", { idleTimeoutMs: 10_000, tcpKeepAlive: { timeMs: 5000 } });
  backends.update("inventory", { idleTimeoutMs: 10_000, tcpKeepAlive: { timeMs: 5000 } });
  backends.update("inventory", {});
  backends.update("billing", { idleTimeoutMs: null });
  backends.update("billing", { idleTimeoutMs: 0 });
  end();
  backends.update("billing", { idleTimeoutMs: 1000 });
  assert.deepEqual(heard, [
    ["inventory", 10_000],
    ["billing", 0],
  ]);
});

test("only the registry can change a backend", () => {
  const backends = registry();
  const live = backends.get("inventory");
  assert.ok(live);
  assert.throws(() => Object.assign(live, { idleTimeoutMs: 1 }), TypeError);
  assert.throws(() => Object.assign(live.tcpKeepAlive, { probes: 1 }), TypeError);
  assert.equal(live.idleTimeoutMs, 55_000);
});

test("an unknown name is refused", () => {
  assert.throws(() => registry().update("nobody", { idleTimeoutMs: 1 }), /no backend is named "nobody"/);
});

test("a plan changes nothing until it is adopted; then settings are those of its configuration", () => {
  const backends = registry();
  const [inventory, billing] = [backends.get("inventory"), backends.get("billing")];
  backends.update("billing", { idleTimeoutMs: 1000 });
  const heard: unknown[] = [];
  backends.subscribe((changed) => heard.push([changed.name, changed.idleTimeoutMs]));
  const moved = backend("inventory", { idleTimeoutMs: 5000, tcpKeepAlive: {} });
  const plan = backends.plan(
    new Map([
      backend("billing", { idleTimeoutMs: undefined, tcpKeepAlive: {} }),
      [moved[0], { ...moved[1], origin: { scheme: "http", host: "elsewhere.internal", port: 8081 } }],
      backend("new", { idleTimeoutMs: 2000, tcpKeepAlive: {} }),
    ]),
  );
  assert.deepEqual(backends.names(), ["inventory", "billing"]);
  assert.equal(backends.get("billing")?.idleTimeoutMs, 1000);
  assert.equal(plan.get("billing"), billing);
  backends.adopt(plan);
  assert.deepEqual(backends.names(), ["billing", "inventory", "new"]);
  // The same where its origin is the same, with its own settings again.
  assert.equal(backends.get("billing"), billing);
  assert.equal(billing?.idleTimeoutMs, undefined);
  assert.notEqual(backends.get("inventory"), inventory);
  assert.equal(inventory?.idleTimeoutMs, 55_000);
  assert.equal(backends.get("inventory")?.idleTimeoutMs, 5000);
  assert.deepEqual(heard, [["billing", undefined]]);
});
