/**
 * Latency at a rate that leaves every peer room to breathe.
 *
 * @module
 */
import { ALL_PEERS } from "../peers/all.ts";
import { allRounds, measureInTurns, type Subject } from "./rounds.ts";
import { exchangeWith, verify } from "./running.ts";
import type { Scenario } from "./scenario.ts";

const REQUESTS_PER_SECOND = 3000;
const CONNECTIONS = 64;
/** The 99th percentile of one second would be decided by 30 requests. */
const LEAST_SECONDS = 5;
const QUICK_SECONDS = 0.1;

export const fixedRate: Scenario = {
  name: "fixed-rate",
  title: `GET of 100 bytes at ${REQUESTS_PER_SECOND} requests per second, over ${CONNECTIONS} connections`,
  metrics: ["p50Ms", "p99Ms", "cpuMicros", "residentBytes", "lateP99Ms"],
  async run(bench) {
    const subjects = ALL_PEERS.map((peer): Subject => {
      const get = { method: "GET", path: "/small", body: new Uint8Array() } as const;
      return {
        peer,
        label: peer.label,
        verify: ({ port }) => verify(bench, peer.label, exchangeWith(bench, port, get)),
        load: ({ port }, seconds) =>
          bench.load.check({
            kind: "fixed-rate",
            exchange: exchangeWith(bench, port, get),
            connections: CONNECTIONS,
            requestsPerSecond: REQUESTS_PER_SECOND,
            seconds: bench.options.quick ? QUICK_SECONDS : Math.max(seconds, LEAST_SECONDS),
          }),
      };
    });
    return await measureInTurns(bench, subjects, bench.origin.http, allRounds(bench));
  },
};
