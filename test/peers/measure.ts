/** Probing a real server. */
import assert from "node:assert/strict";
import { Pace } from "../../src/probe/pace.ts";
import { parsePeer } from "../../src/probe/peer.ts";
import { probe } from "../../src/probe/probe.ts";
import type { ProbeResult } from "../../src/probe/result.ts";

/**
 * Probes it.
 *
 * @param maxRequests - after how many requests on one connection it is enough
 * @param rate - connections and requests a second
 */
export async function measured(url: string, maxWaitMs: number, maxRequests: number, rate = 1000): Promise<ProbeResult> {
  const parsed = parsePeer(url);
  assert.ok("peer" in parsed);
  return await probe(parsed.peer, {
    method: "GET",
    maxWaitMs,
    maxRequests,
    connections: 3,
    timeoutMs: 30_000,
    ca: undefined,
    pace: new Pace(rate),
    signal: new AbortController().signal,
    progress: () => {},
  });
}
