/** Real servers as peers: what each is started with, what its documentation promises, and starting it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { environment } from "../interop/programs.ts";

/** When a server that does not come up has failed. */
const START_MS = 30_000;

/** What a server does, as its documentation has it. */
export interface Documented {
  /** How long it keeps an idle connection, in milliseconds; `Infinity`: for ever. */
  readonly idleMs: number;
  /** How many responses one connection carries; `Infinity`: any number. */
  readonly requests: number;
  /** What `Keep-Alive: timeout=` says, in milliseconds; `undefined`: nothing. */
  readonly announcedMs: number | undefined;
  /** How much later than {@link idleMs} it may close, since it looks at its clock only so often. Default 0. */
  readonly tickMs?: number;
}

/** A server with one set of settings. */
export interface PeerSetting {
  /** `defaults`, or the settings as they are written. */
  readonly name: string;
  readonly documented: Documented;
  /** Writes what it needs into the folder. */
  prepare(folder: string, port: number): Started | Promise<Started>;
}

/** A program that is to run. */
export interface Started {
  readonly command: readonly [program: string, ...args: string[]];
  readonly env?: Readonly<Record<string, string>>;
}

/** A server. */
export interface RealPeer {
  readonly name: string;
  /** Programs that it takes, and files by their paths. */
  readonly programs: readonly string[];
  /** Prints its version. */
  readonly version: readonly [program: string, ...args: string[]];
  /** The first one is the defaults. */
  readonly settings: readonly PeerSetting[];
}

/** What ends things: the context of a test, for one. */
export interface Cleanup {
  after(end: () => unknown): void;
}

/**
 * Starts a server on a free port of the loopback interface.
 *
 * @returns its URL
 */
export async function startPeer(cleanup: Cleanup, setting: PeerSetting): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-peer-"));
  cleanup.after(() => rmSync(folder, { recursive: true, force: true }));
  // Between choosing a port and binding it another process may take it.
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const { command, env = {} } = await setting.prepare(folder, port);
    const [program, ...args] = command;
    const child = spawn(program, args, {
      cwd: folder,
      env: environment({ ...env }),
      stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (bytes: Buffer) => {
        said += bytes.toString();
      });
    }
    cleanup.after(() => killed(child));
    await once(child, "spawn");
    if (await answers(port, child)) return `http://127.0.0.1:${port}/`;
    if (attempt === 3) throw new Error(`${program} did not start:\n${said}`);
  }
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

/** Ports that were given out: servers start side by side, and a port is free again until its server listens. */
const given = new Set<number>();

async function freePort(): Promise<number> {
  for (;;) {
    const server = net.createServer();
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as net.AddressInfo;
    await once(server.close(), "close");
    if (given.has(port)) continue;
    given.add(port);
    return port;
  }
}

/** Whether it answers on the port before it ends. */
async function answers(port: number, child: ChildProcess): Promise<boolean> {
  const until = performance.now() + START_MS;
  while (child.exitCode === null && performance.now() < until) {
    const socket = net.connect(port, "127.0.0.1");
    try {
      await once(socket, "connect");
      return true;
    } catch {
      await sleep(20);
    } finally {
      socket.destroy();
    }
  }
  return false;
}

/** Where the files for servers are. */
export function originFile(name: string): string {
  return path.join(import.meta.dirname, "origins", name);
}
