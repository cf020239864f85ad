/**
 * Results as tables, which are Markdown and can be read in a terminal as well.
 *
 * @module
 */
import type { Reached } from "./reach.ts";
import type { Result } from "./result.ts";
import type { Metric, ScenarioResult } from "./scenarios/scenario.ts";
import { summarize } from "./summary.ts";

interface Column {
  readonly title: string;
  format(value: number): string;
}

const COLUMNS: Record<Metric, Column> = {
  cpuMicros: { title: "CPU µs/request", format: (value) => value.toFixed(value < 1000 ? 1 : 0) },
  requestsPerSecond: { title: "requests/s", format: (value) => Math.round(value).toLocaleString("en") },
  p50Ms: { title: "p50 ms", format: (value) => value.toFixed(2) },
  p99Ms: { title: "p99 ms", format: (value) => value.toFixed(2) },
  residentBytes: { title: "RSS MB", format: (value) => (value / 1e6).toFixed(1) },
  bytesPerConnection: { title: "KiB/connection", format: (value) => (value / 1024).toFixed(1) },
  spansPerRequest: { title: "spans/request", format: (value) => value.toFixed(2) },
  startMs: { title: "ms", format: (value) => value.toFixed(0) },
  lateP99Ms: { title: "load late p99 ms", format: (value) => value.toFixed(2) },
};

/** The table of a scenario. */
export function scenarioTable(result: ScenarioResult): string {
  const rows = summarize(result);
  const metrics = result.metrics.filter((metric) => rows.some(({ values }) => values[metric] !== undefined));
  const format = (value: number | undefined, how: (value: number) => string) => (value === undefined ? "" : how(value));
  const times = (value: number | undefined) => format(value, (each) => each.toFixed(2));
  return table(
    ["", ...metrics.map((metric) => COLUMNS[metric].title), "× nginx", "× HAProxy"],
    rows.map(({ subject, values, toNginx, toHaproxy }) => [
      subject,
      ...metrics.map((metric) => format(values[metric], COLUMNS[metric].format)),
      times(toNginx),
      times(toHaproxy),
    ]),
  );
}

/** What is to be reached, and whether it is. */
export function reachTable(reached: readonly Reached[]): string {
  const figure = (value: number, unit: Reached["unit"]) => `${value.toFixed(2)} ${unit}`;
  return table(
    ["scenario", "figure", "measured", "in each round", "to reach", ""],
    reached.map((each) => [
      each.scenario,
      each.text,
      figure(each.figure, each.unit),
      `${each.lowest.toFixed(2)} to ${each.highest.toFixed(2)}`,
      `${each.atLeast ? "≥" : "≤"} ${figure(each.limit, each.unit)}`,
      each.holds ? "yes" : "**no**",
    ]),
  );
}

/** What was measured, with what and on what. */
export function surroundings(result: Result): string {
  const { machine, day, peers, origin, load, pinning, rounds, seconds, quick, notes } = result;
  const versions = peers.map(({ name, version }) => `${name} ${version}`).join(", ");
  return [
    `- ${day}: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB; ${machine.kernel}, Node.js ${machine.node}`,
    `- ${versions}`,
    `- origin: ${origin}; load: ${load}; ${pinning}`,
    quick
      ? "- few exchanges, each checked byte by byte; nothing here tells of speed"
      : `- rounds: ${rounds}, of ${seconds} s each`,
    ...notes.map((note) => `- ${note}`),
  ].join("\n");
}

/** All of a result. */
export function report(result: Result): string {
  const scenarios = result.scenarios
    .filter(({ samples }) => samples.length > 0)
    .map((scenario) => `### ${scenario.title}\n\n\`${scenario.name}\`\n\n${scenarioTable(scenario)}`);
  return [surroundings(result), `### Reached\n\n${reachTable(result.reached)}`, ...scenarios].join("\n\n");
}

/** Cells as wide as the widest of their column; numbers stand on the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(3, title.length, ...rows.map((row) => row[column]!.length)));
  const isNumeric = head.map((_, column) => column > 0 && rows.every((row) => /^[\d.,]*$/.test(row[column]!)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => (isNumeric[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join(" | ")} |`;
  const rule = widths.map((width, column) => (isNumeric[column] ? `${"-".repeat(width - 1)}:` : "-".repeat(width)));
  return [line(head), line(rule), ...rows.map(line)].join("\n");
}
