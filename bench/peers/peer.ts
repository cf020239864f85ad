/**
 * What is measured side by side.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { answered } from "../answered.ts";
import type { Upstream } from "../origin/origin.ts";
import { freePort } from "../ports.ts";
import { type Command, type Running, start } from "../processes.ts";

/** Every peer that `--peers` can name. */
export const PEER_NAMES = [
  "holdfast",
  "holdfast-traced",
  "holdfast-http-proxy-3",
  "nginx",
  "haproxy",
  "caddy",
  "http-proxy-3",
  "undici",
] as const;

/** A name that `--peers` knows. */
export type PeerName = (typeof PEER_NAMES)[number];

/** Whether `--peers` knows a name. */
export function isPeerName(name: string): name is PeerName {
  return (PEER_NAMES as readonly string[]).includes(name);
}

/** A kind of proxy. */
export interface Peer {
  /** What `--peers` selects it by; variants of one peer share it. */
  readonly name: PeerName;
  /** Unique; names the peer in tables and files. */
  readonly label: string;
  /** Debian package that it comes from; `undefined`: it comes with this repository. */
  readonly debianPackage: string | undefined;
  /** Version; `undefined`: it is not installed. */
  version(): Promise<string | undefined>;
  /** Writes its configuration and tells how to start it. */
  prepare(setting: PeerSetting): PeerCommand;
}

/** What a proxy is set up with. */
export interface PeerSetting {
  /** Its own, empty. */
  readonly folder: string;
  /** Of 127.0.0.1, to listen on. */
  readonly port: number;
  readonly upstream: Upstream;
  /** Base URL that OTLP is sent to. */
  readonly collector: string;
}

/** How a proxy is started. */
export interface PeerCommand {
  readonly command: readonly string[];
  readonly env?: Command["env"];
  /** Lines of its output that tell of a fault. */
  readonly complaints?: (output: string) => readonly string[];
}

/** A running proxy. */
export interface RunningPeer {
  readonly peer: Peer;
  readonly port: number;
  readonly pid: number;
  /** From starting the process to the first answer that came through it, in milliseconds. */
  readonly startMs: number;
  /** Ends it; resolves with what it complained of. */
  stop(): Promise<readonly string[]>;
}

let started = 0;

/** Starts a proxy; resolves when an exchange went through it. */
export async function startPeer(
  peer: Peer,
  setting: { readonly parent: string; readonly upstream: Upstream; readonly collector: string },
  core: number | undefined,
): Promise<RunningPeer> {
  const folder = path.join(setting.parent, `${peer.label}-${++started}`);
  mkdirSync(folder);
  const port = await freePort();
  const { command, env, complaints } = peer.prepare({ ...setting, folder, port });
  const startedAt = performance.now();
  const running: Running = start({ name: peer.label, command, folder, core, ...(env && { env }) });
  const servesAt = await answered(port, running).catch(async (error: unknown) => {
    await running.stop().catch(() => {});
    throw error;
  });
  return {
    peer,
    port,
    pid: running.pid,
    startMs: servesAt - startedAt,
    async stop() {
      await running.stop();
      return complaints?.(running.output()) ?? [];
    },
  };
}
