import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { accessSync, constants, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { content, FILES, ROOT } from "./files.ts";

const execute = promisify(execFile);

interface Description {
  readonly version: string;
  readonly engines: { readonly node: string };
  readonly bin: Readonly<Record<string, string>>;
  readonly files: readonly string[];
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly scripts: Readonly<Record<string, string>>;
}

const DESCRIPTION = JSON.parse(content("package.json")) as Description;

/** What `npm run build` makes, in a folder of its own beside what the package has besides it. */
const built = mkdtempSync(path.join(tmpdir(), "holdfast-package-"));
const MAIN = path.join(built, "dist", "src", "main.js");

before(async () => {
  assert.match(DESCRIPTION.scripts["build"]!, /&& tsc -p tsconfig\.build\.json$/);
  const tsc = path.join(ROOT, "node_modules", ".bin", "tsc");
  await execute(tsc, ["-p", "tsconfig.build.json", "--outDir", path.join(built, "dist")], { cwd: ROOT });
  for (const file of ["package.json", "sidecar.json", "docs"]) {
    cpSync(path.join(ROOT, file), path.join(built, file), { recursive: true });
  }
  symlinkSync(path.join(ROOT, "node_modules"), path.join(built, "node_modules"));
});
after(() => rmSync(built, { recursive: true, force: true }));

test("everything that package.json promises is there after the build", () => {
  for (const file of DESCRIPTION.files) {
    const isThere =
      existsSync(path.join(built, file)) || FILES.some((each) => each === file || each.startsWith(`${file}/`));
    assert.ok(isThere, `files: ${file}`);
  }
  const targets = Object.values(DESCRIPTION.exports).flatMap((target) =>
    typeof target === "string" ? [target] : Object.values(target),
  );
  assert.ok(targets.length >= 5);
  for (const target of [...targets, ...Object.values(DESCRIPTION.bin)]) {
    assert.ok(existsSync(path.join(built, target)), target);
  }
  assert.match(readFileSync(MAIN, "utf8"), /^#!\/usr\/bin\/env node\n/);
});

test("what is exported can be imported, by its name, from JavaScript", async () => {
  const source = `
    import { CLOSE_REASONS, definePlugin } from "holdfast/plugin";
    import { startTestSidecar } from "holdfast/testing";
    console.log(CLOSE_REASONS.length > 5, typeof definePlugin, typeof startTestSidecar);`;
  const { stdout } = await execute(process.execPath, ["--input-type=module", "--eval", source], { cwd: built });
  assert.equal(stdout, "true function function\n");
});

test("the built command tells its version, checks the configuration and runs the demo", async () => {
  const version = await execute(process.execPath, [MAIN, "--version"]);
  assert.equal(version.stdout, `${DESCRIPTION.version}\n`);
  const check = await execute(process.execPath, [MAIN, "check"], { cwd: built });
  assert.match(check.stdout, /sidecar\.json: no faults\n$/);
  const demo = await execute(process.execPath, [MAIN, "demo", "--seconds", "1"], { cwd: built });
  assert.match(demo.stdout, /^Through the sidecars: 0 of \d+ calls failed/m);
  assert.match(demo.stdout, /holdfast run runs sidecar\.json\n.* holdfast demo\n$/);
  assert.ok(
    demo.stdout.includes(`  its configuration  ${path.join(built, "docs", "configuration.md")}\n`),
    demo.stdout,
  );
});

/** Paths of every Node.js in `PATH`. */
function installed(): string[] {
  const folders = [...process.env["PATH"]!.split(path.delimiter), "/usr/local/bin", "/usr/bin"];
  const programs = folders.map((folder) => path.join(folder, "node")).filter(isProgram);
  return [...new Set(programs)];
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

test("an older Node.js says in one line what is needed, and ends with 1", async (t) => {
  let tried = 0;
  for (const node of installed()) {
    const { stdout: version } = await execute(node, ["--version"]);
    const [major = 0, minor = 0] = version.slice(1).split(".").map(Number);
    if (major > 26 || (major === 26 && minor >= 4)) continue;
    tried++;
    for (const args of [["--version"], ["run"], ["demo"]]) {
      await assert.rejects(execute(node, [MAIN, ...args]), {
        code: 1,
        stdout: "",
        stderr: `holdfast needs Node.js 26.4 or newer; this is ${version}`,
      });
    }
  }
  if (tried === 0) t.skip("no Node.js older than 26.4 is installed");
});

test("npm scripts run on the Node.js that the package is written for", async () => {
  const { stdout } = await execute("npm", ["exec", "--no", "--", "node", "--version"], { cwd: ROOT });
  const [major = 0, minor = 0] = stdout.slice(1).split(".").map(Number);
  assert.ok(major > 26 || (major === 26 && minor >= 4), stdout);
  assert.equal(DESCRIPTION.engines.node, ">=26.4");
});
