/**
 * Compares the wire forwarder with node:http on generated messages: `npm run fuzz:parser -- --cases 200000 --seed 1`.
 * Prints what it did and every difference, and fails if there is one.
 */
import { parseArgs } from "node:util";
import { compareRequests } from "./compare-requests.ts";
import { compareResponses } from "./compare-responses.ts";
import { requestCase, responseCase } from "./fuzz-messages.ts";
import { Random } from "./random.ts";

/** A case in which something is different without explanation. */
export interface Difference {
  /** Makes the case again: `--cases 1 --seed` this. */
  readonly seed: number;
  readonly what: string;
  readonly text: string;
}

/** What a run found. */
export interface FuzzResult {
  readonly accepted: number;
  readonly refused: number;
  /** How often each explained difference came up. */
  readonly explained: ReadonlyMap<string, number>;
  readonly differences: readonly Difference[];
}

/** Runs cases with seeds from `seed` on: requests for even ones, responses for odd ones. */
export async function fuzz(cases: number, seed: number): Promise<FuzzResult> {
  let accepted = 0;
  const explained = new Map<string, number>();
  const differences: Difference[] = [];
  for (let at = seed; at < seed + cases; at++) {
    const random = new Random(at);
    const { text } = at % 2 === 0 ? requestCase(random) : responseCase(random);
    const cut = random.pick([
      () => 1,
      (available: number) => available,
      (available: number) => Math.min(available, 1 + random.below(40)),
    ]);
    const verdict =
      at % 2 === 0
        ? await compareRequests(text, cut, cut)
        : await compareResponses(random.oneIn(5) ? "HEAD" : "GET", text, cut);
    if (verdict.accepted) accepted++;
    const { explanation, difference } = verdict;
    if (explanation !== undefined) explained.set(explanation, (explained.get(explanation) ?? 0) + 1);
    if (difference !== undefined) differences.push({ seed: at, what: difference, text });
  }
  return { accepted, refused: cases - accepted, explained, differences };
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { cases: { type: "string" }, seed: { type: "string" } } });
  const cases = Number(values.cases ?? 200_000);
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
  const { accepted, refused, explained, differences } = await fuzz(cases, seed);
  console.log(`seed ${seed}, cases ${cases}, accepted ${accepted}, refused ${refused}`);
  console.log("explained differences:");
  for (const [name, count] of [...explained].sort(([, a], [, b]) => b - a)) console.log(`  ${count} ${name}`);
  console.log(`unexplained differences: ${differences.length}`);
  for (const difference of differences) {
    console.log(`  seed ${difference.seed}: ${difference.what}\n    ${JSON.stringify(difference.text)}`);
  }
  process.exitCode = differences.length === 0 ? 0 : 1;
}
