/**
 * Memory that idle connections take. Once per peer: memory hardly varies.
 *
 * @module
 */
import { setTimeout as wait } from "node:timers/promises";
import { residentBytes } from "../measure.ts";
import { ALL_BUT_TRACED } from "../peers/all.ts";
import type { Peer } from "../peers/peer.ts";
import { end, exchangeWith, noteErrors, run } from "./running.ts";
import type { Bench, Sample, Scenario } from "./scenario.ts";

const CONNECTIONS = 10_000;
const QUICK_CONNECTIONS = 200;
/** Until what is loaded after the start is loaded. */
const AFTER_START_MS = 3000;
/** Until what opening the connections left behind is collected. */
const AFTER_OPENING_MS = 10_000;

export const idle: Scenario = {
  name: "idle",
  title: `${CONNECTIONS.toLocaleString("en")} idle connections, each after one exchange`,
  metrics: ["bytesPerConnection", "residentBytes"],
  async run(bench) {
    const samples: Sample[] = [];
    for (const peer of ALL_BUT_TRACED) {
      const sample = bench.has(peer) ? await measure(bench, peer) : undefined;
      if (sample !== undefined) samples.push(sample);
    }
    return samples;
  },
};

async function measure(bench: Bench, peer: Peer): Promise<Sample | undefined> {
  const { options, load, signal } = bench;
  const connections = options.quick ? QUICK_CONNECTIONS : CONNECTIONS;
  const settle = (ms: number) => wait(options.quick ? 0 : ms, undefined, { signal });
  const running = await run(bench, peer, bench.origin.http);
  if (running === undefined) return undefined;
  try {
    await settle(AFTER_START_MS);
    const empty = residentBytes(running.pid);
    const exchange = exchangeWith(bench, running.port, { method: "GET", path: "/small", body: new Uint8Array() });
    const open = await load.openIdle({ kind: "idle", exchange, connections });
    await settle(AFTER_OPENING_MS);
    const full = residentBytes(running.pid);
    const report = await open.close();
    noteErrors(bench, peer.label, report);
    return {
      subject: peer.label,
      round: 1,
      values: { bytesPerConnection: (full - empty) / connections, residentBytes: full },
    };
  } finally {
    await end(bench, running);
  }
}
