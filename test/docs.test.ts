import assert from "node:assert/strict";
import { test } from "node:test";
import { pages } from "../docs/generate.ts";

test("the option tables of the docs are those of the schemas (npm run docs writes them)", async () => {
  const all = await pages();
  assert.ok(all.length >= 6);
  for (const { file, is, shouldBe } of all) assert.equal(is, shouldBe, file);
});
