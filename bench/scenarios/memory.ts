/**
 * Memory of a process that has nothing to do.
 *
 * @module
 */
import { setTimeout as wait } from "node:timers/promises";
import { residentBytes } from "../measure.ts";
import { ALL_BUT_TRACED } from "../peers/all.ts";
import { holdfastSilent } from "../peers/holdfast.ts";
import { end, run } from "./running.ts";
import type { Sample, Scenario } from "./scenario.ts";

/** Until what is loaded after the start is loaded. */
const AFTER_START_MS = 3000;

export const memory: Scenario = {
  name: "memory",
  title: "Memory of a process that has nothing to do",
  metrics: ["residentBytes"],
  async run(bench) {
    const samples: Sample[] = [];
    for (let round = 1; round <= bench.options.rounds; round++) {
      for (const peer of [...ALL_BUT_TRACED, holdfastSilent].filter((each) => bench.has(each))) {
        const running = await run(bench, peer, bench.origin.http);
        if (running === undefined) continue;
        try {
          await wait(bench.options.quick ? 0 : AFTER_START_MS, undefined, { signal: bench.signal });
          samples.push({ subject: peer.label, round, values: { residentBytes: residentBytes(running.pid) } });
        } finally {
          await end(bench, running);
        }
      }
    }
    return samples;
  },
};
