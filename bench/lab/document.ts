/**
 * Results of the lab as Markdown.
 *
 * @module
 */
import { table } from "../tables.ts";
import { formula, handshakes, type PageLoad } from "./arithmetic.ts";
import type { FleetResult, FleetSize } from "./fleet.ts";
import type { NatResult, NatTimes } from "./nat.ts";
import { type PageResult, WAYS, type Way } from "./pages.ts";

/** All that a run of the lab has found. */
export interface LabResult {
  /** ISO date. */
  readonly day: string;
  /** Processor, kernel and the like, in one line. */
  readonly machine: string;
  readonly pages: readonly PageResult[];
  readonly natTimes: NatTimes;
  readonly nat: readonly NatResult[];
  readonly fleetSize: FleetSize;
  readonly fleet: readonly FleetResult[];
}

/** What a way is called in tables and charts. */
export const WAY_TITLES: Readonly<Record<Way, string>> = {
  direct: "direct, no keep-alive",
  "outbound-cold": "sidecar beside the caller, cold",
  "outbound-warm": "sidecar beside the caller, warm",
  "inbound-cold": "sidecar beside the origin",
};

/** The part of docs/lab.md that `npm run lab` writes. */
export function labReport(result: LabResult): string {
  const rtts = [...new Set(result.pages.map(({ rttMs }) => rttMs))];
  const { natTimes, fleetSize } = result;
  return [
    `${result.day}: ${result.machine}`,
    "![Bars: how long a page with 30 resources takes in each way, at each round-trip time](lab-pages.svg)",
    "### The arithmetic",
    arithmeticTable(result.pages),
    ...rtts.flatMap((rttMs) => [
      `### Page loads, RTT ${rttMs} ms`,
      pagesTable(result.pages.filter((page) => page.rttMs === rttMs)),
    ]),
    "### A NAT that forgets",
    `RTT ${natTimes.rttMs} ms; the NAT forgets after ${natTimes.forgetAfterMs / 1000} s, the second request comes ${natTimes.idleMs / 1000} s after the first.`,
    natTable(result.nat, natTimes),
    "### A fleet that restarts",
    `${fleetSize.sidecars} sidecars with ${fleetSize.callersPerSidecar} busy callers each, HTTPS, RTT ${fleetSize.rttMs} ms, ${fleetSize.answerAfterMs} ms per exchange at the origin; counted for ${fleetSize.windowMs / 1000} s from the restart on.`,
    fleetTable(result.fleet),
    "![Bars: handshakes in each half second after the restart](lab-fleet.svg)",
  ].join("\n\n");
}

/** Loads that differ in anything but the round-trip time, in order. */
function loads(pages: readonly PageResult[]): readonly PageResult[] {
  const rttMs = pages[0]?.rttMs;
  return pages.filter((page) => page.rttMs === rttMs);
}

/** One row for each page, whichever way it came. */
function rows(pages: readonly PageResult[], cell: (page: PageResult) => string): readonly (readonly string[])[] {
  const byPage = Map.groupBy(pages, (page) => describe(page));
  return [...byPage].map(([page, ways]) => [
    page,
    ...WAYS.map((way) => {
      const found = ways.find((each) => each.way === way);
      return found === undefined ? "" : cell(found);
    }),
  ]);
}

function describe({ scheme, resources, atOnce }: PageLoad): string {
  const how = atOnce === 1 ? "one at a time" : `${atOnce} at once`;
  return `${scheme.toUpperCase()}, 1 + ${resources}, ${how}`;
}

function arithmeticTable(pages: readonly PageResult[]): string {
  const head = ["page", ...WAYS.map((way) => WAY_TITLES[way])];
  const count = (page: PageResult) => {
    const opened = handshakes(page);
    return opened === 1 ? "1 connection" : `${opened} connections`;
  };
  return table(
    head,
    rows(loads(pages), (page) => `${formula(page)}; ${count(page)}`),
  );
}

function pagesTable(pages: readonly PageResult[]): string {
  const head = ["page", ...WAYS.map((way) => WAY_TITLES[way])];
  return table(
    head,
    rows(pages, ({ measuredMs, expectedMs }) => {
      const deviation = (measuredMs / expectedMs - 1) * 100;
      const sign = deviation < 0 ? "−" : "+";
      return `${ms(measuredMs)} (${ms(expectedMs)}, ${sign}${Math.abs(deviation).toFixed(1)} %)`;
    }),
  );
}

function natTable(results: readonly NatResult[], { giveUpAfterMs }: NatTimes): string {
  return table(
    ["sidecar beside the caller", "first request", "second request", "handshakes for it"],
    results.map(({ name, firstMs, secondMs, handshakes: opened }) => [
      name,
      ms(firstMs),
      secondMs === undefined ? `no answer in ${giveUpAfterMs / 1000} s` : ms(secondMs),
      String(opened),
    ]),
  );
}

function fleetTable(results: readonly FleetResult[]): string {
  return table(
    ["restart", "connections kept", "handshakes", "most in one second", "and afterwards", "exchanges", "failed"],
    results.map(({ name, kept, handshakesAtMs, mostInOneSecond, mostInOneSecondAfterwards, exchanges, failures }) => [
      name,
      String(kept),
      String(handshakesAtMs.length),
      String(mostInOneSecond),
      String(mostInOneSecondAfterwards),
      exchanges.toLocaleString("en"),
      Object.entries(failures)
        .map(([how, times]) => `${times} (${how})`)
        .join(", ") || "0",
    ]),
  );
}

function ms(value: number): string {
  return `${Math.round(value).toLocaleString("en")} ms`;
}

/**
 * Puts a report between the marks of a page.
 *
 * @throws Error when the page has no marks
 */
export function withReport(page: string, report: string): string {
  const marked = /(?<=<!-- lab -->\n)[\s\S]*(?=<!-- \/lab -->)/;
  if (!marked.test(page)) throw new Error("docs/lab.md has no <!-- lab --> and <!-- /lab --> to write between");
  return page.replace(marked, () => `\n${report}\n\n`);
}
