/**
 * A chart of bars, as SVG.
 *
 * @module
 */
import type { Metric, ScenarioResult } from "./scenarios/scenario.ts";
import { summarize } from "./summary.ts";

const WIDTH = 760;
const LABEL_WIDTH = 190;
const VALUE_WIDTH = 70;
const BAR_HEIGHT = 18;
const ROW_HEIGHT = 24;
const TITLE_HEIGHT = 40;
const MARGIN = 16;

/** What the bars of a scenario are, by its first metric. */
const UNITS: Partial<Record<Metric, { readonly text: string; readonly divisor: number; readonly digits: number }>> = {
  cpuMicros: { text: "CPU µs per request", divisor: 1, digits: 1 },
  p99Ms: { text: "99th percentile, ms", divisor: 1, digits: 2 },
  bytesPerConnection: { text: "KiB per connection", divisor: 1024, digits: 1 },
  startMs: { text: "ms", divisor: 1, digits: 0 },
  residentBytes: { text: "MB", divisor: 1e6, digits: 0 },
};

/** One panel per scenario, one bar per subject; shorter is better everywhere. */
export function chart(results: readonly ScenarioResult[]): string {
  let y = MARGIN;
  const parts: string[] = [];
  for (const result of results) {
    const panel = drawPanel(result, y);
    if (panel === undefined) continue;
    parts.push(panel.svg);
    y += panel.height;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" role="img">
<title>Holdfast and its peers: shorter is better</title>
<style>
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .value { font-variant-numeric: tabular-nums; }
  .ours { fill: #0969da; }
  .theirs { fill: #afb8c1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .ours { fill: #4493f8; }
    .theirs { fill: #57606a; }
  }
</style>
${parts.join("\n")}
</svg>
`;
}

function drawPanel(result: ScenarioResult, top: number): { readonly svg: string; readonly height: number } | undefined {
  // At a fixed rate the tail is what matters.
  const metric = result.name === "fixed-rate" ? "p99Ms" : result.metrics[0]!;
  const unit = UNITS[metric];
  const bars = summarize(result).flatMap(({ subject, values }) => {
    const value = values[metric];
    return value === undefined ? [] : [{ subject, value }];
  });
  if (unit === undefined || bars.length === 0) return undefined;

  const longest = Math.max(...bars.map(({ value }) => value));
  const room = WIDTH - 2 * MARGIN - LABEL_WIDTH - VALUE_WIDTH;
  const rows = bars.map(({ subject, value }, index) => {
    const y = top + TITLE_HEIGHT + index * ROW_HEIGHT;
    const width = Math.max(1, (room * Math.max(0, value)) / longest).toFixed(1);
    const x = MARGIN + LABEL_WIDTH;
    const kind = subject.startsWith("holdfast") ? "ours" : "theirs";
    const written = (value / unit.divisor).toFixed(unit.digits);
    return `<text x="${x - 8}" y="${y + 13}" text-anchor="end">${escapeText(subject)}</text>
<rect class="${kind}" x="${x}" y="${y}" width="${width}" height="${BAR_HEIGHT}" rx="2"/>
<text class="value" x="${x + Number(width) + 6}" y="${y + 13}">${written}</text>`;
  });
  const title = `<text class="title" x="${MARGIN}" y="${top + 20}">${escapeText(`${result.title} (${unit.text})`)}</text>`;
  return { svg: [title, ...rows].join("\n"), height: TITLE_HEIGHT + bars.length * ROW_HEIGHT + MARGIN };
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
