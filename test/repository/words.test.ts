import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { code, content, FILES, matching } from "./files.ts";

/** Lines with a match, as `file:line: text`. */
function found(files: readonly string[], pattern: RegExp, text: (file: string) => string): string[] {
  return files.flatMap((file) =>
    text(file)
      .split("\n")
      .flatMap((line, at) => (pattern.test(line) ? [`${file}:${at + 1}: ${line.trim()}`] : [])),
  );
}

test("nothing is left to be done later", () => {
  const texts = FILES.filter((file) => file !== "package-lock.json" && !file.endsWith("words.test.ts"));
  assert.deepEqual(found(texts, /\b(?:TODO|FIXME|XXX|HACK)\b/, content), []);
});

test("code names things by the words of the design", () => {
  const sources = matching(/^(?:src|plugins)\/.*\.ts$/);
  assert.ok(sources.length > 50);
  assert.deepEqual(found(sources, /\b(?:ctx|proxyReq|proxyRes)\b(?!")|\w(?:Manager|Helper|Utils?)\b/, code), []);
  const names = sources.filter((file) => /manager|helper|utils?\b/.test(path.basename(file)));
  assert.deepEqual(names, []);
});

test("no check is turned off in the sources", () => {
  const sources = matching(/^(?:src|plugins|test|bench)\/.*\.ts$/);
  const pattern = /@ts-(?:ignore|nocheck|expect-error)|\bas unknown as any\b/;
  assert.deepEqual(
    found(
      sources.filter((file) => !file.endsWith("words.test.ts")),
      pattern,
      content,
    ),
    [],
  );
});

test("no test is switched off or on alone", () => {
  const tests = matching(/^test\/.*\.ts$/);
  assert.deepEqual(found(tests, /\b(?:test|describe|it)\.(?:only|todo|skip)\(|\bonly: true\b/, code), []);
});
