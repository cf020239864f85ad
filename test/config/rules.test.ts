import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { RULES } from "../../src/config/rules.ts";
import { load } from "../../src/load.ts";
import { CERTIFICATE, KEY } from "./certificates.ts";
import { faultsOf, folderWith } from "./folder.ts";

const INBOUND = { upstream: "http://127.0.0.1:8080" };

function broken(t: TestContext, content: object): Promise<string[]> {
  const folder = folderWith(t, { "sidecar.json": { service: "orders", inbound: INBOUND, ...content } });
  return faultsOf(folder, () => load(path.join(folder, "sidecar.json"), {}));
}

function behind(idleTimeout: string): object {
  return { ...INBOUND, loadBalancer: { name: "alb", idleTimeout } };
}

test("downstream-idle-above-load-balancer: the load balancer closes first", async (t) => {
  const inbound = behind("60s");
  const listed = (config: object): object => ({ inbound, plugins: [{ use: "idle-timeout", config }] });
  assert.deepEqual(await broken(t, listed({ downstream: "61s" })), []);
  assert.deepEqual(await broken(t, listed({ downstream: "off" })), []);
  for (const downstream of ["60s", "55s"]) {
    const value = downstream === "60s" ? "1m" : downstream;
    assert.deepEqual(await broken(t, listed({ downstream })), [
      `sidecar.json:14:23: plugins[0].config.downstream: rule downstream-idle-above-load-balancer: plugins[0].config.downstream ("${value}") is not above inbound.loadBalancer.idleTimeout ("1m"), so alb would send requests into our close; raise plugins[0].config.downstream above "1m"`,
    ]);
  }
  assert.deepEqual(await broken(t, { inbound: behind("off"), plugins: [{ use: "idle-timeout" }] }), [
    'sidecar.json:11:5: plugins[0].config.downstream: rule downstream-idle-above-load-balancer: plugins[0].config.downstream ("65s") is not above inbound.loadBalancer.idleTimeout ("off"), so alb would send requests into our close; raise plugins[0].config.downstream to "off"',
  ]);
});

test("downstream-idle-above-load-balancer: the limit under load counts as well", async (t) => {
  const listed = (config: object, more: object[] = []): object => ({
    inbound: behind("60s"),
    plugins: [{ use: "idle-timeout", config }, ...more],
  });
  const load = (connections: number, timeout: string) => ({ underLoad: { connections, timeout } });
  const wrong = (value: string): string =>
    `plugins[0].config.underLoad.timeout: rule downstream-idle-above-load-balancer: plugins[0].config.underLoad.timeout ("${value}") is not above inbound.loadBalancer.idleTimeout ("1m"), so alb would send requests into our close; raise plugins[0].config.underLoad.timeout above "1m", or set plugins[0].config.underLoad.connections to 0`;
  assert.deepEqual(await broken(t, listed(load(10, "61s"))), []);
  assert.deepEqual(await broken(t, listed(load(0, "5s"))), []);
  assert.deepEqual(await broken(t, listed(load(10, "5s"))), [`sidecar.json:16:22: ${wrong("5s")}`]);
  // Its default is below what every load balancer keeps.
  assert.deepEqual(await broken(t, listed({ underLoad: { connections: 10 } })), [`sidecar.json:14:9: ${wrong("10s")}`]);
  assert.equal((await broken(t, listed({ downstream: "55s", ...load(10, "5s") }))).length, 2);
  const off = { use: "keep-alive", config: { downstream: { enabled: false } } };
  assert.deepEqual(await broken(t, listed(load(10, "5s"), [off])), []);
});

test("downstream-idle-above-load-balancer: without the plugin, the 65 s of the core count", async (t) => {
  assert.deepEqual(await broken(t, { inbound: behind("60s") }), []);
  const refused = [
    'sidecar.json:7:22: inbound.loadBalancer.idleTimeout: rule downstream-idle-above-load-balancer: the downstream idle timeout without the idle-timeout plugin ("65s") is not above inbound.loadBalancer.idleTimeout ("350s"), so alb would send requests into our close; list the idle-timeout plugin and set its downstream above "350s"',
  ];
  assert.deepEqual(await broken(t, { inbound: behind("350s") }), refused);
  const outboundOnly = [{ use: "idle-timeout", directions: ["outbound"], config: { downstream: "off" } }];
  assert.deepEqual(await broken(t, { inbound: behind("350s"), plugins: outboundOnly }), refused);
});

test("downstream-idle-above-load-balancer: connections that are not kept have no idle time", async (t) => {
  const plugins = [{ use: "keep-alive", config: { downstream: { enabled: false } } }];
  assert.deepEqual(await broken(t, { inbound: behind("350s"), plugins }), []);
});

test("under-load-below-ordinary: the limit under load shortens something", async (t) => {
  const plugins = (underLoad: object): object => ({
    plugins: [{ use: "idle-timeout", config: { downstream: "65s", upstream: "55s", underLoad } }],
  });
  assert.deepEqual(await broken(t, plugins({ connections: 100, timeout: "64s" })), []);
  assert.deepEqual(await broken(t, plugins({ connections: 0, timeout: "2m" })), []);
  assert.deepEqual(await broken(t, plugins({ connections: 100, timeout: "65s" })), [
    'sidecar.json:14:22: plugins[0].config.underLoad.timeout: rule under-load-below-ordinary: plugins[0].config.underLoad.timeout ("65s") is not below plugins[0].config.downstream ("65s"); lower plugins[0].config.underLoad.timeout or raise plugins[0].config.downstream',
  ]);
});

test("under-load-below-max-connections: idle connections make room before any is refused", async (t) => {
  const plugins = (connections: number, maxConnections: number): object => ({
    plugins: [
      { use: "idle-timeout", config: { underLoad: { connections } } },
      { use: "connection-limits", config: { maxConnections } },
    ],
  });
  assert.deepEqual(await broken(t, plugins(99, 100)), []);
  assert.deepEqual(await broken(t, plugins(100, 0)), []);
  assert.deepEqual(await broken(t, plugins(100, 100)), [
    "sidecar.json:11:26: plugins[0].config.underLoad.connections: rule under-load-below-max-connections: plugins[0].config.underLoad.connections (100) is not below plugins[1].config.maxConnections (100); lower plugins[0].config.underLoad.connections or raise plugins[1].config.maxConnections",
  ]);
});

test("per-address-within-total and upstream-idle-within-total: a part is not above the whole", async (t) => {
  const plugins = (config: object): object => ({ plugins: [{ use: "connection-limits", config }] });
  assert.deepEqual(
    await broken(
      t,
      plugins({ maxConnections: 10, maxConnectionsPerAddress: 10, upstream: { maxConnections: 5, maxIdle: 5 } }),
    ),
    [],
  );
  assert.deepEqual(await broken(t, plugins({ maxConnectionsPerAddress: 10, upstream: { maxIdle: 5 } })), []);
  assert.deepEqual(
    await broken(
      t,
      plugins({ maxConnections: 10, maxConnectionsPerAddress: 11, upstream: { maxConnections: 5, maxIdle: 6 } }),
    ),
    [
      "sidecar.json:11:37: plugins[0].config.maxConnectionsPerAddress: rule per-address-within-total: plugins[0].config.maxConnectionsPerAddress (11) is above plugins[0].config.maxConnections (10); lower plugins[0].config.maxConnectionsPerAddress or raise plugins[0].config.maxConnections",
      "sidecar.json:14:22: plugins[0].config.upstream.maxIdle: rule upstream-idle-within-total: plugins[0].config.upstream.maxIdle (6) is above plugins[0].config.upstream.maxConnections (5); lower plugins[0].config.upstream.maxIdle or raise plugins[0].config.upstream.maxConnections",
    ],
  );
});

test("pool-size-bounds: the least is not above the most", async (t) => {
  const plugins = (upstream: object): object => ({ plugins: [{ use: "keep-alive", config: { upstream } }] });
  assert.deepEqual(await broken(t, plugins({ poolSizeLeast: 8, poolSizeMost: 8 })), []);
  assert.deepEqual(await broken(t, plugins({ poolSizeLeast: 9, poolSizeMost: 8 })), [
    "sidecar.json:11:28: plugins[0].config.upstream.poolSizeLeast: rule pool-size-bounds: plugins[0].config.upstream.poolSizeLeast (9) is above plugins[0].config.upstream.poolSizeMost (8); lower plugins[0].config.upstream.poolSizeLeast or raise plugins[0].config.upstream.poolSizeMost",
  ]);
});

test("head-within-request: a head is part of its request", async (t) => {
  const plugins = (config: object): object => ({ plugins: [{ use: "connection-limits", config }] });
  assert.deepEqual(await broken(t, plugins({ headTimeout: "1m", requestTimeout: "1m" })), []);
  assert.deepEqual(await broken(t, plugins({ requestTimeout: "off" })), []);
  assert.deepEqual(await broken(t, plugins({ requestTimeout: "30s" })), [
    'sidecar.json:9:7: plugins[0].config.headTimeout: rule head-within-request: plugins[0].config.headTimeout ("1m") is above plugins[0].config.requestTimeout ("30s"); lower plugins[0].config.headTimeout or raise plugins[0].config.requestTimeout',
  ]);
});

test("connect-within-response, idle-grace-below-deadline, target-within-head: limits are not the wrong way round", async (t) => {
  assert.deepEqual(
    await broken(t, {
      inbound: { ...INBOUND, connectTimeout: "5s", responseTimeout: "5s" },
      drain: { idleGrace: "1s", deadline: "2s" },
      limits: { head: "16KiB", target: "16KiB" },
    }),
    [],
  );
  assert.deepEqual(
    await broken(t, {
      inbound: { ...INBOUND, connectTimeout: "6s", responseTimeout: "5s" },
      drain: { idleGrace: "2s", deadline: "2s" },
      limits: { head: "8KiB" },
    }),
    [
      'sidecar.json:5:23: inbound.connectTimeout: rule connect-within-response: inbound.connectTimeout ("6s") is above inbound.responseTimeout ("5s"); lower inbound.connectTimeout or raise inbound.responseTimeout',
      'sidecar.json:9:18: drain.idleGrace: rule idle-grace-below-deadline: drain.idleGrace ("2s") is not below drain.deadline ("2s"); lower drain.idleGrace or raise drain.deadline',
      'sidecar.json:12:3: limits.target: rule target-within-head: limits.target ("16KiB") is above limits.head ("8KiB"); lower limits.target or raise limits.head',
    ],
  );
});

test("no-open-proxy: whoever is not this machine may not have anything forwarded", async (t) => {
  const files = { ca: CERTIFICATE, cert: CERTIFICATE, key: KEY };
  const tls = { cert: "cert", key: "key", clientCa: "ca" };
  const check = (outbound: object): Promise<string[]> => {
    const folder = folderWith(t, { ...files, "sidecar.json": { service: "orders", outbound } });
    return faultsOf(folder, () => load(path.join(folder, "sidecar.json"), {}));
  };
  for (const listen of ["0.0.0.0:15001", "[::]:15001", "10.0.0.1:15001"]) {
    const refused = [
      `sidecar.json:4:15: outbound.listen: rule no-open-proxy: outbound.listen ("${listen}") is reached from other machines, and with outbound.unmatched "pass" it forwards whatever they ask for; listen on 127.0.0.1, set outbound.unmatched to "deny", or require client certificates with outbound.tls`,
    ];
    assert.deepEqual(await check({ listen }), refused);
    assert.deepEqual(await check({ listen, tls: { ...tls, requireClientCertificate: false } }), refused);
    assert.deepEqual(await check({ listen, unmatched: "deny" }), []);
    assert.deepEqual(await check({ listen, tls }), []);
  }
  for (const listen of ["127.0.0.1:15001", "[::1]:15001", "localhost:15001"])
    assert.deepEqual(await check({ listen }), []);
});

test("listeners-apart and upstream-is-not-us: addresses do not meet", async (t) => {
  const lines = await broken(t, {
    inbound: { listen: "0.0.0.0:15000", upstream: "http://localhost:15000" },
    outbound: { listen: "127.0.0.1:15001", routes: [{ host: "a", upstream: "http://127.0.0.1:15001" }] },
  });
  assert.deepEqual(lines, [
    'sidecar.json:4:15: inbound.listen: rule listeners-apart: inbound.listen ("0.0.0.0:15000") and admin.listen ("127.0.0.1:15000") are the same address; give one of them another port',
    'sidecar.json:5:17: inbound.upstream: rule upstream-is-not-us: inbound.upstream ("http://localhost:15000") is our own inbound.listen ("0.0.0.0:15000"), so requests would go in a circle; name the address where the requests are to end',
    'sidecar.json:12:21: outbound.routes[0].upstream: rule upstream-is-not-us: outbound.routes[0].upstream ("http://127.0.0.1:15001") is our own outbound.listen ("127.0.0.1:15001"), so requests would go in a circle; name the address where the requests are to end',
  ]);
});

test("every-route-reachable and one-tls-per-origin: routes do not hide or contradict each other", async (t) => {
  const routes = [
    { host: "a.example.com", upstream: "http://a" },
    { host: "*.example.com", upstream: "https://b" },
    { host: "*.example.com:8080", upstream: "http://c" },
    { host: "d.example.com", upstream: "http://d" },
    { host: "example.com", upstream: "https://b", tls: { serverName: "b.internal" } },
  ];
  assert.deepEqual(await broken(t, { outbound: { routes } }), [
    'sidecar.json:17:17: outbound.routes[2].host: rule every-route-reachable: outbound.routes[2].host ("*.example.com") is never reached, since outbound.routes[1].host ("*.example.com") matches all of it first; remove it, or move it above outbound.routes[1].host',
    'sidecar.json:21:17: outbound.routes[3].host: rule every-route-reachable: outbound.routes[3].host ("d.example.com") is never reached, since outbound.routes[1].host ("*.example.com") matches all of it first; remove it, or move it above outbound.routes[1].host',
    'sidecar.json:26:21: outbound.routes[4].upstream: rule one-tls-per-origin: outbound.routes[4].upstream and outbound.routes[1].upstream are the same origin ("https://b:443") with different tls; give both the same tls, or name two backends',
  ]);
});

test("every rule is documented", () => {
  const page = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  for (const { id, doc } of RULES) assert.ok(page.includes(`| \`${id}\` | ${doc} |`), id);
});
