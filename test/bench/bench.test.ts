import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { chart } from "../../bench/chart.ts";
import { PEER_NAMES } from "../../bench/peers/peer.ts";
import type { Result } from "../../bench/result.ts";
import { SCENARIO_NAMES, type ScenarioName, type ScenarioResult } from "../../bench/scenarios/scenario.ts";

const MAIN = path.join(import.meta.dirname, "..", "..", "bench", "main.ts");

interface Run {
  readonly folder: string;
  readonly process: ReturnType<typeof spawn>;
  ended(): Promise<{ code: number | null; stdout: string; stderr: string }>;
}

function runBench(t: TestContext, args: readonly string[], env: Readonly<Record<string, string>> = {}): Run {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-bench-test-"));
  const child = spawn(process.execPath, [MAIN, "--out", path.join(folder, "out"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    // What the bench leaves behind can be seen.
    env: { ...process.env, ...env, TMPDIR: folder },
  });
  const said = Promise.all([text(child.stdout), text(child.stderr)]);
  const exit = once(child, "exit");
  t.after(async () => {
    child.kill("SIGTERM");
    await exit;
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    folder,
    process: child,
    async ended() {
      const [code] = (await exit) as [number | null];
      const [stdout, stderr] = await said;
      return { code, stdout, stderr };
    },
  };
}

async function result(run: Run): Promise<Result> {
  const { code, stdout, stderr } = await run.ended();
  assert.equal(stderr, "");
  assert.equal(code, 0, stdout);
  const found = JSON.parse(readFileSync(path.join(run.folder, "out", "result.json"), "utf8")) as Result;
  assert.deepEqual(found.problems, []);
  assert.deepEqual(leftBehind(run), []);
  for (const { name, samples } of found.scenarios) {
    for (const { subject, values } of samples) {
      for (const [metric, value] of Object.entries(values)) {
        assert.ok(Number.isFinite(value), `${name}: ${subject}: ${metric} is ${value}`);
      }
    }
  }
  return found;
}

function leftBehind({ folder }: Run): string[] {
  return readdirSync(folder).filter((name) => name.startsWith("holdfast-bench-"));
}

function subjects({ samples }: ScenarioResult): string[] {
  return [...new Set(samples.map(({ subject }) => subject))];
}

test("every exchange of every scenario through both forwarders is right", async (t) => {
  const peers = ["holdfast", "holdfast-http-proxy-3"];
  const run = runBench(t, ["--quick", "--peers", peers.join()]);
  const { scenarios, notes } = await result(run);
  assert.deepEqual(
    scenarios.map(({ name }) => name),
    [...SCENARIO_NAMES],
  );
  const variants: Partial<Record<ScenarioName, string[]>> = {
    "small-1024": [...peers, "holdfast at 64"],
    plugins: ["holdfast", "holdfast-20-no-op", "holdfast-20-without-hooks"],
    https: notes.some((note) => note.startsWith("https is left out")) ? [] : peers,
    memory: [...peers, "holdfast-telemetry-off"],
  };
  for (const scenario of scenarios)
    assert.deepEqual(subjects(scenario), variants[scenario.name] ?? peers, scenario.name);
  const svg = readFileSync(path.join(run.folder, "out", "result.svg"), "utf8");
  assert.equal(svg, chart(scenarios));
});

test("every exchange through every peer is right, and a peer that is missing is named", async (t) => {
  const { scenarios, peers, notes } = await result(runBench(t, ["--no-build", "--quick", "--only", "small-64"]));
  const measured = peers.map(({ name }) => name);
  assert.deepEqual(subjects(scenarios[0]!), measured);
  for (const name of PEER_NAMES) {
    const isNamed = notes.some((note) => note.startsWith(`${name} is left out: it is not installed (Debian package `));
    assert.equal(isNamed, !measured.includes(name), name);
  }
});

test("a peer that cannot be found is left out and named, and the others are measured", async (t) => {
  // Nothing but what the bench itself needs: Debian has caddy beside it.
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-bench-path-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const getconf = process.env["PATH"]!.split(path.delimiter).find((each) => existsSync(path.join(each, "getconf")))!;
  symlinkSync(path.join(getconf, "getconf"), path.join(folder, "getconf"));
  const args = ["--no-build", "--quick", "--only", "small-64", "--peers", "caddy,undici"];
  const { scenarios, notes } = await result(runBench(t, args, { PATH: folder }));
  assert.deepEqual(subjects(scenarios[0]!), ["undici"]);
  assert.ok(notes.includes("caddy is left out: it is not installed (Debian package caddy)"), notes.join("\n"));
});

test("SIGINT ends the bench, its processes and its files", async (t) => {
  const run = runBench(t, ["--no-build", "--quick", "--only", "memory", "--peers", "undici", "--rounds", "9999"]);
  const bench = run.process;
  const ended = run.ended();
  let said = "";
  bench.stdout!.on("data", (piece) => {
    said += piece;
  });
  while (!said.includes("(memory)")) await once(bench.stdout!, "data");
  const children = childrenOf(bench.pid!);
  assert.ok(children.length > 0);
  bench.kill("SIGINT");
  const { code, stderr } = await ended;
  assert.equal(stderr, "bench: stopped by SIGINT\n");
  assert.equal(code, 1);
  for (const pid of children) assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  assert.deepEqual(leftBehind(run), []);
});

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").split(" ").filter(Boolean).map(Number);
}

test("what cannot be understood on the command line is named", async (t) => {
  for (const [args, message] of [
    [["--only", "small-64,smal"], /^bench: --only smal: there is none; known are small-64, /],
    [["--peers", "envoy"], /^bench: --peers envoy: there is none; known are holdfast, /],
    [["--rounds", "0"], /^bench: --rounds 0: must be a whole number from 1 to 9999\n$/],
    [["--quick", "--publish"], /^bench: --publish needs measurements/],
    [["--fast"], /^bench: Unknown option '--fast'/],
  ] as const) {
    const { code, stderr } = await runBench(t, args).ended();
    assert.equal(code, 1);
    assert.match(stderr, message);
  }
});

test("a folder that cannot be written to is named before anything is measured", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-bench-out-"));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(path.join(folder, "file"), "");
  const out = path.join(folder, "file", "out");
  const { code, stdout, stderr } = await runBench(t, ["--no-build", "--quick", "--out", out]).ended();
  assert.equal(stderr, `bench: --out ${out}: cannot be written to (ENOTDIR)\n`);
  assert.equal(stdout, "");
  assert.equal(code, 1);
});
