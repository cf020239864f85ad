/**
 * `npm run torture`: what becomes of requests that arrive as the origin closes, with Holdfast and other proxies.
 * `--quick` runs a tenth of it; `--subject NAME` one of them; `--seed N` makes the same choices again.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { SUBJECTS } from "./subjects.ts";
import { EDGE_MS, SPREAD_MS, type TortureResult, torture } from "./torture.ts";

const { values } = parseArgs({
  options: { quick: { type: "boolean" }, subject: { type: "string" }, seed: { type: "string" } },
});
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const requests = values.quick ? 400 : 4000;
const lanes = 40;
const faults: string[] = [];

console.log(
  `seed ${seed}; ${lanes} lanes, ${requests} GETs and ${requests} POSTs each, ${EDGE_MS} ± ${SPREAD_MS} ms after the last answer\n`,
);
console.log(
  "| proxy | origin closes | hint | GETs failed | served twice | POSTs failed | of them later | POSTs served twice | reuse |",
);
console.log("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
for (const subject of SUBJECTS.filter(({ name }) => values.subject === undefined || name.includes(values.subject))) {
  const version = subject.version();
  if (version === undefined) {
    console.log(`| ${subject.name} | not installed | | | | | | | |`);
    continue;
  }
  for (const hint of ["", "timeout=1"]) {
    for (const close of ["FIN", "RST"] as const) {
      const result = await torture({ subject, close, hint, originIdleMs: EDGE_MS, lanes, requests, seed });
      show(`${subject.name} ${version}`, `${close} after ${EDGE_MS} ms`, hint, result);
      if (subject.name.startsWith("holdfast")) check(`${subject.name}, ${close}, ${hint || "no hint"}`, result);
    }
  }
  const control = await torture({ subject, close: "FIN", hint: "", originIdleMs: 60_000, lanes, requests, seed });
  show(`${subject.name} ${version}`, "FIN after 60 s", "", control);
  if (subject.name.startsWith("holdfast")) {
    check(`${subject.name}, control`, control);
    // Of a tenth of the requests, those that open the lanes' connections are more than one in a hundred.
    if (!values.quick && control.reuse < 0.99)
      faults.push(`${subject.name}, control: reuse is ${percent(control.reuse)}`);
  }
}
for (const fault of faults) console.log(`\nnot reached: ${fault}`);
process.exitCode = faults.length === 0 ? 0 : 1;

function show(name: string, closes: string, hint: string, result: TortureResult): void {
  const { getsFailed, getsTwice, postsFailed, postsFailedLater, postsLater, postsTwice, reuse } = result;
  const later = `${postsFailedLater} of ${postsLater}`;
  const cells = [name, closes, hint || "–", getsFailed, getsTwice, postsFailed, later, postsTwice, percent(reuse)];
  console.log(`| ${cells.join(" | ")} |`);
}

function check(run: string, result: TortureResult): void {
  const { getsFailed, postsFailed, postsFailedLater, postsLater, postsTwice, otherFailures, failureLines } = result;
  if (getsFailed > 0) faults.push(`${run}: ${getsFailed} GETs failed`);
  if (postsTwice > 0) faults.push(`${run}: ${postsTwice} POSTs were served twice`);
  if (postsFailedLater > postsLater / 1000) faults.push(`${run}: ${postsFailedLater} of ${postsLater} POSTs failed`);
  if (otherFailures > 0) faults.push(`${run}: ${otherFailures} failures are not 502`);
  const named = failureLines.filter((line) =>
    /127\.0\.0\.1:\d+ closed .* after \d+ ms idle, with \d+ bytes/.test(line),
  );
  if (named.length !== postsFailed) faults.push(`${run}: ${named.length} of ${postsFailed} failures name the race`);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
