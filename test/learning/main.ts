/**
 * `npm run simulate`: how well limits are learned, over many origins and days of traffic in virtual time.
 * `--origins N` (default 1000), `--days N` (default 30), `--seed N` (default 1).
 *
 * @module
 */
import { parseArgs } from "node:util";
import { atTheEdge, days, isClose, learn, move, reuseOfOracle } from "./scenarios.ts";

const { values } = parseArgs({
  options: { origins: { type: "string" }, days: { type: "string" }, seed: { type: "string" } },
});
const origins = Number(values.origins ?? 1000);
const seed = Number(values.seed ?? 1);
console.log(`seed ${seed}\n`);

for (const jitter of [0, 0.1]) {
  let count = 0;
  let late = 0;
  let far = 0;
  let above = 0;
  let races = 0;
  let exchanges = 0;
  let worst = 0;
  let leastReuse = 1;
  const reuses: number[] = [];
  for (let at = 0; at < origins; at++) {
    const learned = learn(seed + 2 * at);
    if (learned.drawn.origin.jitter !== jitter) continue;
    count++;
    if (learned.error === undefined) late++;
    else {
      if (learned.errorMs! > 0) above++;
      else if (!isClose(learned)) far++;
      if (learned.errorMs! < -20) worst = Math.min(worst, learned.error);
    }
    races += atTheEdge(learned, 200).races;
    exchanges += 200;
    const reuse = reuseOfOracle(learned, 500);
    reuses.push(reuse);
    leastReuse = Math.min(leastReuse, reuse);
  }
  reuses.sort((one, other) => one - other);
  const median = reuses[reuses.length >> 1]!;
  console.log(`${count} origins, ${jitter === 0 ? "fixed limits" : "limits that vary by 10 % either way"}`);
  console.log(`  after three closes: ${late} unknown, ${far} too far below, ${above} above; worst ${percent(worst)}`);
  console.log(`  then ${exchanges} requests at the edge: ${races} races`);
  const near = reuses.filter((reuse) => reuse >= 0.95).length / reuses.length;
  console.log(
    `  reuse against an oracle: median ${percent(median)}, least ${percent(leastReuse)}; ${percent(near)} of the origins within 5 %`,
  );
}
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

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
