/**
 * What the demo says: the table, what it means, where to look next.
 *
 * @module
 */
import { existsSync } from "node:fs";
import path from "node:path";
import type { Measured } from "./measure.ts";
import { failed, type Tally } from "./traffic.ts";

const HEADINGS = [
  "SIDECAR",
  "DIRECTION",
  "SIDE",
  "EXCHANGES",
  "CONNECTIONS",
  "PER CONN.",
  "REUSED",
  "RACED",
  "RETRIED",
  "REFUSED",
  "CLOSED BECAUSE",
];
/** Columns that hold text stand to the left, numbers to the right. */
const IS_TEXT = new Set([0, 1, 2, 10]);

/** One line for each side of each direction of each sidecar, under a line of headings. */
export function table(measured: readonly Measured[]): string[] {
  const rows = [HEADINGS, ...measured.map(cells)];
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (IS_TEXT.has(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
}

function cells(measured: Measured): string[] {
  const { exchanges, connections, reused, stale } = measured;
  return [
    measured.sidecar,
    measured.direction,
    measured.side,
    String(exchanges),
    String(connections),
    connections === 0 ? "-" : (exchanges / connections).toFixed(1),
    exchanges === 0 ? "-" : `${((reused / exchanges) * 100).toFixed(1)} %`,
    String(stale?.raced ?? "-"),
    String(stale?.retried ?? "-"),
    String(stale?.refused ?? "-"),
    endings(measured),
  ];
}

/** `idle_timeout 16, logout 3, open 8` */
function endings({ closed, open }: Measured): string {
  const parts = Array.from(closed, ([reason, count]) => `${reason} ${count}`);
  if (open > 0) parts.push(`still open ${open}`);
  return parts.length === 0 ? "-" : parts.join(", ");
}

/** What the demo found. */
export interface Findings {
  readonly measured: readonly Measured[];
  /** Calls through the sidecars. */
  readonly calls: Tally;
  /** The same calls without a sidecar. */
  readonly plainCalls: Tally;
  /** The longest pause that was run to its end, in milliseconds; 0 if there was none. */
  readonly longestPauseMs: number;
}

/** A pause in which a stock Node.js server closes, in milliseconds. */
const CLOSING_PAUSE_MS = 6000;

/** What the numbers mean, in a few sentences. */
export function verdict({ measured, calls, plainCalls, longestPauseMs }: Findings): string[] {
  const stale = measured.reduce((sum, { stale }) => sum + (stale ? stale.raced + stale.retried + stale.refused : 0), 0);
  const left = measured
    .filter(({ sidecar, side }) => sidecar === "inventory" && side === "upstream")
    .reduce((sum, { closed }) => sum + (closed.get("idle_timeout") ?? 0), 0);
  const lines = [`Through the sidecars: ${outcome(calls)}; ${stale} stale ${stale === 1 ? "race" : "races"}.`];
  if (left > 0) {
    lines.push(
      `  inventory announces that it keeps idle connections for 5 s: its sidecar left ${left} before that, on its own.`,
    );
  }
  lines.push(
    `Without a sidecar, the same calls straight to inventory with Node.js's own agent: ${outcome(plainCalls)}.`,
  );
  if (longestPauseMs < CLOSING_PAUSE_MS) {
    lines.push("  It closes in pauses of 6 s, which this run was too short for; --seconds 20 has two of them.");
  } else if (failed(plainCalls) === 0) {
    lines.push("  No call fell into the moment of a close this time; a longer run meets more of them.");
  }
  return lines;
}

function outcome(tally: Tally): string {
  const count = failed(tally);
  const reasons = Array.from(tally.failures, ([reason, times]) => `${reason} ${times}`).join(", ");
  return `${count} of ${tally.calls} calls failed${count === 0 ? "" : ` (${reasons})`}`;
}

/** What the demo was started from. */
export interface Installation {
  /** Command that runs the demo again. */
  readonly demo: string;
  /** Command that runs a sidecar. */
  readonly run: string;
  /** Folder of the documentation; `undefined` where it is not installed. */
  readonly docs: string | undefined;
}

/** The repository, which is TypeScript, or an installed package, which is JavaScript in `dist/`. */
export function installation(): Installation {
  const { dirname, filename } = import.meta;
  if (filename.endsWith(".ts")) return { demo: "npm run demo", run: "npm start", docs: "docs" };
  const docs = path.join(dirname, "..", "..", "..", "..", "docs");
  return { demo: "holdfast demo", run: "holdfast run", docs: existsSync(docs) ? docs : undefined };
}

/** Where to look next. */
export function next({ demo, run, docs }: Installation): string[] {
  const page = (name: string): string => `${docs}/${name}`;
  const pages =
    docs === undefined
      ? []
      : [
          `  how it decides     ${page("plugins/idle-timeout.md")} and ${page("plugins/keep-alive.md")}`,
          `  a running sidecar  ${page("admin/README.md")}: GET /connections, GET /metrics, PUT /backends/{name}`,
          `  its configuration  ${page("configuration.md")}`,
        ];
  return [
    "Where to look next",
    ...pages,
    `  your own service   ${run} runs sidecar.json`,
    `  traces             OTEL_TRACES_EXPORTER=otlp,console OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 ${demo}`,
  ];
}
