import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import test from "node:test";

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
