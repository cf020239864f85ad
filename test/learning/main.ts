/**
 * `npm run simulate`: how well limits are learned, over many origins and days of traffic in virtual time.
 * `--origins N` (default 1000), `--days N` (default 30), `--seed N` (default 1).
 *
 * @module
 */
import { parseArgs } from "node:util";
import { days, move } from "./scenarios.ts";
import { type Tally, tally } from "./tally.ts";

const { values } = parseArgs({
  options: { origins: { type: "string" }, days: { type: "string" }, seed: { type: "string" } },
});
const origins = Number(values.origins ?? 1000);
const seed = Number(values.seed ?? 1);
console.log(`seed ${seed}\n`);

const { fixed, varying } = tally(seed, origins);
show("fixed limits", fixed);
show("limits that vary by 10 % either way", varying);
for (const [fromMs, toMs] of [
  [60_000, 5000],
  [5000, 60_000],
] as const) {
  const moves = Array.from({ length: 100 }, (_, at) => move(seed + at, fromMs, toMs, 1));
  const races = Math.max(...moves.map((moved) => moved.races));
  const tookMs = Math.max(...moves.map((moved) => moved.tookMs));
  console.log(
    `100 times from ${fromMs / 1000} to ${toMs / 1000} s: at most ${races} races, ${(tookMs / 1000).toFixed()} s`,
  );
}
const run = days(seed, Number(values.days ?? 30));
console.log(
  `${values.days ?? 30} days: ${run.exchanges} requests, ${percent(run.reuse)} reused, ${run.closes} closes by the peer, ${run.races} races, ${run.lost} lost`,
);

function show(what: string, told: Tally): void {
  console.log(`${told.origins} origins, ${what}`);
  console.log(
    `  after three closes: ${told.unknown} unknown, ${told.above} above, ${told.far} too far below (worst ${percent(told.worst)}), ${told.farNeedlessly} of them where what was seen made more certain; ${told.farAfterSix} after six`,
  );
  console.log(`  then ${told.edgeRequests} requests at the edge: ${told.races} races`);
  const median = told.reuses[told.reuses.length >> 1]!;
  const near = told.reuses.filter((reuse) => reuse >= 0.95).length / told.reuses.length;
  console.log(
    `  reuse against an oracle: median ${percent(median)}, least ${percent(told.reuses[0]!)}; ${percent(near)} of the origins within 5 %`,
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
