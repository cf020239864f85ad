/**
 * Holdfast and its peers, side by side: `npm run bench`. README.md in this folder says how to read what comes out.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { accessSync, chmodSync, constants, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { chart } from "./chart.ts";
import { startCollector } from "./collector.ts";
import { type Cores, takeCores } from "./cores.ts";
import { makeLoad } from "./load.ts";
import { describeMachine } from "./machine.ts";
import { type Options, readOptions, USAGE } from "./options.ts";
import { startOrigin } from "./origin/origin.ts";
import { ALL_PEERS } from "./peers/all.ts";
import type { Peer } from "./peers/peer.ts";
import { compare } from "./reach.ts";
import type { Result } from "./result.ts";
import { ALL_SCENARIOS } from "./scenarios/all.ts";
import type { Bench, ScenarioResult } from "./scenarios/scenario.ts";
import { reachTable, report, scenarioTable, surroundings } from "./tables.ts";

const ROOT = path.join(import.meta.dirname, "..");
const README = path.join(import.meta.dirname, "README.md");

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** @returns the exit code: 1 when something that must not happen did */
async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) {
    say(USAGE);
    return 0;
  }
  if (process.platform !== "linux") throw new Error("the bench reads CPU time and memory from /proc: it needs Linux");
  // Not to be found out after twenty minutes.
  makeWritable(outOf(options), options.out);
  if (options.build) build();

  const stopped = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    // A second signal does not wait; the exit handler of processes.ts ends what is left.
    process.once(signal, () => {
      stopped.abort(new Error(`stopped by ${signal}`));
      process.once(signal, () => process.exit(130));
    });
  }
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-bench-"));
  // Started as root, nginx reads and writes its files as another user.
  chmodSync(folder, 0o755);
  try {
    const result = await measure(options, folder, stopped.signal).catch((error: unknown) => {
      // Whatever it was that the signal broke off.
      throw stopped.signal.aborted ? stopped.signal.reason : error;
    });
    write(options, result);
    return result.problems.length > 0 ? 1 : 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Folder for the JSON and the chart. */
function outOf({ publish, out }: Options): string {
  return publish ? import.meta.dirname : path.resolve(ROOT, out);
}

function makeWritable(folder: string, out: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    throw new Error(`--out ${out}: cannot be written to (${(error as NodeJS.ErrnoException).code})`);
  }
}

function build(): void {
  const { status } = spawnSync("npm", ["run", "--silent", "build"], {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (status !== 0) throw new Error("npm run build failed");
}

async function measure(options: Options, folder: string, signal: AbortSignal): Promise<Result> {
  const machine = describeMachine();
  const cores = takeCores();
  const notes: string[] = [];
  const problems: string[] = [];
  const peers = await installedPeers(options, notes);
  // With --quick every byte is checked, also those that reach the origin.
  const origin = await startOrigin(folder, cores.rest, options.quick);
  const collector = await startCollector(folder);
  const load = await makeLoad(folder, options.quick);
  const bench: Bench = {
    options,
    folder,
    cores,
    origin,
    collector,
    load,
    signal,
    has: (peer) => peers.some(({ name }) => name === peer.name),
    note(text) {
      notes.push(text);
      say(text);
    },
    problem(text) {
      problems.push(text);
      say(`PROBLEM: ${text}`);
    },
  };
  const scenarios: ScenarioResult[] = [];
  const result: Result = {
    day: new Date().toISOString().slice(0, 10),
    machine,
    pinning: pinning(cores),
    origin: origin.title,
    load: load.title,
    rounds: options.rounds,
    seconds: options.seconds,
    quick: options.quick,
    peers,
    notes,
    scenarios,
    get reached() {
      return options.quick ? [] : compare(scenarios);
    },
    problems,
  };

  say(surroundings(result));
  try {
    for (const { name, title, metrics, run } of ALL_SCENARIOS) {
      if (!options.only.includes(name)) continue;
      signal.throwIfAborted();
      say(`\n${title} (${name})\n`);
      const scenario = { name, title, metrics, samples: await run(bench) };
      scenarios.push(scenario);
      say(options.quick ? `${scenario.samples.length} measurements` : scenarioTable(scenario));
    }
  } finally {
    await Promise.allSettled([origin.stop(), collector.stop()]);
  }
  return result;
}

async function installedPeers(options: Options, notes: string[]): Promise<{ name: string; version: string }[]> {
  const installed: { name: string; version: string }[] = [];
  for (const peer of ALL_PEERS.filter(({ name }) => options.peers.includes(name))) {
    const version = await peer.version();
    if (version === undefined) notes.push(missing(peer));
    else installed.push({ name: peer.name, version });
  }
  return installed;
}

function missing({ name, debianPackage }: Peer): string {
  return `${name} is left out: it is not installed (Debian package ${debianPackage})`;
}

function pinning({ proxy, rest }: Cores): string {
  if (proxy === undefined) return "nothing is pinned to a core (that takes two cores and taskset)";
  return `the proxy has core ${proxy} for itself, origin, load and collector share core ${rest}`;
}

function write(options: Options, result: Result): void {
  const folder = outOf(options);
  writeFileSync(path.join(folder, "result.json"), `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(path.join(folder, "result.svg"), chart(result.scenarios));
  if (options.publish) {
    const mark = /(?<=<!-- result -->\n)[\s\S]*(?=<!-- \/result -->)/;
    writeFileSync(
      README,
      readFileSync(README, "utf8").replace(
        mark,
        () => `\n![Bars for each scenario and peer](result.svg)\n\n${report(result)}\n\n`,
      ),
    );
  }
  if (result.reached.length > 0) say(`\n${reachTable(result.reached)}`);
  if (result.problems.length > 0) say(`\n${result.problems.length} problems: see PROBLEM above`);
  say(`\nWritten to ${folder}`);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
