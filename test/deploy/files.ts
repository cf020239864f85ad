/** The files of deploy/, and the HTTP requests that their embedded `node -e` scripts make. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";

/** Root of the repository. */
export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Text of a file below the root. */
export function read(path: string): string {
  return readFileSync(new URL(path, new URL("../../", import.meta.url)), "utf8");
}

/** What running a script against a stand-in for the admin API gave. */
export interface ScriptRun {
  readonly exitCode: number;
  /** `POST /drain`, … */
  readonly requests: readonly string[];
}

/**
 * Runs `node -e script` against an HTTP server that answers every request with this status.
 *
 * @param script - calls `http://127.0.0.1:{port}`; the port is replaced
 */
export async function runScript(script: string, port: number, status: number): Promise<ScriptRun> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    response.writeHead(status).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const here = script.replaceAll(`127.0.0.1:${port}`, `127.0.0.1:${(server.address() as AddressInfo).port}`);
  const exitCode = await new Promise<number>((resolve) => {
    const child = execFile(process.execPath, ["-e", here]);
    child.on("exit", (code) => resolve(code ?? -1));
  });
  server.closeAllConnections();
  server.close();
  return { exitCode, requests };
}
