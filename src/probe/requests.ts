/**
 * How many requests one connection carries.
 *
 * @module
 */
import type { Pace } from "./pace.ts";
import type { RequestsMeasured } from "./result.ts";
import { type Approach, Visit } from "./visit.ts";

/** What was found out on the way. */
export interface Counted extends RequestsMeasured {
  /** Time to the first byte of each response but the first, in milliseconds. */
  readonly reusedFirstByteMs: readonly number[];
}

/**
 * Sends requests on one connection until the peer ends it.
 *
 * @param most - after how many it is enough
 * @param progress - called after each response with their number
 */
export async function countRequests(
  approach: Approach,
  pace: Pace,
  most: number,
  progress: (answered: number) => void,
): Promise<Counted> {
  const { signal } = approach;
  await pace.turn(signal);
  const visit = await Visit.open(approach);
  const reusedFirstByteMs: number[] = [];
  let answered = 0;
  const counted = (end: RequestsMeasured["end"]): Counted => ({ answered, end, reusedFirstByteMs });
  try {
    while (answered < most) {
      if (answered > 0) await pace.turn(signal);
      if (visit.isOver) return counted("unannounced");
      try {
        const { status, ends, firstByteMs } = await visit.request();
        answered++;
        if (answered > 1) reusedFirstByteMs.push(firstByteMs);
        progress(answered);
        if (ends) return counted("announced");
        // It asks not to be asked so often, or cannot answer any more.
        if (answered > 1 && (status === 429 || status === 503)) return counted("refused");
      } catch (error) {
        signal.throwIfAborted();
        if (answered === 0 || !visit.isOver) throw error;
        return counted("unannounced");
      }
    }
    return counted("not reached");
  } finally {
    visit.close();
  }
}
