/**
 * CPU time and memory of a process and all that it started, from /proc.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** The process and its descendants. */
export function tree(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, "latin1").split(" ").filter(Boolean).map(Number),
  );
  return [pid, ...children.flatMap(tree)];
}

/** User and system time that the process and its descendants have used, all threads together, in microseconds. */
export function cpuMicros(pid: number): number {
  return tree(pid).reduce((sum, each) => sum + processCpuMicros(each), 0);
}

/** Resident memory of the process and its descendants, in bytes. What they share counts for each. */
export function residentBytes(pid: number): number {
  return tree(pid).reduce((sum, each) => sum + processResidentBytes(each), 0);
}

function processCpuMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The name, in brackets, may hold anything; user time is field 14, system time field 15 (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1e6) / ticksPerSecond;
}

function processResidentBytes(pid: number): number {
  // Exact, where VmRSS of /proc/PID/status may lag behind by some MB on many cores.
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
  return Number(/^Rss:\s+(\d+) kB/m.exec(rollup)![1]) * 1024;
}
