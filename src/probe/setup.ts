/**
 * What opening a connection costs.
 *
 * @module
 */
import type { TlsOrigin } from "../proxy/connect.ts";
import type { Pace } from "./pace.ts";
import type { SetupMeasured } from "./result.ts";
import { type Approach, Visit, withoutSession } from "./visit.ts";

/** Connections that are opened to measure. */
const OPENED = 5;

/** {@link SetupMeasured} without what only connections that are kept can show. */
export type Opening = Omit<SetupMeasured, "reusedFirstByteMs" | "savedMs">;

interface Sample {
  readonly dnsMs: number | undefined;
  readonly tcpMs: number;
  readonly tlsMs: number | undefined;
  readonly tlsVersion: string | undefined;
  readonly tlsResumed: boolean | undefined;
  readonly firstByteMs: number;
}

/** Opens connections, with one request on each. */
export async function measureSetup(approach: Approach, pace: Pace): Promise<Opening> {
  const full: Sample[] = [];
  let security: TlsOrigin | undefined;
  for (let index = 0; index < OPENED; index++) {
    security = withoutSession(approach);
    full.push(await sample(approach, pace, security));
  }
  const resumed: Sample[] = [];
  // The last of them holds the session that the peer gave, if it gave one.
  if (security?.session !== undefined) {
    for (let index = 0; index < OPENED; index++) resumed.push(await sample(approach, pace, security));
  }
  const really = resumed.filter(({ tlsResumed }) => tlsResumed === true);
  return {
    dnsMs: median(full.map(({ dnsMs }) => dnsMs)),
    tcpMs: median(full.map(({ tcpMs }) => tcpMs)) ?? 0,
    tlsMs: median(full.map(({ tlsMs }) => tlsMs)),
    tlsVersion: full[0]?.tlsVersion ?? null,
    tlsResumes: approach.context === undefined ? null : really.length > 0,
    tlsResumedMs: median(really.map(({ tlsMs }) => tlsMs)),
    firstByteMs: median(full.map(({ firstByteMs }) => firstByteMs)) ?? 0,
  };
}

async function sample(approach: Approach, pace: Pace, security: TlsOrigin | undefined): Promise<Sample> {
  await pace.turn(approach.signal);
  const visit = await Visit.open(approach, security);
  try {
    const { firstByteMs } = await visit.request();
    const { dnsMs, connectMs = 0, tlsMs, tlsVersion, tlsResumed } = visit.setup;
    return { dnsMs, tcpMs: connectMs, tlsMs, tlsVersion, tlsResumed, firstByteMs };
  } finally {
    visit.close();
  }
}

/** With what is saved by not opening. */
export function withReuse(opening: Opening, reusedFirstByteMs: readonly number[]): SetupMeasured {
  const reused = median(reusedFirstByteMs);
  const { dnsMs, tcpMs, tlsMs, firstByteMs } = opening;
  const savedMs = reused === null ? null : (dnsMs ?? 0) + tcpMs + (tlsMs ?? 0) + firstByteMs - reused;
  return { ...opening, reusedFirstByteMs: reused, savedMs: savedMs === null ? null : Math.max(0, savedMs) };
}

/** The middle one; `null` of none. */
export function median(values: readonly (number | undefined)[]): number | null {
  const sorted = values.filter((value) => value !== undefined).sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return null;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
