import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, read, runScript } from "./files.ts";

interface Instruction {
  readonly name: string;
  readonly value: string;
}

function instructions(text: string): Instruction[] {
  const joined = text.replaceAll(/^\s*#.*\n/gm, "").replaceAll(/\\\n/g, " ");
  return joined
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, name = "", value = ""] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
      return { name, value };
    });
}

const all = instructions(read("deploy/Dockerfile"));
const lastFrom = all.findLastIndex(({ name }) => name === "FROM");
const final = all.slice(lastFrom);
const manifest = JSON.parse(read("package.json"));

function last(name: string): string {
  const found = final.findLast((instruction) => instruction.name === name);
  assert.ok(found, `the final stage has no ${name}`);
  return found.value;
}

function copied(): string[] {
  return all
    .filter(({ name, value }) => name === "COPY" && !value.startsWith("--from"))
    .flatMap(({ value }) => value.split(/\s+/).slice(0, -1));
}

test("every file that is copied exists, and .dockerignore lets it in and nothing else", () => {
  const ignore = read("deploy/Dockerfile.dockerignore")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
  assert.equal(ignore[0], "*");
  const letIn = new Set(ignore.slice(1).map((line) => line.replace(/^!/, "")));
  const sources = new Set(copied().map((source) => source.replace(/^\.\//, "")));
  assert.deepEqual(letIn, sources);
  for (const source of sources) assert.ok(existsSync(join(ROOT, source)), source);
});

test("what tsconfig.build.json compiles is copied", () => {
  const { include } = JSON.parse(read("tsconfig.build.json"));
  for (const folder of include) assert.ok(copied().includes(folder), folder);
});

test("every stage is the Node that package.json asks for", () => {
  const needed = /(\d+)/.exec(manifest.engines.node)?.[1];
  const tested = /(\d+)/.exec(manifest.devDependencies.node)?.[1];
  const stages = all.filter(({ name }) => name === "FROM").map(({ value }) => value.split(" ")[0]);
  assert.ok(stages.length > 1);
  for (const image of stages) assert.equal(image, `node:${needed}-slim`);
  assert.equal(tested, needed);
});

test("every script that it runs is in package.json", () => {
  const runs = all.filter(({ name }) => name === "RUN").map(({ value }) => value);
  const scripts = runs.flatMap((value) => [...value.matchAll(/npm run ([\w-]+)/g)].map(([, script]) => script ?? ""));
  assert.deepEqual(scripts, ["build"]);
  for (const script of scripts) assert.ok(script in manifest.scripts);
});

test("it runs the built command with /etc/holdfast/sidecar.json, and not as root", () => {
  assert.deepEqual(JSON.parse(last("ENTRYPOINT")), ["node", manifest.bin.holdfast]);
  assert.deepEqual(JSON.parse(last("CMD")), ["run", "-c", "/etc/holdfast/sidecar.json"]);
  const [uid, gid] = last("USER").split(":").map(Number);
  assert.ok(uid !== undefined && uid > 0 && gid !== undefined && gid > 0);
  const copiedIn = final.filter(({ name }) => name === "COPY").map(({ value }) => value);
  assert.ok(copiedIn.some((value) => /^--from=\w+ \S+\/dist \.\/dist$/.test(value)));
  assert.ok(copiedIn.some((value) => /^--from=\w+ \S+\/node_modules \.\/node_modules$/.test(value)));
});

test("HEALTHCHECK asks /healthz and tells healthy from not", async () => {
  const command = JSON.parse(last("HEALTHCHECK").replace(/^.*?CMD\s+/, ""));
  assert.deepEqual(command.slice(0, 2), ["node", "-e"]);
  assert.deepEqual(await runScript(command[2], 15_000, 200), { exitCode: 0, requests: ["GET /healthz"] });
  assert.deepEqual(await runScript(command[2], 15_000, 503), { exitCode: 1, requests: ["GET /healthz"] });
});
