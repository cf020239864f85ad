/**
 * Whether a peer keeps connections.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pace } from "./pace.ts";
import type { Kept } from "./result.ts";
import { type Answer, type Approach, type Ask, Visit } from "./visit.ts";

/** How long a peer may take to close a connection after it said that it would. */
const CLOSE_MS = 1000;

/** What became of one connection. */
export interface Persisted {
  readonly kept: Kept;
  /** Its first response. */
  readonly answer: Answer;
  readonly address: string | undefined;
}

/**
 * Asks once, and once more on the same connection if the peer keeps it.
 *
 * @throws HoldfastError when there is no first response
 */
export async function measurePersistence(approach: Approach, pace: Pace, ask: Ask): Promise<Persisted> {
  const { signal } = approach;
  await pace.turn(signal);
  const visit = await Visit.open(approach);
  try {
    const answer = await visit.request(ask);
    const found = (kept: Kept): Persisted => ({ kept, answer, address: visit.address });
    // Who was asked to close need not say that it will.
    if (answer.ends || ask.connection === "close") {
      await Promise.race([visit.ended, sleep(CLOSE_MS, undefined, { signal })]);
      return found(visit.isOver ? "closed" : "kept");
    }
    await pace.turn(signal);
    try {
      await visit.request(ask);
      return found("kept");
    } catch (error) {
      signal.throwIfAborted();
      if (!visit.isOver) throw error;
      return found("broken");
    }
  } finally {
    visit.close();
  }
}
