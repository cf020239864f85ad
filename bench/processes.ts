/**
 * Every process that the bench starts. Each leads a process group of its own, so that what it started ends with it and
 * Ctrl-C reaches the bench alone, which then ends them all.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import path from "node:path";
import { pinned } from "./cores.ts";
import { PATH } from "./programs.ts";

/** How long a process may take to end before it is killed, in milliseconds. */
const END_MS = 5000;

/** What to start. */
export interface Command {
  /** For messages, and for its log file. */
  readonly name: string;
  readonly command: readonly string[];
  /** Its working folder, home and place of its log. */
  readonly folder: string;
  readonly core: number | undefined;
  /** Beyond `PATH` and `HOME`: nothing else of our environment reaches it. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether messages can be exchanged with it; only for Node.js. */
  readonly hasChannel?: boolean;
}

/** A running process. */
export interface Running {
  readonly name: string;
  readonly pid: number;
  readonly process: ChildProcess;
  /** What it wrote to standard output and standard error so far. */
  output(): string;
  /** Rejects when it ends before `stop` was called. */
  readonly unexpectedEnd: Promise<never>;
  /** Ends it and all that it started. Rejects when it had to be killed or says by its exit code that something failed. */
  stop(): Promise<void>;
  /** Ends it and all that it started at once, without a chance to say goodbye. */
  kill(): Promise<void>;
}

const groups = new Set<number>();

// Whatever ends the bench, nothing of it stays behind.
process.on("exit", () => {
  for (const group of groups) killGroup(group);
});

/** Starts a process. */
export function start({ name, command, folder, core, env, hasChannel }: Command): Running {
  const [program = "", ...args] = pinned(core, command);
  const log = path.join(folder, `${name}.log`);
  const output = openSync(log, "a");
  const child = spawn(program, args, {
    cwd: folder,
    detached: true,
    env: { PATH, HOME: folder, ...env },
    stdio: hasChannel ? ["ignore", output, output, "ipc"] : ["ignore", output, output],
    serialization: "advanced",
  });
  closeSync(output);
  const pid = child.pid;
  if (pid !== undefined) groups.add(pid);
  let isStopping = false;
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  const unexpectedEnd = ended.then(async (how): Promise<never> => {
    if (isStopping) return await new Promise<never>(() => {});
    throw new Error(`${name} ended (${how}): ${tail(log)}`);
  });
  // Not everybody waits for it.
  unexpectedEnd.catch(() => {});
  return {
    name,
    pid: pid ?? 0,
    process: child,
    output: () => readFileSync(log, "utf8"),
    unexpectedEnd,
    async stop() {
      isStopping = true;
      if (pid === undefined) return;
      const timer = setTimeout(() => killGroup(pid), END_MS);
      child.kill("SIGTERM");
      const how = await ended;
      clearTimeout(timer);
      killGroup(pid);
      groups.delete(pid);
      if (how !== "SIGTERM" && how !== "exit code 0" && how !== "exit code 143") {
        throw new Error(`${name} did not stop as it should (${how}): ${tail(log)}`);
      }
    },
    async kill() {
      isStopping = true;
      if (pid === undefined) return;
      killGroup(pid);
      await ended;
      groups.delete(pid);
    },
  };
}

function killGroup(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // All of it has ended.
  }
}

function tail(log: string): string {
  return readFileSync(log, "utf8").trim().split("\n").slice(-5).join(" | ");
}
