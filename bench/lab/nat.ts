/**
 * A NAT that forgets idle connections and tells nobody.
 *
 * @module
 */
import { type Place, type PluginEntries, startFetcher, startOrigin, startOutbound } from "./hosts.ts";
import { makeNetwork } from "./network.ts";
import { aborted } from "./pages.ts";

/** What the sidecar does about it. */
export interface NatCase {
  readonly name: string;
  readonly plugins: PluginEntries;
  /** What comes of a request after the idle time. */
  readonly expect: "reused" | "reconnected" | "lost";
}

/** What came of it. */
export interface NatResult {
  readonly name: string;
  readonly expect: NatCase["expect"];
  /** The first exchange, which opens the connection. */
  readonly firstMs: number;
  /** The one after the idle time; `undefined`: no answer until it was given up. */
  readonly secondMs: number | undefined;
  /** Connections opened for the second. */
  readonly handshakes: number;
  /** Connections that the NAT had forgotten when something came for them. */
  readonly forgotten: number;
}

/** How long everything takes, in milliseconds. */
export interface NatTimes {
  readonly rttMs: number;
  readonly forgetAfterMs: number;
  readonly idleMs: number;
  readonly giveUpAfterMs: number;
}

/** Durations for `npm run lab`. */
export const NAT_TIMES: NatTimes = { rttMs: 100, forgetAfterMs: 4000, idleMs: 5000, giveUpAfterMs: 15_000 };
/** Durations for the short form. */
export const QUICK_NAT_TIMES: NatTimes = { rttMs: 20, forgetAfterMs: 2500, idleMs: 3500, giveUpAfterMs: 3000 };

/** What is tried. */
export function natCases({ forgetAfterMs }: NatTimes): readonly NatCase[] {
  const early = `${Math.floor(forgetAfterMs / 2000)}s`;
  const late = `${Math.ceil(forgetAfterMs / 1000) + 2}s`;
  const off = { enable: false };
  const keepAlive = { use: "keep-alive" };
  const probing = (time: string) => ({
    use: "tcp-keepalive",
    config: { downstream: off, upstream: { time, interval: "1s", probes: 3 } },
  });
  return [
    {
      name: "no TCP keepalive",
      plugins: [keepAlive, { use: "tcp-keepalive", config: { downstream: off, upstream: off } }],
      expect: "lost",
    },
    { name: `TCP keepalive after ${late}, too late`, plugins: [keepAlive, probing(late)], expect: "lost" },
    { name: `TCP keepalive after ${early}`, plugins: [keepAlive, probing(early)], expect: "reused" },
    {
      name: `no TCP keepalive, upstream idle limit ${early}`,
      plugins: [
        keepAlive,
        { use: "tcp-keepalive", config: { downstream: off, upstream: off } },
        { use: "idle-timeout", config: { upstream: early } },
      ],
      expect: "reconnected",
    },
  ];
}

/** Tries each case on a link of its own, all at once: they mostly wait. */
export async function crossNat(
  place: Place,
  times: NatTimes,
  signal: AbortSignal,
  problem: (text: string) => void,
): Promise<readonly NatResult[]> {
  const results = await Promise.all(natCases(times).map((each) => cross(place, times, signal, each)));
  for (const { name, expect, secondMs, handshakes } of results) {
    const came = secondMs === undefined ? "lost" : handshakes === 0 ? "reused" : "reconnected";
    if (came !== expect) problem(`${name}: the connection was ${came}, not ${expect}`);
  }
  return results;
}

async function cross(place: Place, times: NatTimes, signal: AbortSignal, each: NatCase): Promise<NatResult> {
  const { rttMs, forgetAfterMs, idleMs, giveUpAfterMs } = times;
  const network = await makeNetwork({ folder: place.folder, rttMs, forgetAfterMs });
  try {
    const stopped = Promise.race([network.broken, aborted(signal)]);
    stopped.catch(() => {});
    const origin = await startOrigin(network, place);
    const sidecar = await startOutbound(network, place, { scheme: "http", plugins: each.plugins });
    const fetcher = startFetcher(network, place);
    const exchange = () =>
      Promise.race([fetcher.run<"exchange">({ kind: "exchange", to: sidecar.to, giveUpAfterMs }), stopped]);
    const first = await exchange();
    if (first.status !== 200) throw new Error(`${each.name}: the first exchange got ${first.status ?? "no answer"}`);
    await Promise.race([new Promise((resolve) => setTimeout(resolve, idleMs)), stopped]);
    const before = network.handshakes().length;
    const second = await exchange();
    if (second.status !== undefined && second.status !== 200) {
      throw new Error(`${each.name}: the second exchange got ${second.status}`);
    }
    const result = {
      name: each.name,
      expect: each.expect,
      firstMs: first.ms,
      secondMs: second.status === undefined ? undefined : second.ms,
      handshakes: network.handshakes().length - before,
      forgotten: network.forgotten(),
    };
    await fetcher.stop();
    // What is lost is still being waited for.
    await sidecar.kill();
    await origin.stop();
    return result;
  } finally {
    await network.close();
  }
}
