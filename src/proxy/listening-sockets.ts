/**
 * Who listens on an address of this machine, as Linux tells it.
 *
 * @module
 */
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { endianness } from "node:os";
import type { HostPort } from "../config/sidecar-config.ts";

// As `kernelText` writes them: every address, every one of IPv4, and what all of IPv4 begin with.
const ANY = kernelText("::") ?? "";
const ANY_IPV4 = kernelText("0.0.0.0") ?? "";
const IPV4 = ANY_IPV4.slice(0, 24);

/**
 * How many sockets of this network namespace listen on this address or on one that overlaps it (`0.0.0.0` for
 * `127.0.0.1`), those of other processes included.
 *
 * @returns `undefined` where that cannot be known: not on Linux, without /proc, or for a name
 */
export function socketsListeningOn({ host, port }: HostPort): number | undefined {
  const own = kernelText(host);
  if (own === undefined) return undefined;
  const end = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  try {
    const others = listeners("/proc/net/tcp").map((local) => IPV4 + local);
    // Without IPv6 there is no such table.
    if (existsSync("/proc/net/tcp6")) others.push(...listeners("/proc/net/tcp6"));
    return others.filter((local) => local.endsWith(end) && overlap(own, local.slice(0, -end.length))).length;
  } catch {
    return undefined;
  }
}

/** Whether a connection to one of the addresses could go to the other: a listener on `::` takes IPv4 too. */
function overlap(one: string, other: string): boolean {
  if (one === other || one === ANY || other === ANY) return true;
  return one.startsWith(IPV4) && other.startsWith(IPV4) && (one === ANY_IPV4 || other === ANY_IPV4);
}

/**
 * Local addresses of the sockets that listen. They stand first in the table (proc_net_tcp(5)): behind them there may be
 * tens of thousands of connections that are over, so it is not read to its end.
 */
function listeners(file: string): string[] {
  const table = openSync(file, "r");
  try {
    const found: string[] = [];
    const piece = Buffer.allocUnsafe(4096);
    let text = "";
    for (;;) {
      const length = readSync(table, piece);
      if (length === 0) return found;
      const lines = (text + piece.toString("latin1", 0, length)).split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        // Number, local address, remote address, state; 0A is LISTEN. The first line names the columns.
        const [number = "", local = "", , state] = line.trim().split(/\s+/, 4);
        if (number === "sl") continue;
        if (state !== "0A") return found;
        found.push(local);
      }
    }
  } finally {
    closeSync(table);
  }
}

/**
 * An address as the kernel's table of IPv6 sockets writes it: each 32 bits as one number of this machine. IPv4 stands
 * there as `::ffff:127.0.0.1`, and in a table of its own without what is before it.
 */
function kernelText(host: string): string | undefined {
  const bytes = bytesOf(isIPv4(host) ? `::ffff:${host}` : host);
  if (bytes === undefined) return undefined;
  let text = "";
  for (let at = 0; at < bytes.length; at += 4) {
    const word = bytes.slice(at, at + 4);
    if (endianness() === "LE") word.reverse();
    text += Buffer.from(word).toString("hex").toUpperCase();
  }
  return text;
}

function bytesOf(host: string): number[] | undefined {
  // One with a zone is not comparable: the zone is not in the table.
  if (!isIPv6(host) || host.includes("%")) return undefined;
  // The URL parser writes every form of an address in one way, and without IPv4 at its end.
  const [left = "", right] = new URL(`http://[${host}]`).hostname.slice(1, -1).split("::");
  const head = groups(left);
  const tail = groups(right ?? "");
  const zeros = new Array<number>(8 - head.length - tail.length).fill(0);
  return [...head, ...zeros, ...tail].flatMap((group) => [group >> 8, group & 0xff]);
}

function groups(text: string): number[] {
  return text === "" ? [] : text.split(":").map((group) => Number.parseInt(group, 16));
}
