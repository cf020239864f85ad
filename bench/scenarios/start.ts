/**
 * From starting the process to the first answer that comes through it.
 *
 * @module
 */
import { ALL_BUT_TRACED } from "../peers/all.ts";
import { inOrderOf } from "./rounds.ts";
import { end, run } from "./running.ts";
import type { Sample, Scenario } from "./scenario.ts";

/** Short, so there are more of them; the first fills the caches of the disk and is not counted. */
const ROUNDS = 10;

export const start: Scenario = {
  name: "start",
  title: "Start to first answer",
  metrics: ["startMs"],
  async run(bench) {
    const samples: Sample[] = [];
    const peers = ALL_BUT_TRACED.filter((peer) => bench.has(peer));
    const rounds = bench.options.quick ? 1 : ROUNDS;
    for (let round = bench.options.quick ? 1 : 0; round <= rounds; round++) {
      for (const peer of inOrderOf(Math.max(1, round), peers)) {
        const running = await run(bench, peer, bench.origin.http);
        if (running === undefined) continue;
        if (round > 0) samples.push({ subject: peer.label, round, values: { startMs: running.startMs } });
        await end(bench, running);
      }
    }
    return samples;
  },
};
