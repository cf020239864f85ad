import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { formula, handshakes, type PageLoad, roundTrips } from "../../bench/lab/arithmetic.ts";
import { fleetChart, pagesChart } from "../../bench/lab/charts.ts";
import { type LabResult, labReport, withReport } from "../../bench/lab/document.ts";
import { FLEET, mostWithin } from "../../bench/lab/fleet.ts";
import { NAT_TIMES } from "../../bench/lab/nat.ts";
import { type Surroundings, whyNot, whyNotHere } from "../../bench/lab/network.ts";
import { partAt, partPath } from "../../bench/lab/page.ts";

const ROOT = path.join(import.meta.dirname, "..", "..");
const MAIN = path.join(ROOT, "bench", "lab", "main.ts");
const skip = (await whyNotHere()) ?? false;

function runLab(t: TestContext) {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-lab-test-"));
  const child = spawn(process.execPath, [MAIN, "--quick"], {
    stdio: ["ignore", "pipe", "pipe"],
    // What the lab leaves behind can be seen.
    env: { ...process.env, TMPDIR: folder },
  });
  const said = Promise.all([text(child.stdout), text(child.stderr)]);
  const exit = once(child, "exit") as Promise<[number | null]>;
  t.after(async () => {
    child.kill("SIGTERM");
    await exit;
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    child,
    async ended() {
      const [code] = await exit;
      const [stdout, stderr] = await said;
      return { code, stdout, stderr };
    },
    /** Files, network namespaces and processes of it that are still there. */
    left(): readonly string[] {
      const namespaces = execFileSync("ip", ["netns", "list"], { encoding: "utf8" }).split("\n");
      return [...readdirSync(folder), ...namespaces.filter((name) => name.includes(`holdfast-lab-${child.pid}-`))];
    },
  };
}

test("over a real slow link every connection is counted, nothing beats its round trips, and nothing is left behind", {
  skip,
}, async (t) => {
  const lab = runLab(t);
  const { code, stdout, stderr } = await lab.ended();
  assert.equal(stderr, "");
  assert.equal(code, 0, stdout);
  const lines = stdout.trim().split("\n");
  assert.equal(lines.filter((line) => line.startsWith("RTT ")).length, 16);
  assert.equal(lines.filter((line) => line.startsWith("NAT, ")).length, 4);
  assert.equal(lines.filter((line) => line.startsWith("Fleet, ")).length, 3);
  assert.deepEqual(lab.left(), []);
});

test("SIGINT ends the lab, its processes, its namespaces and its files", { skip }, async (t) => {
  const lab = runLab(t);
  const ended = lab.ended();
  await once(lab.child.stdout, "data");
  const children = childrenOf(lab.child.pid!);
  // The delay line, the origin and who fetches.
  assert.ok(children.length >= 3, children.join());
  assert.ok(lab.left().length >= 3);
  lab.child.kill("SIGINT");
  const { code, stderr } = await ended;
  assert.equal(stderr, "lab: stopped by SIGINT\n");
  assert.equal(code, 1);
  // Killed they are; to be gone takes them a moment.
  for (const pid of children) while (!isGone(pid)) await sleep(10);
  assert.deepEqual(lab.left(), []);
});

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").split(" ").filter(Boolean).map(Number);
}

/** Killed; perhaps whoever inherited it has not asked how it ended yet. */
function isGone(pid: number): boolean {
  try {
    return /^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return true;
  }
}

test("says what it misses", () => {
  const there: Surroundings = { platform: "linux", userId: 0, has: () => true, canWrite: () => true };
  assert.equal(whyNot(there), undefined);
  assert.match(whyNot({ ...there, platform: "darwin" })!, /^needs Linux/);
  assert.match(whyNot({ ...there, userId: 1000 })!, /^needs root.*sudo -E npm run lab$/);
  assert.match(whyNot({ ...there, has: (name) => name !== "ip" })!, /^needs ip, .*iproute2/);
  assert.match(whyNot({ ...there, has: (name) => name !== "python3" })!, /^needs python3/);
  assert.match(whyNot({ ...there, canWrite: (file) => file !== "/dev/net/tun" })!, /^needs \/dev\/net\/tun/);
});

test("the arithmetic of the books: 31 requests at 100 ms", () => {
  const page = { resources: 30, atOnce: 1 } as const;
  const ms = (load: Omit<PageLoad, "resources" | "atOnce">) => roundTrips({ ...page, ...load }) * 100;
  assert.equal(ms({ keeping: "none", scheme: "http" }), 6200);
  assert.equal(ms({ keeping: "none", scheme: "https" }), 9300);
  assert.equal(ms({ keeping: "cold", scheme: "http" }), 3200);
  assert.equal(ms({ keeping: "cold", scheme: "https" }), 3300);
  assert.equal(ms({ keeping: "warm", scheme: "https" }), 3100);
  assert.equal(formula({ ...page, keeping: "none", scheme: "https" }), "31 × (2 + 1) RTT");
});

test("the arithmetic is what callers come to who fetch one part after the other", () => {
  /** Round trips until everything is there, step by step. */
  function simulated({ resources, atOnce, keeping, scheme }: PageLoad): { trips: number; opened: number } {
    const handshake = scheme === "http" ? 1 : 2;
    let opened = 0;
    const idle: number[] = [];
    if (keeping === "warm") for (let index = 0; index < atOnce; index++) idle.push(0);
    /** @returns when the exchange that begins at this time is over */
    const fetchAt = (now: number): number => {
      const free = idle.findIndex((at) => at <= now);
      let end = now + 1;
      if (free === -1) {
        opened++;
        end += handshake;
      } else {
        idle.splice(free, 1);
      }
      if (keeping !== "none") idle.push(end);
      return end;
    };
    const callers = new Array<number>(atOnce).fill(fetchAt(0));
    let last = callers[0]!;
    for (let left = resources; left > 0; left--) {
      const earliest = Math.min(...callers);
      const end = fetchAt(earliest);
      callers[callers.indexOf(earliest)] = end;
      last = Math.max(last, end);
    }
    return { trips: last, opened };
  }
  const load = fc.record({
    resources: fc.integer({ min: 1, max: 60 }),
    atOnce: fc.integer({ min: 1, max: 8 }),
    keeping: fc.constantFrom("none" as const, "cold" as const, "warm" as const),
    scheme: fc.constantFrom("http" as const, "https" as const),
  });
  fc.assert(
    fc.property(load, (page) => {
      assert.deepEqual({ trips: roundTrips(page), opened: handshakes(page) }, simulated(page), JSON.stringify(page));
    }),
    { seed: 20_261_120, numRuns: 1000 },
  );
});

test("every part of the page fits into the first flight of a connection", () => {
  for (const part of [0, 1, 30]) {
    const content = partAt(partPath(part))!;
    // 10 segments of 1448 bytes, less the head.
    assert.ok(content.length > 1000 && content.length < 10 * 1448 - 500);
  }
  assert.notDeepEqual(partAt(partPath(1)), partAt(partPath(2)));
  assert.equal(partAt("/elsewhere"), undefined);
});

test("the most within a span", () => {
  assert.equal(mostWithin([], 1000), 0);
  assert.equal(mostWithin([0, 999, 1000, 1500, 1999, 3000], 1000), 3);
});

const RESULT: LabResult = {
  day: "2026-01-02",
  machine: "a machine",
  pages: (["direct", "outbound-cold", "outbound-warm", "inbound-cold"] as const).map((way) => ({
    way,
    scheme: "https",
    resources: 30,
    atOnce: 1,
    keeping: way === "direct" ? "none" : way === "outbound-warm" ? "warm" : "cold",
    rttMs: 100,
    measuredMs: 9579,
    expectedMs: 9300,
    handshakes: 31,
  })),
  natTimes: NAT_TIMES,
  nat: [
    { name: "no <TCP> keepalive", expect: "lost", firstMs: 200.4, secondMs: undefined, handshakes: 0, forgotten: 1 },
  ],
  fleetSize: FLEET,
  fleet: [
    {
      name: "all & everybody",
      restart: "sidecars at once",
      kept: 48,
      handshakesAtMs: [10, 20, 600],
      mostInOneSecond: 3,
      mostInOneSecondAfterwards: 0,
      exchanges: 1234,
      failures: { "status 502": 2 },
    },
  ],
};

test("results become a page and charts", () => {
  const report = labReport(RESULT);
  assert.match(report, /\| HTTPS, 1 \+ 30, one at a time \| 9,579 ms \(9,300 ms, \+3\.0 %\) \|/);
  assert.match(report, /no answer in 15 s/);
  assert.match(report, /\| 2 \(status 502\) /);
  const page = "before\n<!-- lab -->\nold\n<!-- /lab -->\nafter\n";
  const written = withReport(page, report);
  assert.ok(written.startsWith("before\n<!-- lab -->\n") && written.endsWith("<!-- /lab -->\nafter\n"));
  assert.ok(written.includes(report) && !written.includes("\nold\n"));
  assert.equal(withReport(written, report), written);
  assert.throws(() => withReport("no marks", report), /<!-- lab -->/);
  for (const svg of [pagesChart(RESULT.pages), fleetChart(RESULT.fleet, FLEET.windowMs)]) {
    assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    assert.doesNotMatch(svg, /NaN|Infinity|undefined|&(?!amp;|lt;|gt;)/);
  }
  assert.match(fleetChart(RESULT.fleet, FLEET.windowMs), />all &amp; everybody</);
});

test("docs/lab.md has a place for the results", () => {
  assert.doesNotThrow(() => withReport(readFileSync(path.join(ROOT, "docs", "lab.md"), "utf8"), "report"));
});
