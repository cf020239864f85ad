/**
 * Charts of the lab, as SVG.
 *
 * @module
 */
import { WAY_TITLES } from "./document.ts";
import type { FleetResult } from "./fleet.ts";
import { type PageResult, WAYS } from "./pages.ts";

const WIDTH = 760;
const MARGIN = 16;
const LABEL_WIDTH = 262;
const VALUE_WIDTH = 80;
const BAR_HEIGHT = 18;
const ROW_HEIGHT = 24;
const TITLE_HEIGHT = 36;

/** Page loads with the most resources, one at a time: a panel for each round-trip time. */
export function pagesChart(pages: readonly PageResult[]): string {
  const most = Math.max(...pages.map(({ resources }) => resources));
  const least = Math.min(...pages.map(({ atOnce }) => atOnce));
  const shown = pages.filter(({ resources, atOnce }) => resources === most && atOnce === least);
  const parts: string[] = [];
  let y = MARGIN;
  for (const [rttMs, panel] of Map.groupBy(shown, (page) => page.rttMs)) {
    parts.push(title(`A page with ${most} resources, one at a time, RTT ${rttMs} ms (seconds)`, y));
    y += TITLE_HEIGHT;
    const longest = Math.max(...panel.map(({ measuredMs, expectedMs }) => Math.max(measuredMs, expectedMs)));
    const scale = (WIDTH - 2 * MARGIN - LABEL_WIDTH - VALUE_WIDTH) / longest;
    for (const scheme of ["http", "https"] as const) {
      for (const way of WAYS) {
        const page = panel.find((each) => each.scheme === scheme && each.way === way);
        if (page === undefined) continue;
        parts.push(bar(page, `${WAY_TITLES[way]}, ${scheme.toUpperCase()}`, y, scale));
        y += ROW_HEIGHT;
      }
    }
    y += MARGIN;
  }
  parts.push(
    `<line class="expected" x1="${MARGIN}" x2="${MARGIN}" y1="${y - 2}" y2="${y + 14}"/>`,
    `<text x="${MARGIN + 8}" y="${y + 11}">what round trips alone take</text>`,
  );
  return svg("How long a page takes over a slow link: shorter is better", y + 24, parts);
}

function bar({ way, measuredMs, expectedMs }: PageResult, label: string, y: number, scale: number): string {
  const x = MARGIN + LABEL_WIDTH;
  const width = Math.max(1, measuredMs * scale);
  const expectedX = (x + expectedMs * scale).toFixed(1);
  return `<text x="${x - 8}" y="${y + 13}" text-anchor="end">${escapeText(label)}</text>
<rect class="${way === "direct" ? "without" : "with"}" x="${x}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}" rx="2"/>
<line class="expected" x1="${expectedX}" x2="${expectedX}" y1="${y - 1}" y2="${y + BAR_HEIGHT + 1}"/>
<text class="value" x="${(x + width + 6).toFixed(1)}" y="${y + 13}">${(measuredMs / 1000).toFixed(2)}</text>`;
}

const BIN_MS = 500;
const PANEL_HEIGHT = 70;

/** Handshakes in each half second after the sidecars restarted: a panel for each case, all on one scale. */
export function fleetChart(results: readonly FleetResult[], windowMs: number): string {
  // Attempts that are refused would make the others invisible.
  const shown = results.filter(({ restart }) => restart !== "origin killed");
  const bins = shown.map(({ handshakesAtMs }) => {
    const counts = new Array<number>(Math.ceil(windowMs / BIN_MS)).fill(0);
    for (const atMs of handshakesAtMs) {
      const at = Math.floor(atMs / BIN_MS);
      if (at < counts.length) counts[at]!++;
    }
    return counts;
  });
  const highest = Math.max(1, ...bins.flat());
  const axis = 30;
  const width = (WIDTH - 2 * MARGIN - axis) / (windowMs / BIN_MS);
  const parts: string[] = [];
  let y = MARGIN;
  for (const [index, { name }] of shown.entries()) {
    parts.push(title(name.replaceAll("`", ""), y));
    const base = y + TITLE_HEIGHT + PANEL_HEIGHT;
    const left = MARGIN + axis;
    parts.push(
      `<line class="axis" x1="${left}" x2="${WIDTH - MARGIN}" y1="${base}" y2="${base}"/>`,
      `<text class="value" x="${left - 6}" y="${base - PANEL_HEIGHT + 10}" text-anchor="end">${highest}</text>`,
      `<text class="value" x="${left - 6}" y="${base}" text-anchor="end">0</text>`,
    );
    for (const [at, count] of bins[index]!.entries()) {
      if (count === 0) continue;
      const height = (count / highest) * PANEL_HEIGHT;
      parts.push(
        `<rect class="with" x="${(left + at * width + 1).toFixed(1)}" y="${(base - height).toFixed(1)}" width="${(width - 2).toFixed(1)}" height="${height.toFixed(1)}"/>`,
      );
    }
    for (let second = 0; second <= windowMs / 1000; second += 5) {
      const x = left + ((second * 1000) / BIN_MS) * width;
      const anchor = second === 0 ? "start" : second * 1000 === windowMs ? "end" : "middle";
      parts.push(`<text class="value" x="${x.toFixed(1)}" y="${base + 16}" text-anchor="${anchor}">${second} s</text>`);
    }
    y = base + 16 + MARGIN;
  }
  return svg("Handshakes in each half second after a restart", y + 4, parts);
}

function title(text: string, top: number): string {
  return `<text class="title" x="${MARGIN}" y="${top + 18}">${escapeText(text)}</text>`;
}

function svg(name: string, height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">
<title>${escapeText(name)}</title>
<style>
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .value { font-variant-numeric: tabular-nums; }
  .with { fill: #0969da; }
  .without { fill: #afb8c1; }
  .expected { stroke: #cf222e; stroke-width: 2; }
  .axis { stroke: #8c959f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .with { fill: #4493f8; }
    .without { fill: #57606a; }
    .expected { stroke: #ff7b72; }
  }
</style>
${parts.join("\n")}
</svg>
`;
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
