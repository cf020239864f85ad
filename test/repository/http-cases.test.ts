import assert from "node:assert/strict";
import { test } from "node:test";
import { content, FILES } from "./files.ts";

const CASES = 42;

test("docs/http-cases.md names for each case tests that are there, and that run over both forwarders", () => {
  const rows = Array.from(
    content("docs/http-cases.md").matchAll(/^\| (\d+) \|.*\| ([^|]+) \|$/gm),
    ([, number, tests]) => [Number(number), tests!] as const,
  );
  assert.deepEqual(
    rows.map(([number]) => number),
    Array.from({ length: CASES }, (_, index) => index + 1),
  );
  for (const [number, tests] of rows) {
    const names = Array.from(tests.matchAll(/`([^`]+)`/g), ([, name]) => `test/integration/${name}.test.ts`);
    assert.ok(names.length > 0, `case ${number}`);
    for (const name of names) {
      assert.ok(FILES.includes(name), `case ${number}: there is no ${name}`);
      assert.match(content(name), /of FORWARDERS/, `case ${number}: ${name}`);
    }
  }
});
