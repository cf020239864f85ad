import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import test from "node:test";
import { folderWith } from "../config/folder.ts";
import { runSidecar } from "./running.ts";

const MODULE = new URL("../../src/commands/frugal-start.ts", import.meta.url);

/** In a process of its own: whether a hot function is optimized before and after everything is loaded. */
function optimized(options: readonly string[]): { starting: boolean; afterwards: boolean } {
  const script = `
    const { startFrugally } = await import(${JSON.stringify(MODULE.href)});
    const isOptimized = (hot) => %ActiveTierIsMaglev(hot) || %ActiveTierIsTurbofan(hot);
    const heat = (hot, isEnough) => {
      let sum = 0;
      for (let round = 0; round < 10_000 && !isEnough(); round++) for (let n = 0; n < 1000; n++) sum += hot(n);
      return sum;
    };
    const atEase = startFrugally(${JSON.stringify(options)});
    const before = (n) => (n * 7) % 13;
    heat(before, () => isOptimized(before));
    const starting = isOptimized(before);
    atEase();
    const after = (n) => (n * 5) % 11;
    heat(after, () => isOptimized(after));
    console.log(JSON.stringify({ starting, afterwards: isOptimized(after) }));
  `;
  const args = ["--allow-natives-syntax", "--no-concurrent-recompilation", "--input-type=module", "-e", script];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
}

test("V8 optimizes nothing while things are loaded, and everything afterwards", () => {
  assert.deepEqual(optimized(["--max-old-space-size=100 --no-optimize-for-size"]), {
    starting: false,
    afterwards: true,
  });
});

test("what the user tells V8 is left alone", () => {
  for (const option of ["--semi-space-growth-factor=4", "--require ./a.cjs --no_maglev", "--opt"]) {
    assert.deepEqual(optimized([option]), { starting: true, afterwards: true }, option);
  }
});

/** Says on standard error, at SIGUSR2, which public modules of Node.js were loaded since the first flag was set. */
const LOADED_LATE = `
  const v8 = require("node:v8");
  const { setFlagsFromString } = v8;
  let before;
  v8.setFlagsFromString = (flag) => {
    before ??= new Set(process.moduleLoadList);
    setFlagsFromString(flag);
  };
  require("node:module").syncBuiltinESMExports();
  process.on("SIGUSR2", () => {
    const late = process.moduleLoadList.filter((name) => /^NativeModule (?!internal)/.test(name) && !before.has(name));
    process.stderr.write(JSON.stringify(late.map((name) => name.split(" ")[1])) + "\\n");
  });
`;

test("no module of Node.js is left to be compiled anew under other flags", async (t) => {
  const preload = path.join(folderWith(t, { "preload.cjs": LOADED_LATE }), "preload.cjs");
  const { program, signal } = await runSidecar(
    t,
    {
      inbound: { listen: "127.0.0.1:0", upstream: "http://127.0.0.1:1" },
      outbound: { listen: "127.0.0.1:0" },
      plugins: ["keep-alive", "tcp-keepalive", "idle-timeout", "connection-limits"].map((use) => ({ use })),
      telemetry: { traces: { exporters: ["none"] } },
    },
    { env: { NODE_OPTIONS: `--require ${preload}` } },
  );
  const said = once(program.process.stderr, "data");
  signal("SIGUSR2");
  assert.deepEqual(JSON.parse(String(await said)), []);
});
