/**
 * Who listens on an address of this machine, as Linux tells it.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { endianness } from "node:os";
import type { HostPort } from "../config/sidecar-config.ts";

/**
 * How many sockets of this network namespace listen on exactly this address, those of other processes included.
 *
 * @returns `undefined` where that cannot be known: not on Linux, without /proc, or for a name
 */
export function socketsListeningOn({ host, port }: HostPort): number | undefined {
  const address = kernelText(host);
  if (address === undefined) return undefined;
  let table: string;
  try {
    table = readFileSync(isIPv4(host) ? "/proc/net/tcp" : "/proc/net/tcp6", "latin1");
  } catch {
    return undefined;
  }
  const local = `${address}:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  // proc_net_tcp(5): local address, remote address, state; 0A is LISTEN.
  return table.split(`: ${local} `).filter((rest) => /^[0-9A-F]+:0000 0A /.test(rest)).length;
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
