import assert from "node:assert/strict";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { type Environment, type LoadedConfig, loadConfig } from "../../src/config/load.ts";
import { CERTIFICATE, KEY, OTHER_KEY } from "./certificates.ts";
import { faultsOf, folderWith } from "./folder.ts";

const MINIMAL = { service: "orders", inbound: { upstream: "http://127.0.0.1:8080" } };

function loading(t: TestContext, content: unknown, env: Environment = {}): LoadedConfig {
  return loadConfig(path.join(folderWith(t, { "sidecar.json": content }), "sidecar.json"), env);
}

function faults(
  t: TestContext,
  content: unknown,
  env: Environment = {},
  files: Record<string, unknown> = {},
): Promise<string[]> {
  const folder = folderWith(t, { ...files, "sidecar.json": content });
  return faultsOf(folder, () => loadConfig(path.join(folder, "sidecar.json"), env));
}

test("the smallest configuration gets every default", (t) => {
  const { config } = loading(t, MINIMAL);
  assert.deepEqual(config.inbound, {
    listen: { host: "0.0.0.0", port: 15006 },
    upstream: { origin: { scheme: "http", host: "127.0.0.1", port: 8080 }, backend: undefined, tls: undefined },
    loadBalancer: undefined,
    connectTimeoutMs: 5000,
    responseTimeoutMs: 300_000,
    tunnelIdleTimeoutMs: 3_600_000,
    dnsRefreshMs: 30_000,
    tls: undefined,
    http2: true,
  });
  assert.equal(config.outbound, undefined);
  assert.equal(config.service, "orders");
  assert.equal(config.forwarder, "wire");
  assert.deepEqual(config.admin, {
    listen: { host: "127.0.0.1", port: 15000 },
    probes: undefined,
    token: undefined,
  });
  assert.deepEqual(config.limits, {
    headBytes: 65_536,
    fields: 200,
    targetBytes: 16_384,
    replayBytes: 65_536,
    streams: 100,
  });
  assert.deepEqual(config.drain, { deadlineMs: 30_000, idleGraceMs: 2000 });
  assert.deepEqual(config.plugins, []);
  assert.deepEqual(config.telemetry, {
    traces: { exporters: ["otlp"], sampler: "parentbased_traceidratio", ratio: 1 },
    metrics: { prometheus: true, otlp: false, otlpIntervalMs: 60_000 },
    otlp: { endpoint: undefined, protocol: "http/protobuf" },
  });
});

test("routes, backends and plugins come as the code uses them", (t) => {
  const { config } = loading(t, {
    service: "orders",
    outbound: {
      listen: "[::1]:0",
      routes: [
        { host: "Inventory.internal:8080", upstream: "inventory" },
        { host: "*.example.com", upstream: "https://example.com", tls: { serverName: "www.example.com" } },
      ],
      unmatched: "deny",
    },
    backends: {
      inventory: {
        address: "10.0.0.7",
        tls: true,
        keepaliveTime: "50s",
        tcpKeepalive: { enable: true, time: "2m" },
      },
    },
    plugins: [{ use: "idle-timeout", directions: ["outbound"], onError: "fail", requestTimeout: "1s" }],
  });
  const tls = { ca: undefined, cert: undefined, key: undefined, serverName: undefined };
  const inventory = { origin: { scheme: "https", host: "10.0.0.7", port: 443 }, backend: "inventory", tls };
  assert.deepEqual(config.outbound?.listen, { host: "::1", port: 0 });
  assert.equal(config.outbound?.unmatched, "deny");
  assert.deepEqual(config.outbound?.routes, [
    { host: "inventory.internal", port: 8080, upstream: inventory },
    {
      host: "*.example.com",
      port: undefined,
      upstream: {
        origin: { scheme: "https", host: "example.com", port: 443 },
        backend: undefined,
        tls: { ...tls, serverName: "www.example.com" },
      },
    },
  ]);
  assert.deepEqual(config.backends.get("inventory"), {
    ...inventory,
    settings: { name: "inventory", idleTimeoutMs: 50_000, tcpKeepAlive: { enable: true, timeMs: 120_000 } },
  });
  assert.deepEqual(config.plugins, [
    { use: "idle-timeout", config: {}, directions: ["outbound"], onError: "fail", requestTimeoutMs: 1000 },
  ]);
});

test("a fault in a list of addresses says which of them it is", async (t) => {
  const trusted = [...Array.from({ length: 20 }, (_, index) => `10.${index}.0.0/16`), "10.20.0.0/33"];
  const text = JSON.stringify({ service: "orders", outbound: {}, forwarding: { trusted } });
  const allowed = 'a list of addresses or ranges in CIDR notation: "10.0.0.0/8", "fd00::/8", "192.0.2.1"';
  const [line = ""] = await faults(t, text);
  assert.ok(line.endsWith(`must be ${allowed}; not "10.20.0.0/33"`), line);
});

test("every fault is shown at once, each at its line and column", async (t) => {
  const text = `{
  "servce": "orders",
  "inbound": {
    "listen": "127.0.0.1",
    "upstream": "http://127.0.0.1:8080/api",
    "conectTimeout": "1s",
    "responseTimeout": 55
  },
  "outbound": {
    "routes": [
      { "host": "a/b", "upstream": "inventry" }
    ],
    "unmatched": "drop"
  },
  "backends": { "inventory": { "address": "10.0.0.7:80", "port": "80" } },
  "limits": { "head": "1B", "fields": 0.5 },
  "log": { "access": "no" }
}`;
  assert.deepEqual(await faults(t, text), [
    "sidecar.json:1:1: service: is missing; must be given here, or in the environment as HOLDFAST_SERVICE: Name of the service beside the sidecar, for traces, metrics and logs.",
    'sidecar.json:2:3: unknown key "servce"; did you mean "service"?',
    'sidecar.json:4:15: inbound.listen: "127.0.0.1" is not valid; must be host:port with a port from 0 to 65535: "127.0.0.1:15001" or "[::1]:15001"',
    'sidecar.json:5:17: inbound.upstream: "http://127.0.0.1:8080/api" is not valid; must be an origin without a path: "http://127.0.0.1:8080" or "https://host"',
    'sidecar.json:6:5: inbound: unknown key "conectTimeout"; did you mean "connectTimeout"?',
    'sidecar.json:7:24: inbound.responseTimeout: 55 is not valid; must be a duration with a unit: "250ms", "55s", "5m", "1h" or "off"',
    'sidecar.json:11:17: outbound.routes[0].host: "a/b" is not valid; must be a host, with or without a port: "inventory.internal", "inventory.internal:8080" or "*.example.com"',
    'sidecar.json:11:36: outbound.routes[0].upstream: no backend is named "inventry"; did you mean "inventory"?',
    'sidecar.json:13:18: outbound.unmatched: "drop" is not valid; must be one of "pass", "deny"',
    'sidecar.json:15:43: backends.inventory.address: "10.0.0.7:80" is not valid; must be a host name or an IP address without a port',
    'sidecar.json:15:66: backends.inventory.port: "80" is not valid; must be a port number from 1 to 65535',
    'sidecar.json:16:23: limits.head: "1B" is not valid; must be at least "1KiB"',
    "sidecar.json:16:39: limits.fields: 0.5 is not valid; must be a whole number from 1 to 10000",
    'sidecar.json:17:22: log.access: "no" is not valid; must be true or false',
  ]);
});

test("an unknown key that is like none is answered with the known ones", async (t) => {
  assert.deepEqual(await faults(t, { ...MINIMAL, drain: { xyzzy: 1 } }), [
    'sidecar.json:7:5: drain: unknown key "xyzzy"; known keys: deadline, idleGrace',
  ]);
});

test("an object where a value belongs, and a value where an object belongs, are faults and no crash", async (t) => {
  const content = {
    service: { name: { first: "orders" } },
    inbound: { upstream: { url: { scheme: "http" } }, connectTimeout: { ms: { exactly: 5 } }, loadBalancer: "alb" },
    drain: "30s",
    limits: null,
    log: { level: { of: { detail: 3 } }, access: [true] },
    plugins: { use: "keep-alive" },
    backends: ["inventory"],
  };
  assert.deepEqual(await faults(t, content), [
    'sidecar.json:2:14: service: {"name":{"first":"orders"}} is not valid; must be a name of letters, digits, dots, hyphens and underscores',
    'sidecar.json:8:17: inbound.upstream: {"url":{"scheme":"http"}} is not valid; must be an origin, "http://127.0.0.1:8080", or the name of an entry in backends',
    'sidecar.json:13:23: inbound.connectTimeout: {"ms":{"exactly":5}} is not valid; must be a duration with a unit: "250ms", "55s", "5m", "1h" or "off"',
    'sidecar.json:18:21: inbound.loadBalancer: "alb" is not valid; must be an object or left out',
    'sidecar.json:20:12: drain: "30s" is not valid; must be an object',
    "sidecar.json:21:13: limits: null is not valid; must be an object",
    'sidecar.json:23:14: log.level: {"of":{"detail":3}} is not valid; must be one of "trace", "debug", "info", "warn", "error", "silent"',
    "sidecar.json:28:15: log.access: [true] is not valid; must be true or false",
    'sidecar.json:32:14: plugins: {"use":"keep-alive"} is not valid; must be a list of objects',
    'sidecar.json:35:15: backends: ["inventory"] is not valid; must be an object with a name for each entry',
  ]);
});

test("keys that JavaScript objects inherit are unknown keys like others", async (t) => {
  const text =
    '{ "service": "a", "inbound": { "upstream": "http://a" }, "__proto__": { "service": "b" }, "constructor": 1, "backends": { "__proto__": {} } }';
  const known =
    "known keys: service, forwarder, inbound, outbound, backends, admin, plugins, telemetry, log, limits, drain, reload, learning, forwarding";
  assert.deepEqual(await faults(t, text), [
    `sidecar.json:1:58: unknown key "__proto__"; ${known}`,
    `sidecar.json:1:91: unknown key "constructor"; ${known}`,
    'sidecar.json:1:123: backends: "__proto__" is not a valid name; must be letters, digits, dots, hyphens and underscores',
  ]);
  assert.equal(Object.hasOwn(Object.prototype, "service"), false);
});

test("a key that is given twice is a fault at its second place", async (t) => {
  const text = `{
  "service": "orders",
  "inbound": { "upstream": "http://a", "listen": "a:1",
    "listen": "a:2" },
  "service": "other"
}`;
  assert.deepEqual(await faults(t, text), [
    'sidecar.json:4:5: inbound: "listen" is given twice; the first is on line 3; keep one',
    'sidecar.json:5:3: "service" is given twice; the first is on line 2; keep one',
  ]);
});

test("text that is not JSON is shown where it ceases to be", async (t) => {
  const cases: [string, string[]][] = [
    ["", ["sidecar.json:1:1: the file is empty; must be a JSON object"]],
    ["[]", ["sidecar.json:1:1: [] is not valid; must be an object"]],
    [
      '{\n  "service": "a",\n}',
      ["sidecar.json:3:1: not JSON; a key in double quotes must stand here (the last entry has no comma after it)"],
    ],
    ["{\n  // why\n}", ["sidecar.json:2:3: not JSON; comments are not allowed"]],
    [
      "{\n  'service': 1\n}",
      [
        "sidecar.json:2:3: not JSON; strings need double quotes; words are only true, false and null",
        "sidecar.json:3:1: not JSON; a value must stand here (the last entry has no comma after it)",
      ],
    ],
    [
      '{ "service": "a" } x',
      ["sidecar.json:1:20: not JSON; strings need double quotes; words are only true, false and null"],
    ],
    ['{ "service": "a"\n  "inbound": {} }', ["sidecar.json:2:3: not JSON; a comma must stand here"]],
  ];
  for (const [text, expected] of cases) {
    assert.deepEqual(await faults(t, text), expected, text);
  }
});

test("a byte order mark before the JSON is skipped", (t) => {
  assert.equal(loading(t, `\uFEFF${JSON.stringify(MINIMAL)}`).config.service, "orders");
});

test("a file that cannot be read is a fault", async (t) => {
  const folder = folderWith(t, {});
  assert.deepEqual(await faultsOf(folder, () => loadConfig(path.join(folder, "sidecar.json"), {})), [
    "sidecar.json: cannot be read: ENOENT: no such file or directory, open 'sidecar.json'; name another file with --config",
  ]);
});

test("one of the directions must be there", async (t) => {
  assert.deepEqual(await faults(t, { service: "orders" }), [
    "sidecar.json:1:1: there is neither inbound nor outbound; give at least one of them",
  ]);
});

test("the environment outranks the file, and values remember where they came from", (t) => {
  const content = { ...MINIMAL, drain: { deadline: "20s" }, log: { level: "warn" } };
  const { config, values } = loading(t, content, {
    HOLDFAST_DRAIN_DEADLINE: "45s",
    HOLDFAST_LOG_ACCESS: "false",
    HOLDFAST_LIMITS_FIELDS: "50",
    HOLDFAST_TELEMETRY_TRACES_RATIO: "0.25",
    HOLDFAST_TELEMETRY_TRACES_EXPORTERS: "otlp, console",
    HOLDFAST_LOG_LEVEL: "",
  });
  assert.equal(config.drain.deadlineMs, 45_000);
  assert.equal(config.log.access, false);
  assert.equal(config.limits.fields, 50);
  assert.equal(config.telemetry.traces.ratio, 0.25);
  assert.deepEqual(config.telemetry.traces.exporters, ["otlp", "console"]);
  assert.equal(config.log.level, "warn");
  const byKey = new Map(values.map((value) => [value.key, value]));
  const common = { secret: false };
  assert.deepEqual(byKey.get("drain.deadline"), {
    ...common,
    key: "drain.deadline",
    value: "45s",
    source: "environment",
    variable: "HOLDFAST_DRAIN_DEADLINE",
  });
  assert.deepEqual(byKey.get("log.level"), {
    ...common,
    key: "log.level",
    value: "warn",
    source: "file",
    variable: undefined,
  });
  assert.deepEqual(byKey.get("drain.idleGrace"), {
    ...common,
    key: "drain.idleGrace",
    value: "2s",
    source: "default",
    variable: undefined,
  });
});

test("the environment alone can turn a direction on", (t) => {
  const { config } = loading(t, { service: "orders" }, { HOLDFAST_INBOUND_UPSTREAM: "http://127.0.0.1:9000" });
  assert.equal(config.inbound?.upstream.origin.port, 9000);
  assert.equal(config.outbound, undefined);
});

test("a fault of the environment names the variable; nothing is guessed from its text", async (t) => {
  const env = {
    HOLDFAST_LOG_ACCESS: "nope",
    HOLDFAST_LIMITS_FIELDS: "12 fields",
    HOLDFAST_DRAIN_DEADLINE: "30",
    HOLDFAST_TELEMETRY_TRACES_EXPORTERS: "otlp,jaeger",
    HOLDFAST_INBOUND_UPSTREAM: "inventory",
  };
  assert.deepEqual(await faults(t, MINIMAL, env), [
    'environment HOLDFAST_TELEMETRY_TRACES_EXPORTERS: telemetry.traces.exporters: "otlp,jaeger" is not valid; must be a list of different words out of "otlp", "console", "none"',
    'environment HOLDFAST_LOG_ACCESS: log.access: "nope" is not valid; must be true or false',
    'environment HOLDFAST_LIMITS_FIELDS: limits.fields: "12 fields" is not valid; must be a whole number from 1 to 10000',
    'environment HOLDFAST_DRAIN_DEADLINE: drain.deadline: "30" is not valid; must be a duration with a unit: "250ms", "55s", "5m", "1h"',
    'environment HOLDFAST_INBOUND_UPSTREAM: inbound.upstream: no backend is named "inventory"; there are no backends',
  ]);
});

test("a file value that the environment outranks is still checked", async (t) => {
  assert.deepEqual(await faults(t, { ...MINIMAL, log: { level: "loud" } }, { HOLDFAST_LOG_LEVEL: "info" }), [
    'sidecar.json:7:14: log.level: "loud" is not valid; must be one of "trace", "debug", "info", "warn", "error", "silent"',
  ]);
});

test("TLS files must be there, be PEM, and belong to an https upstream", async (t) => {
  const content = {
    service: "orders",
    inbound: { upstream: "http://127.0.0.1:8080", upstreamTls: { serverName: "a" } },
    outbound: {
      routes: [
        { host: "a", upstream: "https://a", tls: { ca: "missing.pem" } },
        { host: "b", upstream: "https://b", tls: { cert: "junk.pem" } },
        { host: "c", upstream: "inventory", tls: { serverName: "c" } },
      ],
    },
    backends: { inventory: { address: "10.0.0.7", tls: { key: "junk.pem", cert: "junk.pem" } } },
  };
  const lines = await faults(t, content, {}, { "junk.pem": "junk" });
  const withoutReason = lines.map((line) => line.replace(/\([^()]*\)/, "(…)"));
  assert.deepEqual(withoutReason, [
    'sidecar.json:5:20: inbound.upstreamTls: has no effect on "http://127.0.0.1:8080"; needs an "https://" upstream',
    'sidecar.json:15:17: outbound.routes[0].tls.ca: "missing.pem" cannot be used (…); must be a readable PEM file with certificates',
    "sidecar.json:21:16: outbound.routes[1].tls: cert is given without key; give both or neither",
    'sidecar.json:22:19: outbound.routes[1].tls.cert: "junk.pem" cannot be used (…); must be a readable PEM file with a certificate',
    'sidecar.json:28:16: outbound.routes[2].tls: has no effect on "inventory"; belongs into backends.inventory.tls',
    'sidecar.json:38:16: backends.inventory.tls.key: "junk.pem" cannot be used (…); must be a readable PEM file with a private key without a passphrase',
    'sidecar.json:39:17: backends.inventory.tls.cert: "junk.pem" cannot be used (…); must be a readable PEM file with a certificate',
  ]);
});

test("a certificate needs its own key, and files are found from the folder of the configuration", async (t) => {
  const files = { "pem/cert.pem": CERTIFICATE, "pem/key.pem": KEY, "pem/other.pem": OTHER_KEY };
  const content = (key: string): object => ({
    service: "orders",
    outbound: {
      routes: [{ host: "a", upstream: "https://a", tls: { ca: "pem/cert.pem", cert: "./pem/cert.pem", key } }],
    },
  });
  const folder = folderWith(t, { ...files, "sidecar.json": content("pem/key.pem") });
  assert.deepEqual(loadConfig(path.join(folder, "sidecar.json"), {}).config.outbound?.routes[0]?.upstream.tls, {
    ca: path.join(folder, "pem/cert.pem"),
    cert: path.join(folder, "pem/cert.pem"),
    key: path.join(folder, "pem/key.pem"),
    serverName: undefined,
  });
  assert.deepEqual(await faults(t, content("pem/other.pem"), {}, files), [
    'sidecar.json:11:18: outbound.routes[0].tls.key: "pem/other.pem" is not the key of "./pem/cert.pem"; must belong together',
  ]);
});

test("the files of a listener's TLS are checked, and found from the folder of the configuration", async (t) => {
  const files = { "pem/cert.pem": CERTIFICATE, "pem/key.pem": KEY, "pem/other.pem": OTHER_KEY };
  const content = (tls: object): object => ({ ...MINIMAL, inbound: { ...MINIMAL.inbound, tls } });
  const folder = folderWith(t, {
    ...files,
    "sidecar.json": content({ cert: "pem/cert.pem", key: "pem/key.pem", clientCa: "pem/cert.pem" }),
  });
  assert.deepEqual(loadConfig(path.join(folder, "sidecar.json"), {}).config.inbound?.tls, {
    cert: path.join(folder, "pem/cert.pem"),
    key: path.join(folder, "pem/key.pem"),
    clientCa: path.join(folder, "pem/cert.pem"),
    requireClientCertificate: true,
    minVersion: "TLSv1.2",
  });
  const lines = await faults(t, content({ cert: "pem/cert.pem", key: "pem/other.pem", clientCa: "no.pem" }), {}, files);
  assert.deepEqual(
    lines.map((line) => line.replace(/^\S+ |\([^()]*\)/g, "")),
    [
      'inbound.tls.key: "pem/other.pem" is not the key of "pem/cert.pem"; must belong together',
      'inbound.tls.clientCa: "no.pem" cannot be used ; must be a readable PEM file with certificates',
    ],
  );
  const incomplete = await faults(t, content({ cert: "pem/cert.pem", minVersion: "TLSv1" }), {}, files);
  assert.match(incomplete.join("\n"), /inbound\.tls\.key: is missing/);
  assert.match(incomplete.join("\n"), /inbound\.tls\.minVersion: "TLSv1" is not valid/);
});

test("a fault never repeats the credentials of a URL", async (t) => {
  const content = {
    service: "orders",
    inbound: { upstream: "http://user:hunter2@host" },
    telemetry: { otlp: { endpoint: "https://user:hunter2@collector" } },
  };
  const text = (await faults(t, content)).join("\n");
  assert.match(text, /inbound\.upstream: "http:\/\/\*\*\*@host" is not valid; must not carry credentials/);
  assert.match(text, /telemetry\.otlp\.endpoint: "https:\/\/\*\*\*@collector" is not valid/);
  assert.doesNotMatch(text, /hunter2/);
});

test("a fault never repeats what stands in the query or fragment of a URL", async (t) => {
  const telemetry = (endpoint: string): object => ({ ...MINIMAL, telemetry: { otlp: { endpoint } } });
  for (const [endpoint, shown] of [
    ["http://user:secret@x:4318/?key=secretpw", "http://***@x:4318/?key=***"],
    ["http://x/?secret&b=secret#secret", "http://x/?***&b=***#***"],
    ["x/?a=secret=secret;b=secret", "x/?a=***;b=***"],
  ] as const) {
    const [line = ""] = await faults(t, telemetry(endpoint));
    assert.ok(line.includes(`telemetry.otlp.endpoint: "${shown}" is not valid`), line);
    assert.doesNotMatch(line, /secret/);
  }
});

test("a number that is too large for JSON's readers is named as that", async (t) => {
  const text = JSON.stringify({ ...MINIMAL, limits: { fields: 5 } }).replace("5}", "1e400}");
  assert.deepEqual(await faults(t, text), [
    `sidecar.json:1:${text.indexOf("1e400") + 1}: limits.fields: a number above 1.8e308 is not valid; must be a whole number from 1 to 10000`,
  ]);
});

test('"off" is offered only where it is allowed', async (t) => {
  const lines = await faults(t, {
    ...MINIMAL,
    limits: { head: "big", replay: 5 },
    drain: { deadline: "soon", idleGrace: "700h" },
    backends: { a: { address: "a", keepaliveTime: "soon" } },
  });
  const allowed = Object.fromEntries(lines.map((line) => [/: ([\w.]+): /.exec(line)?.[1], line.split("; ")[1]]));
  assert.deepEqual(allowed, {
    "limits.head": 'must be a size with a unit: "512B", "64KiB", "2MiB", "1GiB"',
    "limits.replay": 'must be a size with a unit: "512B", "64KiB", "2MiB", "1GiB"',
    "drain.deadline": 'must be a duration with a unit: "250ms", "55s", "5m", "1h"',
    "drain.idleGrace": 'must be at most "24h"',
    "backends.a.keepaliveTime": 'must be a duration with a unit: "250ms", "55s", "5m", "1h" or "off"',
  });
});
