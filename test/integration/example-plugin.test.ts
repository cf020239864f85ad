/**
 * What a plugin author and a user of the plugin do, from outside the repository: the example plugin is built against the
 * packed Holdfast, tested, packed, installed beside it, and runs, by path and as a package.
 */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, type TestContext, test } from "node:test";
import { promisify } from "node:util";

const execute = promisify(execFile);
const ROOT = path.join(import.meta.dirname, "..", "..");
const EXAMPLE = path.join(ROOT, "test", "fixtures", "example-plugin");

const folder = mkdtempSync(path.join(tmpdir(), "holdfast-example-"));
/** The user's folder, with sidecar.json in it. */
const site = path.join(folder, "site");
/** The author's folder, inside the user's: the plugin is loaded by path from there. */
const author = path.join(site, "plugins", "request-budget");
const holdfast = path.join(site, "node_modules", "holdfast", "dist", "src", "main.js");

/** Runs npm on this Node.js. What it has in its cache it does not ask the registry for. */
async function npm(cwd: string, ...args: string[]): Promise<string> {
  const bins = [path.dirname(process.execPath), path.join(ROOT, "node_modules", ".bin"), process.env["PATH"]];
  const env = { ...process.env, PATH: bins.join(path.delimiter), NODE_TEST_CONTEXT: undefined };
  const options = { cwd, env, maxBuffer: 2 ** 24 };
  const { stdout } = await execute("npm", [...args, "--prefer-offline", "--no-audit", "--no-fund"], options);
  return stdout;
}

/** Builds and packs Holdfast in a folder of its own, so that nothing in the repository changes. */
async function packHoldfast(): Promise<string> {
  const built = path.join(folder, "holdfast");
  const description = JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8")) as { files: string[] };
  const tsc = path.join(ROOT, "node_modules", ".bin", "tsc");
  await execute(tsc, ["-p", "tsconfig.build.json", "--outDir", path.join(built, "dist")], { cwd: ROOT });
  for (const file of ["package.json", ...description.files.filter((each) => each !== "dist")]) {
    cpSync(path.join(ROOT, file), path.join(built, file), { recursive: true });
  }
  const packed = await npm(built, "pack", "--ignore-scripts", "--silent", "--pack-destination", folder);
  return path.join(folder, packed.trim());
}

before(async () => {
  mkdirSync(site);
  writeFileSync(path.join(site, "package.json"), '{ "name": "site", "private": true }');
  await npm(site, "install", "--ignore-scripts", await packHoldfast());
  cpSync(EXAMPLE, author, { recursive: true });
  await npm(author, "run", "build");
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Writes a sidecar.json that uses the plugin, and returns its path. */
function configuration(name: string, use: string, upstream: string): string {
  const file = path.join(site, name);
  const config = {
    service: "site",
    inbound: { listen: "127.0.0.1:0", upstream },
    admin: { listen: "127.0.0.1:0" },
    plugins: [{ use, config: { requests: 2, per: "1h" }, onError: "fail" }, { use: "keep-alive" }],
    telemetry: { traces: { exporters: ["none"] } },
    drain: { idleGrace: "0s" },
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

/** `holdfast check` and `holdfast run` on plain Node.js, and three requests through it. */
async function runsWith(t: TestContext, use: string): Promise<void> {
  const origin = http.createServer((_request, response) => response.end("ok"));
  origin.listen(0, "127.0.0.1");
  await once(origin, "listening");
  t.after(() => origin.close());
  const upstream = `http://127.0.0.1:${(origin.address() as AddressInfo).port}`;
  const file = configuration(`${use.replaceAll(/\W/g, "-")}.json`, use, upstream);

  const { stdout } = await execute(process.execPath, [holdfast, "check", "-c", file], { cwd: "/" });
  assert.match(stdout, /plugins\[0\]\.config\.requests +2 +file/);
  assert.match(stdout, /plugins\[0\]\.config\.per +"1h" +file/);

  const child = spawn(process.execPath, [holdfast, "run", "-c", file], {
    cwd: "/",
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const exited = once(child, "exit");
  const lines: Record<string, unknown>[] = [];
  let port: number | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const entry = JSON.parse(line) as { addresses?: { inbound: { port: number } }; msg?: string };
    lines.push(entry);
    if (port === undefined && entry.addresses !== undefined) {
      port = entry.addresses.inbound.port;
      const statuses: number[] = [];
      for (let request = 0; request < 3; request++) {
        const response = await fetch(`http://127.0.0.1:${port}/`);
        await response.text();
        statuses.push(response.status);
      }
      assert.deepEqual(statuses, [200, 200, 429]);
      child.kill("SIGTERM");
    }
  }
  assert.deepEqual(await exited, [0, null]);
  assert.ok(lines.some((line) => line["plugin"] === "request-budget" && line["msg"] === "request budget is spent"));
}

test("its own tests pass, through a real sidecar of the installed package", async () => {
  assert.match(await npm(author, "test"), /\bpass 2\n/);
});

test("it runs when it is loaded by path", async (t) => {
  await runsWith(t, "./plugins/request-budget/dist/index.js");
});

test("it runs when it is installed as a package", async (t) => {
  const packed = await npm(author, "pack", "--ignore-scripts", "--silent", "--pack-destination", folder);
  const contents = await execute("tar", ["-tzf", path.join(folder, packed.trim())]);
  assert.deepEqual(contents.stdout.trim().split("\n").sort(), [
    "package/README.md",
    "package/dist/index.d.ts",
    "package/dist/index.js",
    "package/package.json",
  ]);
  await npm(site, "install", "--ignore-scripts", path.join(folder, packed.trim()));
  await runsWith(t, "holdfast-plugin-request-budget");
});

test("its types are those of the installed Holdfast", async () => {
  const file = path.join(author, "src", "wrong.ts");
  writeFileSync(
    file,
    `import plugin from "./index.ts";
     type Config = Parameters<typeof plugin.setup>[0]["config"];
     export const right: Config = { requests: 1, per: 1000 };
     export const wrong: Config = { requests: "1", per: 1000 };`,
  );
  await assert.rejects(npm(author, "run", "build"), (error: { readonly stdout?: string }) => {
    assert.match(error.stdout ?? "", /wrong\.ts\(4,\d+\): error TS2322/);
    assert.doesNotMatch(error.stdout ?? "", /\(3,\d+\)/);
    return true;
  });
});
