/** Programs that are not part of the repository: whether they are there, and running them. */
import { type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, existsSync } from "node:fs";
import path from "node:path";
import { text } from "node:stream/consumers";

/** When a test has failed because a program hangs, in milliseconds. */
const LIMIT_MS = 60_000;

/** Options of a test that needs programs. */
export interface Needs {
  /** Why it is skipped. */
  readonly skip: string | false;
  readonly timeout: number;
}

/**
 * Says whether programs are installed, for the options of a test.
 *
 * @throws Error when one is missing and `CI` is `true`: there a test that is skipped would look like one that passed
 */
export function needs(...programs: readonly string[]): Needs {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return { skip: false, timeout: LIMIT_MS };
  const reason = `not installed: ${missing.join(", ")}`;
  if (process.env["CI"] === "true") throw new Error(`${reason}; .ci/run installs what the tests need`);
  return { skip: reason, timeout: LIMIT_MS };
}

/** Whether a program is there to be run, or a file is that is given by its path. */
export function isInstalled(program: string): boolean {
  if (path.isAbsolute(program)) return existsSync(program);
  // Debian keeps daemons where only root looks for programs.
  return searchPath()
    .split(path.delimiter)
    .some((folder) => {
      try {
        accessSync(path.join(folder, program), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** `PATH` with the folders of daemons. */
export function searchPath(): string {
  return [process.env["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"].join(path.delimiter);
}

/** Surroundings of a program: no proxy, locale or option from whoever runs the tests. */
export function environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH: searchPath(), HOME: "/nonexistent", LC_ALL: "C.UTF-8", ...extra };
}

/**
 * Runs a program to its end.
 *
 * @returns its standard output
 * @throws Error with its standard error when its exit code is not 0
 */
export async function run(program: string, args: readonly string[], options: SpawnOptions = {}): Promise<string> {
  const child = spawn(program, args, { env: environment(), ...options, stdio: ["ignore", "pipe", "pipe"] });
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, "close") as Promise<[number | null, string | null]>,
  ]);
  if (code !== 0) throw new Error(`${program} ended with ${code ?? signal}:\n${stderr}${stdout}`);
  return stdout;
}
