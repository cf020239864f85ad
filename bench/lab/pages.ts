/**
 * Page loads over the slow link, measured beside what the arithmetic says.
 *
 * @module
 */
import { handshakes, type Keeping, type PageLoad, roundTrips } from "./arithmetic.ts";
import { directly, type Fetcher, type Place, startFetcher, startInbound, startOrigin, startOutbound } from "./hosts.ts";
import { makeNetwork, type Network } from "./network.ts";

/** How the page is fetched. */
export const WAYS = ["direct", "outbound-cold", "outbound-warm", "inbound-cold"] as const;

/** See {@link WAYS}. */
export type Way = (typeof WAYS)[number];

const KEEPING: Readonly<Record<Way, Keeping>> = {
  direct: "none",
  "outbound-cold": "cold",
  "outbound-warm": "warm",
  "inbound-cold": "cold",
};

/** A page load, measured. */
export interface PageResult extends PageLoad {
  readonly rttMs: number;
  readonly way: Way;
  readonly measuredMs: number;
  readonly expectedMs: number;
  /** Connections opened across the link. */
  readonly handshakes: number;
}

/** What to load. */
export interface PagesOptions {
  readonly rttMs: number;
  readonly schemes: readonly PageLoad["scheme"][];
  readonly ways: readonly Way[];
  readonly resources: readonly number[];
  readonly atOnce: readonly number[];
  /** How often each page is loaded; the fastest counts. */
  readonly times: number;
  readonly signal: AbortSignal;
  /** Whether as many connections must be opened as calculated, and not merely no more: a machine that stalls opens less. */
  readonly exact: boolean;
  /** Told of what must not happen. */
  readonly problem: (text: string) => void;
  readonly done: (result: PageResult) => void;
}

/** Loads every page over a link with one round-trip time. */
export async function loadPages(place: Place, options: PagesOptions): Promise<readonly PageResult[]> {
  const network = await makeNetwork({ folder: place.folder, rttMs: options.rttMs });
  const results: PageResult[] = [];
  try {
    const origin = await startOrigin(network, place);
    const fetcher = startFetcher(network, place);
    for (const scheme of options.schemes) {
      for (const way of options.ways) {
        for (const resources of options.resources) {
          for (const atOnce of options.atOnce) {
            const load: PageLoad = { resources, atOnce, scheme, keeping: KEEPING[way] };
            let fastest: PageResult | undefined;
            for (let time = 0; time < options.times; time++) {
              options.signal.throwIfAborted();
              const result = await Promise.race([
                measure(network, place, fetcher, options.rttMs, way, load),
                network.broken,
                aborted(options.signal),
              ]);
              check(result, options);
              if (fastest === undefined || result.measuredMs < fastest.measuredMs) fastest = result;
            }
            results.push(fastest!);
            options.done(fastest!);
          }
        }
      }
    }
    await fetcher.stop();
    await origin.stop();
  } finally {
    await network.close();
  }
  return results;
}

async function measure(
  network: Network,
  place: Place,
  fetcher: Fetcher,
  rttMs: number,
  way: Way,
  load: PageLoad,
): Promise<PageResult> {
  const { scheme, resources, atOnce } = load;
  const sidecar =
    way === "direct"
      ? undefined
      : way === "inbound-cold"
        ? await startInbound(network, place, { scheme })
        : await startOutbound(network, place, { scheme });
  const page = {
    kind: "page",
    to: sidecar?.to ?? directly(place, scheme),
    resources,
    atOnce,
    // Beside the fetcher, the sidecar keeps what the fetcher does not.
    keepAlive: way === "inbound-cold",
  } as const;
  if (way === "outbound-warm") await fetcher.run<"page">(page);
  const before = network.handshakes().length;
  const { ms } = await fetcher.run<"page">(page);
  const opened = network.handshakes().length - before;
  await sidecar?.stop();
  return { ...load, rttMs, way, measuredMs: ms, expectedMs: roundTrips(load) * rttMs, handshakes: opened };
}

/** What holds on any machine, however slow: packets do not come early, and connections can be counted. */
function check(result: PageResult, { exact, problem }: PagesOptions): void {
  const what = `${result.way}, ${result.scheme}, ${result.resources} resources, ${result.atOnce} at once, ${result.rttMs} ms`;
  const { measuredMs, expectedMs } = result;
  if (measuredMs < expectedMs) {
    problem(`${what}: took ${measuredMs.toFixed(1)} ms, which is less than round trips take (${expectedMs} ms)`);
  }
  const expected = handshakes(result);
  const most = exact || result.keeping === "none" ? expected : Math.min(result.atOnce, result.resources);
  const isRight = exact || result.atOnce === 1 ? result.handshakes === expected : result.handshakes <= most;
  if (!isRight) problem(`${what}: ${result.handshakes} handshakes instead of ${expected}`);
}

/** Rejects when the run is broken off. */
export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
