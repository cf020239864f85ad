import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import fc from "fast-check";
import { cpuMicros, residentBytes, tree } from "../../bench/measure.ts";
import { compare, REACH } from "../../bench/reach.ts";
import { inOrderOf } from "../../bench/scenarios/rounds.ts";
import type { Metric, Sample, ScenarioResult } from "../../bench/scenarios/scenario.ts";
import { countSpans } from "../../bench/spans.ts";
import { median, percentile } from "../../bench/statistics.ts";
import { summarize } from "../../bench/summary.ts";
import { scenarioTable } from "../../bench/tables.ts";

test("the median has as many values below as above", () => {
  assert.equal(median([]), undefined);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test("a percentile is the smallest value that its share of all does not exceed", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(50), { minLength: 1 }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (values, share) => {
        const sorted = [...values].sort((a, b) => a - b);
        const found = percentile(sorted, share);
        const upTo = (limit: number) => values.filter((value) => value <= limit).length / values.length;
        assert.ok(upTo(found) >= share);
        for (const smaller of values.filter((value) => value < found)) assert.ok(upTo(smaller) < share);
      },
    ),
  );
});

test("in two rounds each subject goes before and after every other", () => {
  const subjects = ["a", "b", "c", "d"];
  for (let round = 1; round < 20; round += 2) {
    const forth = inOrderOf(round, subjects);
    const back = inOrderOf(round + 1, subjects);
    assert.deepEqual([...forth].reverse(), back);
    assert.deepEqual([...forth].sort(), subjects);
  }
  assert.deepEqual(inOrderOf(1, []), []);
});

function scenario(cpu: Readonly<Record<string, readonly number[]>>, metric: Metric = "cpuMicros"): ScenarioResult {
  const samples = Object.entries(cpu).flatMap(([subject, values]) =>
    values.map((value, index): Sample => ({ subject, round: index + 1, values: { [metric]: value } })),
  );
  return { name: "small-64", title: "GET", metrics: [metric], samples };
}

test("ratios are those of one round, and the median of them", () => {
  // In the second round the machine was ten times slower.
  const [holdfast] = summarize(scenario({ holdfast: [20, 190, 21], nginx: [10, 100, 10] }));
  assert.equal(holdfast!.values.cpuMicros, 21);
  assert.equal(holdfast!.toNginx, 2);
  assert.equal(holdfast!.toHaproxy, undefined);
});

test("figures to reach hold up to their limit, and are left out when they were not measured", () => {
  const reached = compare([scenario({ holdfast: [13.5, 20, 5], nginx: [10, 10, 10], haproxy: [9, 10, 5] })]);
  assert.deepEqual(
    reached.map(({ figure, lowest, highest, limit, holds }) => [figure, lowest, highest, limit, holds]),
    [
      [1.35, 0.5, 2, 1.35, true],
      [1.5, 1, 2, 1.35, false],
    ],
  );
  assert.ok(REACH.length > reached.length);
});

test("a table has a row for each subject", () => {
  assert.equal(
    scenarioTable(scenario({ holdfast: [20.04], nginx: [10] })),
    `|          | CPU µs/request | × nginx | × HAProxy |
| -------- | -------------: | ------: | --------: |
| holdfast |           20.0 |    2.00 |           |
| nginx    |           10.0 |    1.00 |           |`,
  );
});

test("spans in OTLP are counted whatever else is in them", () => {
  const field = (number: number, body: Buffer): Buffer => {
    const length: number[] = [];
    let rest = body.length;
    for (; rest > 0x7f; rest >>= 7) length.push((rest & 0x7f) | 0x80);
    return Buffer.concat([Buffer.from([(number << 3) | 2, ...length, rest]), body]);
  };
  fc.assert(
    fc.property(fc.array(fc.array(fc.array(fc.uint8Array({ maxLength: 300 })))), (resources) => {
      const request = resources.map((scopes) => {
        const inside = scopes.map((spans) => {
          const scope = field(1, Buffer.from("scope"));
          return field(2, Buffer.concat([scope, ...spans.map((span) => field(2, Buffer.from(span)))]));
        });
        return field(1, Buffer.concat([field(1, Buffer.from("resource")), ...inside]));
      });
      assert.equal(countSpans(Buffer.concat(request)), resources.flat(2).length);
    }),
  );
});

test("CPU time and memory of a process include what it started", async (t) => {
  const child = spawn("sh", ["-c", 'sh -c "while :; do :; done" & echo; wait'], {
    stdio: ["ignore", "pipe", "ignore"],
    detached: true,
  });
  t.after(() => process.kill(-child.pid!, "SIGKILL"));
  await once(child.stdout, "data");
  const pids = tree(child.pid!);
  assert.equal(pids.length, 2);
  // Only the inner one does anything: its time is the tree's.
  while (cpuMicros(child.pid!) < 100_000) assert.equal(child.exitCode, null);
  assert.ok(cpuMicros(child.pid!) >= cpuMicros(pids[1]!));
  assert.ok(residentBytes(child.pid!) > residentBytes(pids[1]!));
});
