import assert from "node:assert/strict";
import { appendFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { watchFiles } from "../../src/config/watch-files.ts";
import { folderWith } from "./folder.ts";

test("a change is told though something beside the file is written all the time", async (t) => {
  const folder = folderWith(t, { "sidecar.json": "{}", "busy.log": "" });
  const told = Promise.withResolvers<void>();
  const end = watchFiles([path.join(folder, "sidecar.json")], () => told.resolve());
  t.after(end);
  const busy = setInterval(() => appendFileSync(path.join(folder, "busy.log"), "line\n"), 20);
  t.after(() => clearInterval(busy));
  writeFileSync(path.join(folder, "sidecar.json"), "[]");
  await told.promise;
});

test("nothing is told once it has ended", async (t) => {
  const folder = folderWith(t, { "sidecar.json": "{}" });
  let told = 0;
  watchFiles([path.join(folder, "sidecar.json")], () => told++)();
  const other = Promise.withResolvers<void>();
  t.after(watchFiles([path.join(folder, "sidecar.json")], () => other.resolve()));
  writeFileSync(path.join(folder, "sidecar.json"), "[]");
  await other.promise;
  assert.equal(told, 0);
});
