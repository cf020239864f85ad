/**
 * Programs that may be installed.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** Debian keeps daemons where only root looks for programs. */
export const PATH = [process.env["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"].join(path.delimiter);

/** Whether a program is in {@link PATH}. */
export function hasProgram(name: string): boolean {
  return PATH.split(path.delimiter).some((folder) => {
    try {
      accessSync(path.join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The first version number that a program says of itself; `undefined` when the program is not there. */
export async function programVersion(name: string, argument: string): Promise<string | undefined> {
  if (!hasProgram(name)) return undefined;
  // wrk ends with 1 after telling its version.
  const said = await execute(name, [argument], { env: { PATH } }).catch(
    (error: { stdout?: string; stderr?: string }) => error,
  );
  return /\d+\.\d+(?:\.\d+)*/.exec(`${said.stdout ?? ""}${said.stderr ?? ""}`)?.[0] ?? "of unknown version";
}
