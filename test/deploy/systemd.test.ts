import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { sidecarSchema } from "../../src/config/schema.ts";
import { read } from "./files.ts";

const text = read("deploy/systemd/holdfast.service");

/** Every value of a setting, in order. */
function values(name: string): string[] {
  return [...text.matchAll(new RegExp(`^${name}=(.*)$`, "gm"))].map(([, value]) => value ?? "");
}

function value(name: string): string {
  const found = values(name);
  assert.equal(found.length, 1, name);
  return found[0] ?? "";
}

test("sections and settings are well formed", () => {
  const sections: string[] = [];
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [, opened] = /^\[(\w+)\]$/.exec(line) ?? [];
    if (opened !== undefined) sections.push(opened);
    else assert.match(line, /^[A-Z]\w*=/, `in [${sections.at(-1)}]`);
  }
  assert.deepEqual(sections, ["Unit", "Service", "Install"]);
});

test("it checks the configuration, runs the built command, and does not retry a bad configuration", () => {
  const { bin } = JSON.parse(read("package.json"));
  const command = `/usr/bin/node /opt/holdfast/${bin.holdfast}`;
  assert.equal(value("ExecStartPre"), `${command} check -c /etc/holdfast/sidecar.json`);
  assert.equal(value("ExecStart"), `${command} run -c /etc/holdfast/sidecar.json`);
  assert.equal(value("ExecReload"), "/usr/bin/kill -HUP $MAINPID");
  assert.equal(value("Restart"), "on-failure");
  assert.equal(value("RestartPreventExitStatus"), "2");
});

test("SIGTERM drains, with more time than the default deadline", () => {
  assert.equal(value("KillSignal"), "SIGTERM");
  const [, seconds = "0"] = /^(\d+)s$/.exec(value("TimeoutStopSec")) ?? [];
  const { deadline } = sidecarSchema.drain as unknown as { deadline: { default: number } };
  assert.ok(Number(seconds) * 1000 > deadline.default);
});

test("it is hardened", () => {
  const wanted = {
    DynamicUser: "yes",
    NoNewPrivileges: "yes",
    CapabilityBoundingSet: "",
    ProtectSystem: "strict",
    ProtectHome: "yes",
    PrivateTmp: "yes",
    PrivateDevices: "yes",
    RestrictNamespaces: "yes",
    LockPersonality: "yes",
    SystemCallArchitectures: "native",
  };
  for (const [name, expected] of Object.entries(wanted)) assert.equal(value(name), expected, name);
  // It would stop V8's compiler, and so the process.
  assert.deepEqual(values("MemoryDenyWriteExecute"), []);
});

function analyze(): boolean {
  try {
    execFileSync("systemd-analyze", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const skip = !analyze() && "there is no systemd-analyze";

/** The unit with a command that exists here: `verify` looks for it. */
function installed(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "holdfast.service");
  writeFileSync(file, text.replaceAll("/usr/bin/node", process.execPath));
  return file;
}

test("systemd-analyze verify has nothing to say", { skip }, (t) => {
  const { status, stdout, stderr } = spawnSync("systemd-analyze", ["verify", installed(t)], { encoding: "utf8" });
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: "", stderr: "" });
});

test("systemd-analyze security finds little exposure", { skip }, (t) => {
  const found = spawnSync("systemd-analyze", ["security", "--offline=true", "--threshold=20", installed(t)], {
    encoding: "utf8",
  });
  assert.equal(found.status, 0, found.stdout + found.stderr);
});
