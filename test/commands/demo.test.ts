import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { Block, phaseLine, progress } from "../../src/commands/demo/display.ts";
import { type Measured, measure, parseSamples } from "../../src/commands/demo/measure.ts";
import { installation, next, table, verdict } from "../../src/commands/demo/report.ts";
import { agentCall, emptyTally, failed, type Phase, pausesIn, runCaller } from "../../src/commands/demo/traffic.ts";
import { Instruments } from "../../src/telemetry/instruments.ts";
import { formatPrometheus } from "../../src/telemetry/prometheus.ts";
import { folderWith } from "../config/folder.ts";
import { needs } from "../interop/programs.ts";
import { testSidecar } from "../support/peers.ts";
import { holdfast, type Program } from "./program.ts";

const REPOSITORY = path.join(import.meta.dirname, "..", "..");

/** With the console exporter, which `holdfast` of the tests turns off otherwise. */
const WITH_TRACES = { OTEL_SDK_DISABLED: "false" };

/** Rows of the table in the demo's output, by "sidecar direction side". */
function rows(output: string): Map<string, { exchanges: number; connections: number; rest: string }> {
  const found = output.matchAll(
    /^(orders|inventory) +(inbound|outbound) +(downstream|upstream) +(\d+) +(\d+) +[\d.]+ +(.*)$/gm,
  );
  return new Map(
    Array.from(found, ([, sidecar, direction, side, exchanges, connections, rest = ""]) => [
      `${sidecar} ${direction} ${side}`,
      { exchanges: Number(exchanges), connections: Number(connections), rest },
    ]),
  );
}

/** URLs of both admin APIs, from the first lines. */
async function admins(program: Program): Promise<string[]> {
  const output = await program.said("0.0 s  calls");
  return Array.from(output.matchAll(/curl (http:\S+)\/connections/g), ([, url = ""]) => url);
}

/** Process ids of the demo's services and sidecars. */
function children(parent: number): number[] {
  return readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").trim().split(" ").map(Number);
}

function commandLine(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
}

async function assertClosed(urls: readonly string[]): Promise<void> {
  assert.equal(urls.length, 2);
  for (const url of urls) await assert.rejects(fetch(url), `${url} still answers`);
}

test("the demo measures reuse through both sidecars, leaves inventory in time, and ends by itself with 0", async (t) => {
  const program = holdfast(t, ["demo", "--seconds", "6"], WITH_TRACES);
  const urls = await admins(program);
  const { code, stdout, stderr } = await program.ended();
  assert.equal(stderr, "");
  assert.equal(code, 0, stdout);
  assert.ok(!stdout.includes("\x1b"), "terminal sequences in plain output");
  assert.match(stdout, /pause of 5 s\n/);

  const measured = rows(stdout);
  assert.deepEqual(
    [...measured.keys()],
    [
      "orders inbound downstream",
      "orders inbound upstream",
      "orders outbound downstream",
      "orders outbound upstream",
      "inventory inbound downstream",
      "inventory inbound upstream",
    ],
  );
  const calls = Number(/^Through the sidecars: 0 of (\d+) calls failed; 0 stale races\.$/m.exec(stdout)?.[1]);
  assert.ok(calls >= 160, stdout);
  assert.equal(measured.get("orders inbound downstream")!.exchanges, calls);
  // One logout, which orders answers itself.
  assert.equal(measured.get("inventory inbound upstream")!.exchanges, calls - 1);
  assert.match(measured.get("orders inbound downstream")!.rest, /logout 1/);
  for (const [name, { exchanges, connections, rest }] of measured) {
    assert.ok(connections >= 1 && exchanges / connections >= 5, `${name}: ${exchanges} on ${connections}`);
    assert.doesNotMatch(rest, /peer_|aborted|protocol_error|connect_failed/, name);
  }
  assert.match(measured.get("inventory inbound upstream")!.rest, /idle_timeout \d/);
  assert.match(stdout, /Traces before and after the first pause\n(?: {2}(?:orders|inventory) +[A-Z]+ 20\d .*\n){4}/);
  await assertClosed(urls);
});

test(
  "Ctrl-C on a terminal ends the demo with what was measured so far, and takes every process along",
  needs("script"),
  async (t) => {
    const child = spawn(
      "script",
      [
        "--quiet",
        "--flush",
        "--return",
        "--command",
        `stty cols 70 rows 12; exec "${process.execPath}" src/main.ts demo`,
        "/dev/null",
      ],
      { cwd: REPOSITORY, env: { ...process.env, NO_COLOR: "1", TERM: "xterm" }, stdio: ["pipe", "pipe", "inherit"] },
    );
    t.after(() => child.kill("SIGKILL"));
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    const closed = once(child, "close");
    // Drawn twice: the second time over the first.
    while (!output.includes("\x1b[11A\r[")) await once(child.stdout, "data");
    const urls = Array.from(output.matchAll(/curl (http:\S+)\/connections/g), ([, url = ""]) => url);
    child.stdin.write("\x03");
    const [code] = await closed;
    assert.equal(code, 0, output);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what NO_COLOR leaves out
    assert.doesNotMatch(output, /\x1b\[[\d;]*m/);
    const drawn = output.slice(output.indexOf("["), output.lastIndexOf("\x1b[J"));
    for (const line of drawn.split("\n")) assert.ok(visible(line).length < 70, JSON.stringify(line));
    const result = output.slice(output.lastIndexOf("\x1b[J"));
    assert.equal(rows(result.replaceAll("\r", "")).size, 6, output);
    assert.match(result, /Through the sidecars: 0 of \d+ calls failed/);
    await assertClosed(urls);
  },
);

/** Without what moves the cursor. */
function visible(line: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal sequences
  return line.replace(/\x1b\[\d*[A-Z]|\r/g, "");
}

test("a call that fails makes the demo end with 1, and says why", async (t) => {
  const program = holdfast(t, ["demo", "--seconds", "2"]);
  await admins(program);
  const inventory = children(program.process.pid!).find((pid) => commandLine(pid).includes("services/inventory"));
  process.kill(inventory!, "SIGKILL");
  const { code, stdout } = await program.ended();
  assert.equal(code, 1, stdout);
  assert.match(stdout, /Through the sidecars: [1-9]\d* of \d+ calls failed \(status 502 \d+\)/);
});

test("a demo that is killed takes its sidecars and services along", async (t) => {
  // It cannot clear up after itself any more.
  const program = holdfast(t, ["demo", "--seconds", "60"], { TMPDIR: folderWith(t, {}) });
  const urls = await admins(program);
  const started = children(program.process.pid!);
  assert.equal(started.length, 4);
  program.process.kill("SIGKILL");
  await program.ended();
  for (const pid of started) while (isAlive(pid)) await sleep(10);
  await assertClosed(urls);
});

function isAlive(pid: number): boolean {
  try {
    // Zombies of another parent would still take signal 0.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

test("seconds that make no sense are refused with 2", async (t) => {
  for (const seconds of ["0", "-1", "soon", "3601", ""]) {
    const { code, stderr } = await holdfast(t, ["demo", "--seconds", seconds]).ended();
    assert.equal(code, 2, seconds);
    assert.match(stderr, /--seconds/);
  }
});

async function origin(t: TestContext, listener: http.RequestListener): Promise<string> {
  const server = http.createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("pauses fit into the time, whatever it is", () => {
  assert.deepEqual(pausesIn(0.1), []);
  assert.deepEqual(pausesIn(5.9), []);
  assert.deepEqual(pausesIn(6), [5000]);
  assert.deepEqual(pausesIn(13), [5000, 6000]);
  assert.deepEqual(pausesIn(20), [5000, 6000, 6000]);
  fc.assert(
    fc.property(fc.double({ min: 0, max: 3600, noNaN: true }), (seconds) => {
      const pauses = pausesIn(seconds);
      assert.ok(pauses.reduce((sum, pauseMs) => sum + pauseMs, 0) <= seconds * 1000);
    }),
  );
});

test("a caller whose time is up makes one round of calls and stops", async (t) => {
  const methods: string[] = [];
  const url = await origin(t, (request, response) => {
    methods.push(`${request.method} ${request.url}`);
    request.resume();
    response.statusCode = methods.length === 3 ? 503 : 200;
    response.end();
  });
  const tally = emptyTally();
  const phases: Phase[] = [];
  await runCaller({
    call: agentCall(url),
    tally,
    index: 0,
    pausesMs: [],
    endAtMs: performance.now(),
    signal: new AbortController().signal,
    onPhase: (phase) => phases.push(phase),
  });
  assert.equal(methods.length, 10);
  assert.equal(methods[0], "POST /orders");
  assert.deepEqual(phases, [{ kind: "calls" }]);
  assert.equal(tally.calls, 10);
  assert.deepEqual([...tally.failures], [["status 503", 1]]);
  assert.equal(failed(tally), 1);
});

test("a caller stops in the middle of a pause when it is told to", async (t) => {
  const url = await origin(t, (request, response) => {
    request.resume();
    response.end();
  });
  const stop = new AbortController();
  const tally = emptyTally();
  await runCaller({
    call: agentCall(url),
    tally,
    index: 0,
    pausesMs: [600_000, 600_000],
    endAtMs: Number.POSITIVE_INFINITY,
    signal: stop.signal,
    onPhase: ({ kind }) => kind === "pause" && stop.abort(),
  });
  // Ten calls and the logout before the pause.
  assert.equal(tally.calls, 11);
});

test("a call tells why it failed", async (t) => {
  const url = await origin(t, (request) => request.socket.destroy());
  assert.equal(await agentCall(url)("POST", "/"), "ECONNRESET");
  const free = http.createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address() as AddressInfo;
  free.close();
  await once(free, "close");
  assert.equal(await agentCall(`http://127.0.0.1:${port}`)("GET", "/"), "ECONNREFUSED");
});

test("parseSamples reads back what formatPrometheus writes, labels with quotes and line breaks included", () => {
  const instruments = new Instruments();
  const attributes = { "holdfast.direction": 'a "b"\\n\n{c="d",}', other: "x" };
  instruments.upstreamStale.at("one", () => attributes).value = 3;
  instruments.connectionRequests.at("two", () => ({})).record(7);
  const samples = parseSamples(formatPrometheus(instruments, { "service.name": "orders" }).body);
  assert.deepEqual(
    samples.find(({ name }) => name === "holdfast_upstream_stale_total"),
    {
      name: "holdfast_upstream_stale_total",
      labels: { holdfast_direction: attributes["holdfast.direction"], other: "x" },
      value: 3,
    },
  );
  assert.deepEqual(
    samples.find(({ name }) => name === "holdfast_connection_requests_count"),
    { name: "holdfast_connection_requests_count", labels: {}, value: 1 },
  );
  assert.deepEqual(
    samples.find(({ labels }) => labels["le"] === "10"),
    { name: "holdfast_connection_requests_bucket", labels: { le: "10" }, value: 1 },
  );
});

test("measure tells exchanges, connections and reuse of a real sidecar, per side", async (t) => {
  const url = await origin(t, (_request, response) => response.end("ok"));
  const sidecar = await testSidecar(t, { upstream: url });
  const call = agentCall(sidecar.inbound);
  for (let at = 0; at < 3; at++) assert.equal(await call("GET", "/"), undefined);
  const [downstream, upstream, ...rest] = await measure("orders", sidecar.admin, ["inbound"]);
  assert.deepEqual(rest, []);
  const common = {
    sidecar: "orders",
    direction: "inbound",
    exchanges: 3,
    connections: 1,
    reused: 2,
    open: 1,
    closed: new Map(),
  };
  assert.deepEqual(downstream, { ...common, side: "downstream", stale: undefined });
  assert.deepEqual(upstream, { ...common, side: "upstream", stale: { raced: 0, retried: 0, refused: 0 } });
});

const ROW: Measured = {
  sidecar: "inventory",
  direction: "inbound",
  side: "upstream",
  exchanges: 30,
  connections: 4,
  reused: 26,
  open: 1,
  closed: new Map([
    ["idle_timeout", 2],
    ["peer_reset", 1],
  ]),
  stale: { raced: 1, retried: 2, refused: 3 },
};

test("the table has a column for everything, aligned, and no number where there is nothing to count", () => {
  const never: Measured = {
    ...ROW,
    side: "downstream",
    exchanges: 0,
    connections: 0,
    reused: 0,
    open: 0,
    closed: new Map(),
    stale: undefined,
  };
  assert.deepEqual(table([ROW, never]), [
    "SIDECAR    DIRECTION  SIDE        EXCHANGES  CONNECTIONS  PER CONN.  REUSED  RACED  RETRIED  REFUSED  CLOSED BECAUSE",
    "inventory  inbound    upstream           30            4        7.5  86.7 %      1        2        3  idle_timeout 2, peer_reset 1, still open 1",
    "inventory  inbound    downstream          0            0          -       -      -        -        -  -",
  ]);
});

test("the verdict counts failures and stale races, and says what a short run cannot show", () => {
  const calls = { calls: 30, failures: new Map([["status 502", 3]]) };
  const plainCalls = { calls: 30, failures: new Map([["ECONNRESET", 1]]) };
  assert.deepEqual(verdict({ measured: [ROW], calls, plainCalls, longestPauseMs: 6000 }), [
    "Through the sidecars: 3 of 30 calls failed (status 502 3); 6 stale races.",
    "  inventory announces that it keeps idle connections for 5 s: its sidecar left 2 before that, on its own.",
    "Without a sidecar, the same calls straight to inventory with Node.js's own agent: 1 of 30 calls failed (ECONNRESET 1).",
  ]);
  const none = { calls: 30, failures: new Map<string, number>() };
  const quiet = { ...ROW, closed: new Map<string, number>(), stale: { raced: 1, retried: 0, refused: 0 } };
  assert.deepEqual(verdict({ measured: [quiet], calls: none, plainCalls: none, longestPauseMs: 5000 }), [
    "Through the sidecars: 0 of 30 calls failed; 1 stale race.",
    "Without a sidecar, the same calls straight to inventory with Node.js's own agent: 0 of 30 calls failed.",
    "  It closes in pauses of 6 s, which this run was too short for; --seconds 20 has two of them.",
  ]);
  assert.match(
    verdict({ measured: [quiet], calls: none, plainCalls: none, longestPauseMs: 6000 }).at(-1)!,
    /^ {2}No call fell into the moment of a close this time/,
  );
});

test("a block is drawn over itself, cut to the terminal, and can be taken away", () => {
  const written: string[] = [];
  const terminal = { columns: 6, rows: 4, write: (text: string) => written.push(text) > 0 };
  const block = new Block(terminal);
  block.draw(["abcdefgh", "two"]);
  block.draw(["1", "2", "3", "4", "5"]);
  block.clear();
  block.clear();
  assert.deepEqual(written, [
    "abcde\x1b[K\ntwo\x1b[K\n\x1b[J",
    "\x1b[2A\r1\x1b[K\n2\x1b[K\n3\x1b[K\n\x1b[J",
    "\x1b[3A\r\x1b[J",
    "\x1b[J",
  ]);
});

test("a terminal that reports no size is taken for 80 columns and 24 rows", () => {
  const written: string[] = [];
  const terminal = { columns: 0, rows: 0, write: (text: string) => written.push(text) > 0 };
  new Block(terminal).draw(Array.from({ length: 30 }, () => "x".repeat(100)));
  assert.equal(written[0], `${`${"x".repeat(79)}\x1b[K\n`.repeat(23)}\x1b[J`);
});

test("where to look next is true in the repository and in an installed package", () => {
  const inRepository = next(installation()).join("\n");
  assert.match(inRepository, /docs\/admin\/README\.md: GET \/connections/);
  assert.match(inRepository, /npm start runs sidecar\.json\n.* npm run demo$/);
  const pages = Array.from(inRepository.matchAll(/docs\/[\w/-]+\.md/g), ([page]) => page);
  assert.equal(pages.length, 4);
  for (const page of pages) assert.ok(existsSync(path.join(REPOSITORY, page)), page);

  const installed = { demo: "holdfast demo", run: "holdfast run", docs: "/opt/holdfast/docs" };
  assert.match(
    next(installed).join("\n"),
    / \/opt\/holdfast\/docs\/configuration\.md\n.*holdfast run runs sidecar\.json\n/,
  );
  assert.doesNotMatch(next(installed).join("\n"), /npm/);
  assert.doesNotMatch(next({ ...installed, docs: undefined }).join("\n"), /docs|undefined/);
});

test("progress is a bar that ends full, and phases read as text", () => {
  assert.equal(
    progress(10_040, 20, { kind: "pause", pauseMs: 6000 }),
    "[██████████··········]  10.0 of 20 s  pause of 6 s",
  );
  assert.equal(progress(30_000, 20, { kind: "calls" }), "[████████████████████]  30.0 of 20 s  calls");
  assert.equal(phaseLine(400, { kind: "calls" }), "  0.4 s  calls");
});
