import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { chainsOf, type Sources } from "../../src/doctor/chain.ts";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { drawn } from "../../src/doctor/draw.ts";
import { doctorDocument } from "../../src/doctor/json.ts";
import { load } from "../../src/load.ts";

const FOLDER = path.join(import.meta.dirname, "chains");
const FILES = readdirSync(FOLDER).filter((file) => file.endsWith(".json"));

interface Expected {
  readonly expect: readonly { readonly rule: string; readonly between: readonly [string, string] }[];
}

/** Files as they are; what the tests expect of a chain is no part of it. */
const sources: Sources = {
  async readJson(file) {
    const json = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
    const { expect: _, ...rest } = json;
    return rest;
  },
  async sidecar(file) {
    return (await load(file, {})).loaded.values;
  },
  running: () => assert.fail("nothing runs"),
  probe: () => assert.fail("nothing is probed"),
};

test("there are enough chains of both kinds", () => {
  assert.ok(FILES.filter((file) => file.startsWith("sound-")).length >= 12);
  assert.ok(FILES.filter((file) => file.startsWith("faulty-")).length >= 12);
  assert.ok(FILES.every((file) => /^(?:sound|faulty)-/.test(file)));
});

for (const file of FILES) {
  test(`${file}: every fault is found, and nothing else`, async () => {
    const name = path.join(FOLDER, file);
    const { expect } = JSON.parse(readFileSync(name, "utf8")) as Expected;
    assert.equal(expect.length === 0, file.startsWith("sound-"));
    const [chain] = await chainsOf([name], sources);
    const diagnosis = diagnose(chain!.hops, {
      rttMs: undefined,
      requestsPerSecond: undefined,
      connections: 10,
      ...chain!.traffic,
    });
    const byRule = (one: { rule: string }, other: { rule: string }): number => one.rule.localeCompare(other.rule);
    assert.deepEqual(
      diagnosis.findings.map(({ rule, between }) => ({ rule, between })).sort(byRule),
      [...expect].sort(byRule),
    );
    assert.deepEqual(diagnosis.unknown, []);
    // Whoever reads it can do something about each of them.
    for (const { fixes, symptom, often, wrong } of diagnosis.findings) {
      assert.ok(fixes.length > 0, wrong);
      for (const { setting } of fixes) assert.doesNotMatch(setting, /\{\w+\}|NaN|Infinity|undefined/);
      for (const text of [symptom, often, wrong]) assert.doesNotMatch(text, /NaN|Infinity|undefined|unknown/);
    }
    const lines = drawn(diagnosis);
    assert.equal(
      lines.filter((line) => line.includes("✗")).length,
      new Set(diagnosis.findings.map(({ link }) => link)).size,
    );
    assert.equal(doctorDocument([diagnosis]).sound, expect.length === 0);
  });
}
