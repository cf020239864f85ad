/** What this process holds: for tests that nothing is left behind. */
import { readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { queryObjects } from "node:v8";
import { ProxyConnection } from "../../src/proxy/connection.ts";
import { ProxyExchange } from "../../src/proxy/exchange.ts";

/** Sockets, timers and whatever else keeps this process busy, by kind; on Linux its file descriptors too. */
export type Held = Readonly<Record<string, number>>;

/** What is held now. */
export function held(): Held {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
  if (process.platform === "linux") counts["descriptors"] = readdirSync("/proc/self/fd").length;
  return counts;
}

/** Resolves once no more is held than before: what closes still is given the time for it. */
export async function noMoreHeldThan(before: Held): Promise<void> {
  // The timer of this wait is one that was not there before.
  await sleep(1);
  while (Object.entries(held()).some(([kind, count]) => count > (before[kind] ?? 0))) await sleep(5);
}

/** Exchanges and connections that are in memory after a collection, over or not. What they hold is there with them. */
export function inMemory(): Held {
  return {
    exchanges: queryObjects(ProxyExchange, { format: "count" }),
    connections: queryObjects(ProxyConnection, { format: "count" }),
  };
}

/** Resolves once no more is in memory than before. */
export async function noMoreInMemoryThan(before: Held): Promise<void> {
  while (Object.entries(inMemory()).some(([kind, count]) => count > before[kind]!)) await sleep(20);
}
