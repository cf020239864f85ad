/**
 * Two hosts on this machine with a slow link between them: network namespaces joined by the delay line.
 *
 * @module
 */
import { execFile, spawnSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { type Running, start } from "../processes.ts";
import { hasProgram, PATH } from "../programs.ts";

const execute = promisify(execFile);
const DELAY_LINE = path.join(import.meta.dirname, "delay-line.py");

/** Address of the host where callers are, and of the one where origins are. */
export const ADDRESSES = { near: "10.77.0.1", far: "10.77.0.2" } as const;

/** One end of the link. */
export type Host = keyof typeof ADDRESSES;

/** What the lab needs to know of where it runs. */
export interface Surroundings {
  readonly platform: string;
  /** User id; 0 is root. */
  readonly userId: number | undefined;
  readonly has: (program: string) => boolean;
  /** Whether a file can be read and written. */
  readonly canWrite: (file: string) => boolean;
}

/** This machine. */
const HERE: Surroundings = {
  platform: process.platform,
  userId: process.getuid?.(),
  has: hasProgram,
  canWrite(file) {
    try {
      accessSync(file, constants.R_OK | constants.W_OK);
      return true;
    } catch {
      return false;
    }
  },
};

/** Why there can be no lab; `undefined` when there can. */
export function whyNot({ platform, userId, has, canWrite }: Surroundings): string | undefined {
  if (platform !== "linux") return "needs Linux: network namespaces and a TUN device make its slow link";
  if (userId !== 0)
    return "needs root, to make network namespaces and a TUN device; run it as root: sudo -E npm run lab";
  for (const [program, debianPackage] of [
    ["ip", "iproute2"],
    ["python3", "python3"],
  ] as const) {
    if (!has(program)) return `needs ${program}, which is not installed (Debian package ${debianPackage})`;
  }
  if (!canWrite("/dev/net/tun"))
    return "needs /dev/net/tun, which is not there or not writable (modprobe tun; in a container --device /dev/net/tun and --cap-add NET_ADMIN,SYS_ADMIN)";
  return undefined;
}

/** Why there can be no lab here, found out by trying; `undefined` when there can. */
export async function whyNotHere(): Promise<string | undefined> {
  const reason = whyNot(HERE);
  if (reason !== undefined) return reason;
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-lab-"));
  try {
    const network = await makeNetwork({ folder, rttMs: 0 });
    await network.close();
    return undefined;
  } catch (error) {
    const message = (error as Error).message.trim().replaceAll(/\s*\n\s*/g, ": ");
    return `cannot make network namespaces with a TUN device in them, as in a container without CAP_SYS_ADMIN and CAP_NET_ADMIN: ${message}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What to make. */
export interface NetworkOptions {
  /** Where its log goes. */
  readonly folder: string;
  /** There and back, in milliseconds. */
  readonly rttMs: number;
  /** After how long without a packet the link silently drops a TCP connection, in milliseconds; 0: never. */
  readonly forgetAfterMs?: number;
}

/** Two hosts and the link between them. */
export interface Network {
  /** What to put before a command to run it on a host. */
  on(host: Host): readonly string[];
  /** When each connection was begun across the link: seconds on the monotonic clock. */
  handshakes(): readonly number[];
  /** How many connections the link has dropped something of because it had forgotten them. */
  forgotten(): number;
  /** Rejects when the link breaks. */
  readonly broken: Promise<never>;
  close(): Promise<void>;
}

const names = new Set<string>();

// Whatever ends the lab, no namespace stays behind. Their processes have been killed before: processes.ts comes first.
process.on("exit", () => {
  for (const name of names) spawnSync("ip", ["netns", "del", name], { env: { PATH } });
});

let made = 0;

/** Makes the hosts and the link. */
export async function makeNetwork({ folder, rttMs, forgetAfterMs = 0 }: NetworkOptions): Promise<Network> {
  const id = `${process.pid}-${made++}`;
  const namespaces: Record<Host, string> = { near: `holdfast-lab-${id}-near`, far: `holdfast-lab-${id}-far` };
  const on = (host: Host) => ["ip", "netns", "exec", namespaces[host]];
  let line: Running | undefined;
  const close = async () => {
    await line?.stop();
    for (const name of Object.values(namespaces)) {
      if (!names.has(name)) continue;
      await ip("netns", "del", name);
      names.delete(name);
    }
  };
  try {
    for (const name of Object.values(namespaces)) {
      await ip("netns", "add", name);
      names.add(name);
      await ip("-n", name, "link", "set", "lo", "up");
      // BBR would pace what one flight can carry over a part of a round trip, and the arithmetic knows only round trips.
      await ip("netns", "exec", name, "sh", "-c", "echo reno >/proc/sys/net/ipv4/tcp_congestion_control");
    }
    const devices: Record<Host, string> = { near: "hfnear", far: "hffar" };
    line = start({
      name: `delay-line-${id}`,
      command: [
        ...on("near"),
        "python3",
        DELAY_LINE,
        devices.near,
        devices.far,
        String(rttMs / 2),
        String(forgetAfterMs / 1000),
      ],
      folder,
      core: undefined,
    });
    await said(line, "ready\n");
    // Both are made by one process in one namespace; a device keeps its process when it moves.
    await ip("-n", namespaces.near, "link", "set", devices.far, "netns", namespaces.far);
    for (const [host, other] of [
      ["near", "far"],
      ["far", "near"],
    ] as const) {
      const name = namespaces[host];
      await ip("-n", name, "addr", "add", ADDRESSES[host], "peer", ADDRESSES[other], "dev", devices[host]);
      await ip("-n", name, "link", "set", devices[host], "up");
    }
  } catch (error) {
    await close();
    throw error;
  }
  const { output, unexpectedEnd } = line;
  const lines = (word: string) =>
    output()
      .split("\n")
      .flatMap((text) => (text.startsWith(`${word} `) ? [Number(text.slice(word.length + 1))] : []));
  return {
    on,
    handshakes: () => lines("syn"),
    forgotten: () => lines("forgot").length,
    broken: unexpectedEnd,
    close,
  };
}

/** Waits until a process has written something. */
export async function said(running: Running, text: string): Promise<void> {
  while (!running.output().includes(text)) {
    await Promise.race([new Promise((resolve) => setTimeout(resolve, 10)), running.unexpectedEnd]);
  }
}

async function ip(...args: readonly string[]): Promise<void> {
  await execute("ip", args, { env: { PATH } });
}
