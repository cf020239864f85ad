/**
 * What the life of an upstream connection says of its peer, told to what learns from it.
 *
 * @module
 */
import { possibleDelayMs, readClock } from "./clock.ts";
import type { ProxyConnection } from "./connection.ts";

/** A request that fails later than this after it was sent, in milliseconds and beyond the round trip, met no closing connection. */
const RACE_LASTS_MS = 50;

/** The peer closed the connection while it carried nothing. */
export function closedIdle(connection: ProxyConnection): void {
  const { peer, exchanges } = connection;
  // What it does with a connection that never carried anything is another limit.
  if (peer === undefined || exchanges === 0) return;
  const atMs = readClock();
  const idleMs = atMs - connection.idleSinceMs;
  peer.ended({ exchanges, ageMs: atMs - connection.openedAtMs, idleMs, announced: false, atMs });
  peer.closed({ openMs: Math.max(0, idleMs - possibleDelayMs()), closedMs: idleMs + connection.idleLateMs, atMs });
}

/**
 * A request on a reused connection found it closed: it was open when the request was sent, and closed before that
 * arrived.
 *
 * @param idleMs - how long it had been idle then
 * @param tookMs - from then until the failure was seen
 */
export function raced(connection: ProxyConnection, idleMs: number, tookMs: number): void {
  const { peer } = connection;
  if (peer === undefined || tookMs > 2 * peer.roundTripMs + RACE_LASTS_MS) return;
  const atMs = readClock();
  const exchanges = connection.exchanges - 1;
  peer.ended({ exchanges, ageMs: atMs - connection.openedAtMs, idleMs, announced: false, atMs });
  const closedMs = idleMs + connection.idleLateMs + peer.roundTripMs;
  peer.closed({ openMs: Math.max(0, idleMs - possibleDelayMs()), closedMs, atMs });
}

/** A response said `Connection: close`, unasked. */
export function announcedClose(connection: ProxyConnection): void {
  const { exchanges, openedAtMs } = connection;
  const atMs = readClock();
  connection.peer?.ended({ exchanges, ageMs: atMs - openedAtMs, idleMs: 0, announced: true, atMs });
}
