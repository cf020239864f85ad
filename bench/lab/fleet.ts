/**
 * A fleet that restarts: how many handshakes that costs its origin, and when.
 *
 * @module
 */
import type { Running } from "../processes.ts";
import { type LabSidecar, type Place, startFetcher, startOrigin, startOutbound } from "./hosts.ts";
import { makeNetwork } from "./network.ts";
import { aborted } from "./pages.ts";

/** What happens. */
export interface FleetCase {
  readonly name: string;
  readonly restart: "sidecars at once" | "sidecars one by one" | "origin killed";
  /** `maxAge` of `keep-alive` upstream, with its jitter; `undefined`: none. */
  readonly age?: { readonly maxAge: string; readonly jitter: number };
}

/** What came of it. */
export interface FleetResult {
  readonly name: string;
  readonly restart: FleetCase["restart"];
  /** Connections that the fleet keeps to the origin. */
  readonly kept: number;
  /** When each connection was opened after the restart began, in milliseconds. */
  readonly handshakesAtMs: readonly number[];
  /** Most that fell into one second. */
  readonly mostInOneSecond: number;
  /** The same after all sidecars are back, or the origin is: what the restart echoes. */
  readonly mostInOneSecondAfterwards: number;
  readonly exchanges: number;
  readonly failures: Readonly<Record<string, number>>;
}

/** How large and how long. */
export interface FleetSize {
  readonly rttMs: number;
  readonly sidecars: number;
  readonly callersPerSidecar: number;
  /** How long an exchange takes at the origin, in milliseconds. */
  readonly answerAfterMs: number;
  /** How long handshakes are counted, in milliseconds. */
  readonly windowMs: number;
  /** Between restarts one by one, in milliseconds. */
  readonly pauseMs: number;
}

/** For `npm run lab`. */
export const FLEET: FleetSize = {
  rttMs: 100,
  sidecars: 6,
  callersPerSidecar: 8,
  answerAfterMs: 200,
  windowMs: 20_000,
  pauseMs: 1500,
};
/** For the short form. */
export const QUICK_FLEET: FleetSize = {
  rttMs: 20,
  sidecars: 2,
  callersPerSidecar: 3,
  answerAfterMs: 100,
  windowMs: 2500,
  pauseMs: 100,
};

/** What is tried. */
export const FLEET_CASES: readonly FleetCase[] = [
  { name: "all sidecars at once", restart: "sidecars at once" },
  { name: "one sidecar after the other", restart: "sidecars one by one" },
  { name: "the origin is killed and comes back", restart: "origin killed" },
  {
    name: "all at once; `maxAge` 5 s, `jitter` 0",
    restart: "sidecars at once",
    age: { maxAge: "5s", jitter: 0 },
  },
  {
    name: "all at once; `maxAge` 5 s, `jitter` 0.5",
    restart: "sidecars at once",
    age: { maxAge: "5s", jitter: 0.5 },
  },
];

/** How long after a restart its own handshakes may come, in milliseconds. */
const CALM_MS = 1000;

/** Restarts a fleet over TLS and counts. */
export async function restartFleet(
  place: Place,
  size: FleetSize,
  { name, restart, age }: FleetCase,
  signal: AbortSignal,
  problem: (text: string) => void,
): Promise<FleetResult> {
  const { rttMs, callersPerSidecar, answerAfterMs } = size;
  const network = await makeNetwork({ folder: place.folder, rttMs });
  try {
    const stopped = Promise.race([network.broken, aborted(signal)]);
    stopped.catch(() => {});
    const pause = (ms: number) => Promise.race([new Promise((resolve) => setTimeout(resolve, ms)), stopped]);
    let origin: Running = await startOrigin(network, place);
    const plugins = [{ use: "keep-alive", ...(age && { config: { upstream: age } }) }];
    const sidecars: LabSidecar[] = [];
    for (let index = 0; index < size.sidecars; index++) {
      sidecars.push(await startOutbound(network, place, { scheme: "https", port: 15_001 + index, plugins }));
    }
    const fetcher = startFetcher(network, place);
    const kept = size.sidecars * callersPerSidecar;
    const to = sidecars.map((sidecar) => sidecar.to);
    await fetcher.run<"fleet">({ kind: "fleet", to, callers: callersPerSidecar, answerAfterMs });
    while (network.handshakes().length < kept) await pause(20);
    // Every connection is in use before anything restarts.
    await pause(3 * rttMs + 2 * answerAfterMs);

    const before = network.handshakes().length;
    if (age === undefined && before !== kept) problem(`${name}: ${before} connections at the beginning, not ${kept}`);
    const beganAtMs = monotonicMs();
    const restarted = async (sidecar: LabSidecar) => {
      await sidecar.stop();
      await sidecar.startAgain();
    };
    switch (restart) {
      case "sidecars at once":
        await Promise.all(sidecars.map(restarted));
        break;
      case "sidecars one by one":
        for (const sidecar of sidecars) {
          await restarted(sidecar);
          await pause(size.pauseMs);
        }
        break;
      case "origin killed":
        await origin.kill();
        origin = await startOrigin(network, place);
        break;
    }
    // Until everybody has found that out.
    await pause(CALM_MS);
    const backAtMs = monotonicMs() - beganAtMs;
    await pause(Math.max(0, beganAtMs + size.windowMs - monotonicMs()));
    // On a machine that is slow.
    while (network.handshakes().length < before + kept) await pause(20);
    const handshakesAtMs = network
      .handshakes()
      .slice(before)
      .map((atS) => atS * 1000 - beganAtMs);
    const { exchanges, failures } = await Promise.race([fetcher.run<"stop">({ kind: "stop" }), stopped]);
    await fetcher.stop();
    for (const sidecar of sidecars) await sidecar.stop();
    await origin.stop();
    const result = {
      name,
      restart,
      kept,
      handshakesAtMs,
      mostInOneSecond: mostWithin(handshakesAtMs, 1000),
      mostInOneSecondAfterwards: mostWithin(
        handshakesAtMs.filter((atMs) => atMs > backAtMs),
        1000,
      ),
      exchanges,
      failures,
    };
    if (restart !== "origin killed") {
      if (Object.keys(failures).length > 0) problem(`${name}: exchanges failed: ${JSON.stringify(failures)}`);
      if (age === undefined && handshakesAtMs.length !== kept) {
        problem(`${name}: ${handshakesAtMs.length} handshakes instead of ${kept}`);
      }
    }
    return result;
  } finally {
    await network.close();
  }
}

/** Most events in any span of this length. `atMs` rises. */
export function mostWithin(atMs: readonly number[], spanMs: number): number {
  let most = 0;
  let first = 0;
  for (let last = 0; last < atMs.length; last++) {
    while (atMs[last]! - atMs[first]! >= spanMs) first++;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

/** The clock that the delay line writes. */
function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}
