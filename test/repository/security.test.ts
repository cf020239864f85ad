import assert from "node:assert/strict";
import { test } from "node:test";
import { content, FILES } from "./files.ts";

interface Row {
  readonly promise: string;
  readonly tests: readonly { readonly file: string; readonly title: string }[];
}

/** Every row of a table in docs/security.md whose last column is `Test`. */
function rows(): Row[] {
  const found: Row[] = [];
  let hasTests = false;
  for (const line of content("docs/security.md").split("\n")) {
    if (!line.startsWith("| ")) {
      hasTests = false;
      continue;
    }
    const cells = line.split("|").map((cell) => cell.trim());
    const last = cells.at(-2) ?? "";
    if (last === "Test") hasTests = true;
    else if (hasTests && last !== "---")
      found.push({ promise: cells[1] ?? "", tests: last.split("<br>").map(namedTest) });
  }
  return found;
}

function namedTest(text: string): Row["tests"][number] {
  const [, file = "", title = ""] = /^`(test\/[\w./-]+\.test\.ts)`: (.+)$/.exec(text) ?? [];
  return { file, title };
}

/** Titles of a file's tests as they are written, what stands in `${}` included. */
function titles(file: string): string[] {
  const calls = content(file).matchAll(/\btest\(\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|`((?:[^`\\]|\\.)*)`)/g);
  return Array.from(calls, ([, double, single, template]) => double ?? single ?? template ?? "");
}

test("every promise of docs/security.md names a test that is there", () => {
  const promises = rows();
  assert.ok(promises.length > 50);
  for (const { promise, tests } of promises) {
    assert.notEqual(promise, "");
    for (const { file, title } of tests) {
      assert.ok(title.length > 10, `"${promise}" names no test`);
      assert.ok(FILES.includes(file), `"${promise}": there is no ${file}`);
      assert.ok(
        titles(file).some((written) => written.includes(title)),
        `"${promise}": ${file} has no test "${title}"`,
      );
    }
  }
});

test("SECURITY.md leads to the promises", () => {
  assert.match(content("SECURITY.md"), /\]\(docs\/security\.md\)/);
});
