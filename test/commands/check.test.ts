import assert from "node:assert/strict";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { check } from "../../src/commands/check.ts";
import type { Environment } from "../../src/config/load.ts";
import { folderWith } from "../config/folder.ts";
import { holdfast } from "./program.ts";

const GOOD = { service: "orders", inbound: { upstream: "http://127.0.0.1:8080" }, plugins: [{ use: "idle-timeout" }] };

interface Checked {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function checked(
  t: TestContext,
  content: unknown,
  options: { json?: boolean; env?: Environment } = {},
): Promise<Checked> {
  const folder = folderWith(t, { "sidecar.json": content, "own.js": OWN });
  let stdout = "";
  let stderr = "";
  const code = await check(path.join(folder, "sidecar.json"), {
    json: options.json ?? false,
    env: options.env ?? {},
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
  });
  return { code, stdout: stdout.replaceAll(`${folder}/`, ""), stderr: stderr.replaceAll(`${folder}/`, "") };
}

const OWN = `export default { name: "own", apiVersion: 1, description: "d", setup: () => ({}), config: {
  token: { default: null, nullable: true, format: String, sensitive: true, env: "OWN_TOKEN", doc: "d" } } };`;

test("a good configuration is shown with where each value came from, aligned", async (t) => {
  const { code, stdout, stderr } = await checked(t, GOOD, { env: { HOLDFAST_DRAIN_DEADLINE: "45s" } });
  assert.equal(code, 0);
  assert.equal(stderr, "");
  const lines = stdout.split("\n");
  const column = lines[0]!.indexOf('"orders"');
  assert.equal(lines[0]!.slice(0, column).trim(), "service");
  for (const line of lines.slice(0, -3)) assert.match(line.slice(column - 2, column + 1), /^ {2}[^ ]$/, line);
  const spaced = lines.map((line) => line.replace(/ {2,}/g, "  "));
  assert.ok(spaced.includes('inbound.upstream  "http://127.0.0.1:8080"  file'));
  assert.ok(spaced.includes('inbound.listen  "0.0.0.0:15006"  default'));
  assert.ok(spaced.includes('drain.deadline  "45s"  environment HOLDFAST_DRAIN_DEADLINE'));
  assert.ok(spaced.includes('plugins[0].config.downstream  "65s"  default'));
  assert.equal(lines.at(-2), "sidecar.json: no faults");
});

test("a bad configuration shows every fault on standard error and ends with 2", async (t) => {
  const content = { ...GOOD, log: { level: "loud" }, drian: {} };
  assert.deepEqual(await checked(t, content), {
    code: 2,
    stdout: "",
    stderr: `sidecar.json:12:14: log.level: "loud" is not valid; must be one of "trace", "debug", "info", "warn", "error", "silent"
sidecar.json:14:3: unknown key "drian"; did you mean "drain"?
2 faults
`,
  });
});

test("a broken rule is named", async (t) => {
  const content = { ...GOOD, drain: { deadline: "1s" } };
  const { code, stderr } = await checked(t, content);
  assert.equal(code, 2);
  assert.equal(
    stderr,
    'sidecar.json:11:3: drain.idleGrace: rule idle-grace-below-deadline: drain.idleGrace ("2s") is not below drain.deadline ("1s"); lower drain.idleGrace or raise drain.deadline\n1 fault\n',
  );
});

test("--json has the values, or the faults, for programs", async (t) => {
  const good = await checked(t, GOOD, { json: true });
  assert.equal(good.code, 0);
  const { valid, values } = JSON.parse(good.stdout);
  assert.equal(valid, true);
  assert.deepEqual(values[0], { key: "service", value: "orders", source: "file" });
  const bad = await checked(t, { ...GOOD, service: 5 }, { json: true });
  assert.equal(bad.code, 2);
  assert.deepEqual(JSON.parse(bad.stdout), {
    valid: false,
    faults: [
      {
        place: { file: "sidecar.json", line: 2, column: 14 },
        key: "service",
        wrong: "5 is not valid",
        allowed: "must be a name of letters, digits, dots, hyphens and underscores",
      },
    ],
  });
});

test("secrets are masked in both forms", async (t) => {
  const content = { ...GOOD, plugins: [{ use: "./own.js", config: { token: "hunter2" } }] };
  for (const json of [false, true]) {
    const { code, stdout } = await checked(t, content, { json });
    assert.equal(code, 0);
    assert.ok(stdout.includes("plugins[0].config.token"));
    assert.ok(stdout.includes('"***"'));
    assert.ok(!stdout.includes("hunter2"));
  }
});

test("the repository's own sidecar.json has no faults, and the command says so with 0", async (t) => {
  const file = fileURLToPath(new URL("../../sidecar.json", import.meta.url));
  const { code, stdout, stderr } = await holdfast(t, ["check", "-c", file]).ended();
  assert.equal(stderr, "");
  assert.match(stdout, /sidecar\.json: no faults\n$/);
  assert.equal(code, 0);
});

test("the command ends with 2 for a bad configuration and for bad usage, with 0 for help and version", async (t) => {
  const folder = folderWith(t, { "sidecar.json": "{}" });
  const cases: [string[], number, RegExp][] = [
    [["check", "-c", path.join(folder, "sidecar.json")], 2, /service: is missing/],
    [["check", "-c", path.join(folder, "none.json")], 2, /cannot be read: ENOENT/],
    [["run", "-c", path.join(folder, "sidecar.json")], 2, /service: is missing/],
    [["check", "--jsn"], 2, /unknown option '--jsn'/],
    [["chek"], 2, /unknown command 'chek'/],
    [["check", "extra"], 2, /too many arguments/],
    [["demo", "--seconds", "soon"], 2, /must be a number of seconds/],
    [[], 2, /Usage: holdfast/],
    [["--help"], 0, /Usage: holdfast/],
    [["run", "--help"], 0, /Usage: holdfast run/],
    [["check", "--help"], 0, /Usage: holdfast check/],
    [["demo", "--help"], 0, /Usage: holdfast demo/],
    [["--version"], 0, /^\d+\.\d+\.\d+\n$/],
  ];
  for (const [args, expected, says] of cases) {
    const { code, stdout, stderr } = await holdfast(t, args).ended();
    assert.equal(code, expected, args.join(" "));
    assert.match(stdout + stderr, says);
  }
});

test("an older Node.js is told so in one line, before anything else is loaded", async (t) => {
  const versions = ["20.20.2", "26.3.1", "26.4.0"];
  for (const version of versions) {
    const pretend = `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "${version}" } });`;
    const { code, stdout, stderr } = await holdfast(t, ["--version"], {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(pretend)}`,
    }).ended();
    const isOld = version !== "26.4.0";
    assert.equal(stderr, isOld ? `holdfast needs Node.js 26.4 or newer; this is v${version}\n` : "");
    assert.equal(stdout === "", isOld);
    assert.equal(code, isOld ? 1 : 0);
  }
});

test("a variable that starts with HOLDFAST_ and means nothing is a fault, with the nearest that does", async (t) => {
  const env = {
    HOLDFAST_LOGLEVEL: "debug",
    HOLDFAST_PASSWORD: "secret",
    HOLDFAST_EMPTY: "",
    HOLDFAST_LOG_LEVEL: "warn",
    // What Kubernetes sets for services named holdfast and holdfast-orders.
    HOLDFAST_SERVICE_HOST: "10.0.0.1",
    HOLDFAST_SERVICE_PORT_HTTP: "80",
    HOLDFAST_PORT: "tcp://10.0.0.1:80",
    HOLDFAST_ORDERS_PORT_80_TCP_ADDR: "10.0.0.1",
  };
  assert.deepEqual(await checked(t, GOOD, { env }), {
    code: 2,
    stdout: "",
    stderr: [
      "environment HOLDFAST_LOGLEVEL: no such variable; did you mean HOLDFAST_LOG_LEVEL?",
      "environment HOLDFAST_PASSWORD: no such variable; docs/configuration.md names every one",
      "2 faults",
      "",
    ].join("\n"),
  });
  const named = { ...GOOD, plugins: [{ use: "./named.js" }] };
  const folder = folderWith(t, { "sidecar.json": named, "named.js": OWN.replace("OWN_TOKEN", "HOLDFAST_OWN_TOKEN") });
  const sink = { write: () => true };
  const options = { json: false, env: { HOLDFAST_OWN_TOKEN: "x" }, stdout: sink, stderr: sink };
  assert.equal(await check(path.join(folder, "sidecar.json"), options), 0);
});

test("variables of OpenTelemetry that would be ignored are warned of, without their values", async (t) => {
  const env = { OTEL_TRACES_SAMPLER: "sometimes", OTEL_EXPORTER_OTLP_HEADERS: "secret" };
  const { code, stdout, stderr } = await checked(t, GOOD, { env });
  assert.equal(code, 0);
  assert.match(stdout, /no faults\n$/);
  const [sampler = "", headers = "", ...rest] = stderr.split("\n");
  assert.match(
    sampler,
    /^warning: environment variable OTEL_TRACES_SAMPLER must be one of always_on, .*; it is ignored$/,
  );
  assert.match(headers, /^warning: environment variable OTEL_EXPORTER_OTLP_HEADERS must be .*; it is ignored$/);
  assert.deepEqual(rest, [""]);
  const { warnings } = JSON.parse((await checked(t, GOOD, { env, json: true })).stdout) as { warnings: string[] };
  assert.equal(warnings.length, 2);
  assert.deepEqual(JSON.parse((await checked(t, GOOD, { json: true })).stdout).warnings, []);
});
