import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, read } from "./files.ts";

const text = read("docs/deploy.md");

test("every file that docs/deploy.md names or links to exists", () => {
  const named = [...text.matchAll(/\bdeploy\/[\w./-]*\w/g)].map(([path]) => path);
  const linked = [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, path]) => join("docs", path ?? ""));
  assert.ok(named.length > 3 && linked.length > 0);
  for (const path of [...named, ...linked]) assert.ok(existsSync(join(ROOT, path)), path);
});

test("ports, user and image that it names are those of the files", () => {
  const [, user] = /as user (\d+)/.exec(text) ?? [];
  assert.match(read("deploy/Dockerfile"), new RegExp(`^USER ${user}:`, "m"));
  const [, tag] = /-t (holdfast:\S+)/.exec(text) ?? [];
  for (const file of ["deploy/compose.yaml", "deploy/kubernetes/deployment.yaml"]) {
    assert.match(read(file), new RegExp(`image: ${tag}$`, "m"), file);
  }
  assert.equal(tag, `holdfast:${JSON.parse(read("package.json")).version}`);
});
