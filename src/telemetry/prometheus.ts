/**
 * Metrics as Prometheus text.
 *
 * Written here rather than by OpenTelemetry's serialiser, which needs the metrics SDK in memory and leaves the unit
 * out of the names (`http_server_request_duration_seconds` is what dashboards look for).
 *
 * @module
 */
import type { HistogramMetric, HistogramSeries, Instruments, NumberMetric, SeriesAttributes } from "./instruments.ts";

/** What `/metrics` answers. */
export interface PrometheusText {
  readonly contentType: string;
  readonly body: string;
}

const PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Units that become a suffix of the name (OpenTelemetry's Prometheus compatibility specification). */
const UNIT_SUFFIX: Readonly<Record<string, string>> = { s: "_seconds", By: "_bytes" };

/** Text exposition format 0.0.4. @param resource - attributes of the sidecar, shown as `target_info` */
export function formatPrometheus(instruments: Instruments, resource: SeriesAttributes): PrometheusText {
  let body = `# HELP target_info The sidecar.\n# TYPE target_info gauge\ntarget_info${labels(resource)} 1\n`;
  for (const metric of instruments.all) if (metric.size > 0) body += formatMetric(metric);
  return { contentType: PROMETHEUS_CONTENT_TYPE, body };
}

function formatMetric(metric: NumberMetric | HistogramMetric): string {
  const { description, kind } = metric;
  const suffix = `${UNIT_SUFFIX[description.unit] ?? ""}${kind === "counter" ? "_total" : ""}`;
  const name = `${description.name.replace(/[^a-zA-Z0-9_]/g, "_")}${suffix}`;
  const type = kind === "sum" ? "gauge" : kind;
  let text = `# HELP ${name} ${escapeHelp(description.help)}\n# TYPE ${name} ${type}\n`;
  if (metric.kind === "histogram") for (const series of metric.series) text += formatHistogram(name, series);
  else for (const series of metric.series) text += `${name}${labels(series.attributes)} ${series.value}\n`;
  return text;
}

function formatHistogram(name: string, series: HistogramSeries): string {
  let text = "";
  let below = 0;
  for (const [bucket, count] of series.counts.entries()) {
    below += count;
    const le = bucket < series.boundaries.length ? String(series.boundaries[bucket]) : "+Inf";
    text += `${name}_bucket${labels({ ...series.attributes, le })} ${below}\n`;
  }
  const shown = labels(series.attributes);
  return `${text}${name}_sum${shown} ${series.sum}\n${name}_count${shown} ${series.count}\n`;
}

function labels(attributes: SeriesAttributes): string {
  const values = new Map<string, string>();
  for (const [attribute, value] of Object.entries(attributes)) {
    const name = attribute.replace(/^(?=\d)/, "_").replace(/[^a-zA-Z0-9_]/g, "_");
    // Two attributes may end up with one name; a name that stands twice would spoil the whole answer.
    const other = values.get(name);
    values.set(name, other === undefined ? String(value) : `${other};${value}`);
  }
  if (values.size === 0) return "";
  return `{${Array.from(values, ([name, value]) => `${name}="${escapeLabel(value)}"`).join(",")}}`;
}

function escapeHelp(text: string): string {
  return text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n");
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replace(/"/g, '\\"');
}
