import assert from "node:assert/strict";
import { createServer } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import type { Plugin } from "../../src/plugin/api.ts";
import { startTestSidecar } from "../../src/testing.ts";
import { folderWith } from "../config/folder.ts";
import { holdfast, type Program } from "./program.ts";

interface Address {
  readonly host: string;
  readonly port: number;
}

/** A sidecar before an upstream that answers when it is told to. */
async function started(
  t: TestContext,
  changes: object = {},
): Promise<{ program: Program; inbound: Address; admin: Address; asked: Promise<void>; answer: () => void }> {
  const asked = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const upstream = createServer((_request, response) => {
    asked.resolve();
    held.promise.then(() => response.end("done"));
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    upstream.closeAllConnections();
    upstream.close();
  });
  const { port } = upstream.address() as AddressInfo;
  const folder = folderWith(t, {
    "sidecar.json": {
      service: "orders",
      inbound: { listen: "127.0.0.1:0", upstream: `http://127.0.0.1:${port}` },
      admin: { listen: "127.0.0.1:0" },
      plugins: [{ use: "keep-alive" }, { use: "idle-timeout" }],
      drain: { idleGrace: "0s" },
      ...changes,
    },
  });
  const program = holdfast(t, ["run", "-c", path.join(folder, "sidecar.json")]);
  const lines = (await program.said("ready")).split("\n");
  const { addresses } = JSON.parse(lines.find((line) => line.includes("ready")) ?? "{}");
  return { program, inbound: addresses.inbound, admin: addresses.admin, asked: asked.promise, answer: held.resolve };
}

/** Sends a request and resolves with everything that comes back until the connection closes. */
function exchange({ host, port }: Address): Promise<string> {
  return new Promise((resolve) => {
    let received = "";
    const socket = connect(port, host, () => socket.write("GET / HTTP/1.1\r\nHost: orders\r\n\r\n"));
    socket.setEncoding("latin1").on("data", (text) => {
      received += text;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(received));
  });
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} drains: what is in flight is answered, and the exit code is 0`, async (t) => {
    const { program, inbound, asked, answer } = await started(t);
    const response = exchange(inbound);
    await asked;
    program.process.kill(signal);
    await program.said("a second signal stops at once");
    answer();
    assert.match(await response, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\ndone$/);
    const { code, stderr } = await program.ended();
    assert.equal(stderr, "");
    assert.equal(code, 0);
  });
}

test("a second signal ends it at once with 1", async (t) => {
  const { program, inbound, asked } = await started(t, { drain: { idleGrace: "0s", deadline: "1h" } });
  const response = exchange(inbound);
  await asked;
  program.process.kill("SIGTERM");
  await program.said("a second signal stops at once");
  program.process.kill("SIGTERM");
  assert.equal((await program.ended()).code, 1);
  assert.doesNotMatch(await response, /done$/);
});

test("what the deadline cuts makes the exit code 1", async (t) => {
  const { program, inbound, asked } = await started(t, { drain: { idleGrace: "0s", deadline: "50ms" } });
  const response = exchange(inbound);
  await asked;
  program.process.kill("SIGTERM");
  assert.equal((await program.ended()).code, 1);
  assert.doesNotMatch(await response, /done$/);
});

test("POST /drain of the admin API ends the process with 0", async (t) => {
  const { program, admin } = await started(t);
  const answer = await fetch(`http://${admin.host}:${admin.port}/drain`, { method: "POST" });
  assert.equal(answer.status, 202);
  assert.equal((await program.ended()).code, 0);
});

/** Every address that a test needs taken. */
async function taken(t: TestContext): Promise<string> {
  const other = createTcpServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  t.after(() => other.close());
  return `127.0.0.1:${(other.address() as AddressInfo).port}`;
}

/** Runs a configuration that cannot be run, with files beside it. */
async function failed(
  t: TestContext,
  config: object,
  files: Readonly<Record<string, unknown>> = {},
): Promise<{ code: number | null; stdout: string; lines: string[] }> {
  const folder = folderWith(t, {
    "package.json": { type: "module" },
    ...files,
    "sidecar.json": { service: "orders", admin: { listen: "127.0.0.1:0" }, ...config },
  });
  const { code, stdout, stderr } = await holdfast(t, ["run", "-c", path.join(folder, "sidecar.json")]).ended();
  assert.ok(stderr.endsWith("\n"));
  return { code, stdout, lines: stderr.slice(0, -1).replaceAll(`${folder}/`, "").split("\n") };
}

const INBOUND = { listen: "127.0.0.1:0", upstream: "http://127.0.0.1:1" };

function plugin(name: string, setup: string): string {
  return `export default { name: "${name}", description: "A test", apiVersion: 1, config: {}, setup() { ${setup} } };\n`;
}

test("an address that is taken is said in one line, and the exit code is 1", async (t) => {
  const listen = await taken(t);
  const { code, stdout, lines } = await failed(t, { inbound: { ...INBOUND, listen } });
  assert.equal(code, 1);
  assert.equal(stdout, "");
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, new RegExp(`^holdfast: inbound\\.listen: cannot listen on ${listen} \\(EADDRINUSE\\)`));
});

test("every address that is taken is said, in a line each", async (t) => {
  const [inbound, outbound, admin] = [await taken(t), await taken(t), await taken(t)];
  const { code, lines } = await failed(t, {
    inbound: { ...INBOUND, listen: inbound },
    outbound: { listen: outbound },
    admin: { listen: admin },
  });
  assert.equal(code, 1);
  assert.deepEqual(
    lines.map((line) => line.slice(0, line.indexOf(" (EADDRINUSE)"))),
    [
      `holdfast: inbound.listen: cannot listen on ${inbound}`,
      `holdfast: outbound.listen: cannot listen on ${outbound}`,
      `holdfast: admin.listen: cannot listen on ${admin}`,
    ],
  );
});

test("every plugin whose setup fails is said, in a line each, and the exit code is 1", async (t) => {
  const { code, stdout, lines } = await failed(
    t,
    {
      inbound: INBOUND,
      outbound: { listen: "127.0.0.1:0" },
      plugins: [{ use: "./broken.js" }, { use: "keep-alive" }, { use: "./empty.js", directions: ["inbound"] }],
    },
    {
      "broken.js": plugin("broken", 'throw new Error("no such table:\\n  limits")'),
      "empty.js": plugin("empty", "return undefined"),
    },
  );
  assert.equal(code, 1);
  assert.equal(stdout, "");
  assert.deepEqual(lines, [
    "holdfast: plugin broken cannot start inbound: no such table: limits",
    "holdfast: plugin empty cannot start inbound: setup must return a filter, an object of hooks",
    "holdfast: plugin broken cannot start outbound: no such table: limits",
  ]);
});

test("what was started before a failure is closed again, and nothing listens", async (t) => {
  const closed: string[] = [];
  const one: Plugin<object> = {
    name: "one",
    description: "A test",
    apiVersion: 1,
    config: {},
    setup: ({ direction }) => ({ close: () => void closed.push(direction) }),
  };
  const two: Plugin<object> = { ...one, name: "two", setup: () => Promise.reject(new Error("not today")) };
  await assert.rejects(
    startTestSidecar({ upstream: INBOUND.upstream, outbound: true, plugins: [{ plugin: one }, { plugin: two }] }),
    /^HoldfastError: plugin two cannot start inbound: not today\nplugin two cannot start outbound: not today$/,
  );
  assert.deepEqual(closed, ["outbound", "inbound"]);
  closed.length = 0;
  const [inbound, admin] = [await taken(t), await taken(t)];
  await assert.rejects(
    startTestSidecar({
      upstream: INBOUND.upstream,
      outbound: true,
      plugins: [{ plugin: one }],
      config: {
        inbound: { listen: inbound },
        outbound: { listen: "127.0.0.1:0" },
        admin: { listen: admin },
      },
    }),
    /inbound\.listen: cannot listen on .*\nadmin\.listen: cannot listen on /,
  );
  assert.deepEqual(closed, ["outbound", "inbound"]);
  // A listener, a timer or a connection that stayed open would keep this file's process from ending.
});

test("files of TLS that cannot be read are faults of the configuration: a line each, exit code 2", async (t) => {
  const { code, stdout, lines } = await failed(
    t,
    {
      inbound: INBOUND,
      outbound: { listen: "127.0.0.1:0" },
      backends: { inventory: { address: "127.0.0.1", port: 8081, tls: { ca: "ca.pem", cert: "cert.pem", key: "." } } },
    },
    { "cert.pem": "no certificate" },
  );
  assert.equal(code, 2);
  assert.equal(stdout, "");
  assert.deepEqual(
    lines.map((line) => line.slice(0, line.indexOf(" cannot be used"))),
    [
      'sidecar.json:18:15: backends.inventory.tls.ca: "ca.pem"',
      'sidecar.json:19:17: backends.inventory.tls.cert: "cert.pem"',
      'sidecar.json:20:16: backends.inventory.tls.key: "."',
    ],
  );
});

test("every fault of the configuration is said, in a line each, and the exit code is 2", async (t) => {
  const { code, stdout, lines } = await failed(t, {
    inbound: { listen: "nowhere", upstrem: "x" },
    plugins: [{ use: "" }],
  });
  assert.equal(code, 2);
  assert.equal(stdout, "");
  assert.ok(lines.length >= 4);
  for (const line of lines) assert.match(line, /^sidecar\.json:\d+:\d+: (?:inbound|plugins)/);
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} before the sidecar is ready ends it with 0`, async (t) => {
    const folder = folderWith(t, {
      "package.json": { type: "module" },
      "slow.js": plugin("slow", 'console.log("setting up"); return new Promise(() => setInterval(() => {}, 1000));'),
      "sidecar.json": {
        service: "orders",
        inbound: INBOUND,
        admin: { listen: "127.0.0.1:0" },
        plugins: [{ use: "./slow.js" }],
      },
    });
    const program = holdfast(t, ["run", "-c", path.join(folder, "sidecar.json")]);
    await program.said("setting up");
    program.process.kill(signal);
    const { code, stderr } = await program.ended();
    assert.equal(stderr, `holdfast: ${signal} before the sidecar was ready\n`);
    assert.equal(code, 0);
  });
}
