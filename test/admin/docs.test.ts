import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { adminRoutes } from "../../src/admin/routes.ts";
import { MemorySidecar, startHarness } from "./harness.ts";

const FOLDER = new URL("../../docs/admin/", import.meta.url);
const log = { debug() {}, info() {}, warn() {}, error() {} };
const routes = adminRoutes(new MemorySidecar(), log);

function page(path: string): string {
  return `${path.slice(1).replaceAll("/", "-").replaceAll(/[{}]/g, "")}.md`;
}

/** Lines that a reader would paste into a shell. */
function commands(text: string): string[] {
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block = ""]) => block.trim().split("\n"));
}

test("every route has a page that names it, and is in the index; no page is left over", () => {
  const index = readFileSync(new URL("README.md", FOLDER), "utf8");
  for (const { method, path } of routes) {
    const text = readFileSync(new URL(page(path), FOLDER), "utf8");
    assert.ok(text.includes(`\`${method} ${path}\``), `${page(path)} lacks ${method} ${path}`);
    assert.ok(index.includes(`](${page(path)})`), `the index lacks ${page(path)}`);
  }
  const wanted = new Set([...routes.map(({ path }) => page(path)), "README.md"]);
  assert.deepEqual(new Set(readdirSync(FOLDER)), wanted);
});

function hasCurl(): boolean {
  try {
    execFileSync("curl", ["--version"]);
    return true;
  } catch {
    return false;
  }
}

test("every curl line of the pages works, and every route has one", {
  skip: !hasCurl() && "there is no curl",
}, async (t) => {
  const { address, sidecar } = await startHarness(t);
  sidecar.metrics = async () => ({ contentType: "text/plain", body: "up 1\n" });
  const run = promisify(execFile);
  for (const { method, path } of routes) {
    const example = path.replace("{name}", "inventory");
    const lines = commands(readFileSync(new URL(page(path), FOLDER), "utf8"));
    const mine = lines.filter((line) => (method === "GET" ? !line.includes("-X") : line.includes(`-X ${method}`)));
    assert.equal(mine.length, 1, `${method} ${path}`);
    const [line = ""] = mine;
    assert.match(line, new RegExp(`^curl .*http://127\\.0\\.0\\.1:15000${example}(?![\\w/-])`));
    // Drained, /readyz would rightly fail.
    sidecar.state = "running";
    const here = line.replace("127.0.0.1:15000", `${address.host}:${address.port}`);
    const { stdout } = await run("sh", ["-c", here.replace("curl", "curl --fail-with-body --silent --show-error")]);
    assert.notEqual(stdout, "");
  }
});
