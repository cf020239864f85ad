/**
 * Who listens on an address of this machine, as Linux tells it.
 *
 * @module
 */
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { endianness } from "node:os";
import type { HostPort } from "../config/sidecar-config.ts";

/**
 * How many sockets of this network namespace listen on this address or on one that overlaps it, those of other processes
 * included. `::` counts as overlapping every address, although a socket on it may take IPv6 alone.
 *
 * @returns `undefined` where that cannot be known: not on Linux, without /proc, or for a name
 */
export function socketsListeningOn({ host, port }: HostPort): number | undefined {
  const address = kernelText(host);
  if (address === undefined) return undefined;
  try {
    // Without IPv6 the second table is not there.
    const found = [...listeners("/proc/net/tcp"), ...(existsSync(TABLE_6) ? listeners(TABLE_6) : [])];
    return found.filter((each) => each.port === port && overlap(each.address, address)).length;
  } catch {
    return undefined;
  }
}

/**
 * How many connections the kernel holds, not accepted yet, for sockets that listen on exactly this address.
 *
 * @param sockets - how many there are: the table is not read beyond them, which takes ten times as long
 * @returns 0 where that cannot be known
 */
export function connectionsWaitingFor({ host, port }: HostPort, sockets: number): number {
  const address = kernelText(host);
  if (address === undefined) return 0;
  let waiting = 0;
  let left = sockets;
  try {
    for (const each of listeners(isIPv4(host) ? "/proc/net/tcp" : TABLE_6)) {
      if (each.port !== port || each.address !== address) continue;
      waiting += each.waiting;
      if (--left === 0) break;
    }
  } catch {
    return 0;
  }
  return waiting;
}

const TABLE_6 = "/proc/net/tcp6";

/** A socket that listens, with the address as the table writes it. */
interface ListeningSocket {
  readonly address: string;
  readonly port: number;
  /** Connections that were not accepted yet. */
  readonly waiting: number;
}

/**
 * The sockets that listen. They stand first in the table (proc_net_tcp(5)): behind them there may be tens of thousands
 * of connections that are over, so it is not read to its end.
 */
function* listeners(file: string): Generator<ListeningSocket> {
  const table = openSync(file, "r");
  try {
    // Six rows: the kernel looks on until it has filled this, and connections lie scattered in a large table.
    const piece = Buffer.allocUnsafe(1024);
    let text = "";
    for (;;) {
      const length = readSync(table, piece);
      if (length === 0) return;
      const lines = (text + piece.toString("latin1", 0, length)).split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        // Number, local address, remote address, state, what waits to be sent and to be read; 0A is LISTEN. The first
        // line names the columns.
        const [number = "", local = "", , state, queues = ""] = line.trim().split(/\s+/, 5);
        if (number === "sl") continue;
        if (state !== "0A") return;
        const [address = "", port = ""] = local.split(":");
        const [, waiting = "0"] = queues.split(":");
        yield { address, port: Number.parseInt(port, 16), waiting: Number.parseInt(waiting, 16) };
      }
    }
  } finally {
    closeSync(table);
  }
}

/** Whether there are connections that sockets on either address would take; both as the tables write them. */
function overlap(one: string, other: string): boolean {
  if (one === ANY_6 || other === ANY_6) return true;
  const [a, b] = [withoutMapping(one), withoutMapping(other)];
  return a === b || (a.length === b.length && (a === ANY_4 || b === ANY_4));
}

/** An IPv4 address in IPv6 form is the IPv4 address. */
function withoutMapping(address: string): string {
  return address.startsWith(MAPPED) ? address.slice(MAPPED.length) : address;
}

/** An address as the kernel's tables write it: each 32 bits as one number of this machine. */
function kernelText(host: string): string | undefined {
  const bytes = bytesOf(host);
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
  if (isIPv4(host)) return host.split(".").map(Number);
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

const ANY_4 = kernelText("0.0.0.0")!;
const ANY_6 = kernelText("::")!;
/** What stands before an IPv4 address in IPv6 form. */
const MAPPED = kernelText("::ffff:0.0.0.0")!.slice(0, 24);
