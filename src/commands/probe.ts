/**
 * `holdfast probe`: how long peers keep connections, measured.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { Pace } from "../probe/pace.ts";
import type { Peer, ProbeMethod } from "../probe/peer.ts";
import { probe as measure, type Phase } from "../probe/probe.ts";
import { reportLines, suggestionLines } from "../probe/report.ts";
import { PROBE_FORMAT, type ProbeDocument, type ProbeResult } from "../probe/result.ts";
import { suggestLines } from "../probe/suggest.ts";
import { LiveBlock } from "./demo/display.ts";
import type { ExitCode } from "./main.ts";

/** What the command was asked for. */
export interface ProbeCommand {
  readonly method: ProbeMethod;
  readonly maxWaitMs: number;
  readonly maxRequests: number;
  readonly connections: number;
  /** Connections and requests a second, over all peers. */
  readonly rate: number;
  readonly timeoutMs: number;
  /** Path of a PEM file. */
  readonly ca: string | undefined;
  /** What to ask for instead of the host of each URL. */
  readonly host: string | undefined;
  readonly json: boolean;
}

/**
 * Probes peers, all at the same time, and prints what was found out. Ctrl-C ends it with what is known by then; a second
 * one ends it at once.
 *
 * @returns 0 when everything was measured, 1 when something was not, 2 when the file of `--ca` cannot be read
 */
export async function probe(peers: readonly Peer[], command: ProbeCommand): Promise<ExitCode> {
  const { host } = command;
  let ca: string | undefined;
  try {
    ca = command.ca === undefined ? undefined : readAuthorities(command.ca);
  } catch (error) {
    process.stderr.write(`holdfast: --ca: ${(error as Error).message}\n`);
    return 2;
  }
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(1);
    stop.abort();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal);

  const phases = new Map<string, Phase>();
  const live = process.stderr.isTTY ? new LiveBlock(process.stderr, async () => progressLines(phases)) : undefined;
  const pace = new Pace(command.rate);
  const results = await Promise.all(
    peers.map((peer) =>
      measure(
        { ...peer, host },
        {
          ...command,
          ca,
          pace,
          signal: stop.signal,
          progress: (phase) => void phases.set(peer.url, phase),
        },
      ),
    ),
  );
  live?.end();
  const authorities = command.ca === undefined ? undefined : path.resolve(command.ca);
  process.stdout.write(command.json ? asJson(results, authorities) : asText(results, authorities));
  return results.some(({ notMeasured, interrupted }) => notMeasured.length > 0 || interrupted) ? 1 : 0;
}

/**
 * The text of a PEM file.
 *
 * @throws Error when it cannot be read or holds no certificate, which would trust nobody without a word
 */
export function readAuthorities(file: string): string {
  const text = readFileSync(file, "utf8");
  try {
    new X509Certificate(text);
  } catch {
    throw new Error(`${file} holds no certificate in PEM`);
  }
  return text;
}

function asJson(results: readonly ProbeResult[], ca: string | undefined): string {
  const document: ProbeDocument = { format: PROBE_FORMAT, results, sidecar: suggestLines(results, ca) };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

function asText(results: readonly ProbeResult[], ca: string | undefined): string {
  const lines = results.flatMap((result) => [...reportLines(result), ""]);
  const suggestion = suggestLines(results, ca);
  if (suggestion !== null) lines.push(...suggestionLines(suggestion, results), "");
  return lines.join("\n");
}

function progressLines(phases: ReadonlyMap<string, Phase>): string[] {
  // A line that is too long is cut: the URL is what whoever typed it knows.
  return Array.from(phases, ([url, phase]) => `${phaseText(phase)}  ${url}`);
}

function phaseText(phase: Phase): string {
  switch (phase.kind) {
    case "keep-alive":
    case "set-up":
      return phase.kind;
    case "requests":
      return `${bar(phase.answered / phase.most)} request ${phase.answered} of ${phase.most}`;
    case "idle": {
      const ms = performance.now() - phase.sinceMs;
      const time = `${(ms / 1000).toFixed(0)} of at most ${phase.maxWaitMs / 1000} s`;
      return `${bar(ms / phase.maxWaitMs)} idle for ${time}, ${phase.closed} closed, ${phase.open} open`;
    }
    case "done":
      return "done";
  }
}

/** `[████████············]` */
function bar(share: number): string {
  const done = Math.round(Math.min(1, share) * 20);
  return `[${"█".repeat(done)}${"·".repeat(20 - done)}]`;
}
