/**
 * Which core runs what: the proxy under test has one for itself, all else has another.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { hasProgram } from "./programs.ts";

/** The cores of a run; both `undefined` when processes cannot be pinned. */
export interface Cores {
  /** Runs the proxy under test alone. */
  readonly proxy: number | undefined;
  /** Runs origin, load and this process. */
  readonly rest: number | undefined;
}

/** Chooses two cores, and moves this process (and so all that it starts) to the second. */
export function takeCores(): Cores {
  const [proxy, rest] = allowedCores();
  if (proxy === undefined || rest === undefined || !hasProgram("taskset")) return { proxy: undefined, rest: undefined };
  execFileSync("taskset", ["--all-tasks", "--cpu-list", "--pid", String(rest), String(process.pid)], {
    stdio: "ignore",
  });
  return { proxy, rest };
}

/** A command that runs on one core. */
export function pinned(core: number | undefined, command: readonly string[]): readonly string[] {
  return core === undefined ? command : ["taskset", "--cpu-list", String(core), ...command];
}

/** Cores that this process may use: `Cpus_allowed_list` is like `0-3,8`. */
function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "";
  return list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}
