/**
 * What the sidecars of the demo measured, read from their `/metrics` as Prometheus would.
 *
 * @module
 */
import type { Direction, Side } from "../../plugin/api.ts";

/** One sample of the Prometheus text format. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** One side of one direction of one sidecar. */
export interface Measured {
  readonly sidecar: string;
  readonly direction: Direction;
  readonly side: Side;
  /** Upstream: attempts, so a retried exchange counts twice. */
  readonly exchanges: number;
  /** That were opened, whether they are closed or not. */
  readonly connections: number;
  /** Exchanges that found their connection open. */
  readonly reused: number;
  /** Connections that are still open. */
  readonly open: number;
  /** Closed connections by reason. */
  readonly closed: ReadonlyMap<string, number>;
  /** Upstream only: exchanges that met a connection which its peer had closed. */
  readonly stale: { readonly raced: number; readonly retried: number; readonly refused: number } | undefined;
}

/**
 * Reads the metrics of one sidecar.
 *
 * @param admin - URL of its admin API
 */
export async function measure(sidecar: string, admin: string, directions: readonly Direction[]): Promise<Measured[]> {
  const response = await fetch(`${admin}/metrics`);
  const samples = parseSamples(await response.text());
  return directions.flatMap((direction) =>
    (["downstream", "upstream"] as const).map((side) => ofSide(samples, sidecar, direction, side)),
  );
}

function ofSide(samples: readonly Sample[], sidecar: string, direction: Direction, side: Side): Measured {
  const sum = (name: string, labels: Readonly<Record<string, string>>): number =>
    matching(samples, name, labels).reduce((total, { value }) => total + value, 0);
  const here = { holdfast_direction: direction };
  const ofConnection = { ...here, holdfast_connection_side: side };

  const closed = new Map<string, number>();
  for (const { labels, value } of matching(samples, "holdfast_connection_closed_total", ofConnection)) {
    closed.set(labels["holdfast_connection_close_reason"] ?? "", value);
  }
  let opened = 0;
  for (const [reason, count] of closed) if (reason !== "connect_failed") opened += count;
  const isDownstream = side === "downstream";
  const open = sum(isDownstream ? "holdfast_downstream_open_connections" : "http_client_open_connections", here);
  const stale = (result: string) => sum("holdfast_upstream_stale_total", { ...here, result });
  return {
    sidecar,
    direction,
    side,
    exchanges: sum(
      isDownstream ? "http_server_request_duration_seconds_count" : "http_client_request_duration_seconds_count",
      here,
    ),
    connections: opened + open,
    reused: sum("holdfast_connection_idle_at_reuse_seconds_count", ofConnection),
    open,
    closed,
    stale: isDownstream ? undefined : { raced: stale("raced"), retried: stale("retried"), refused: stale("refused") },
  };
}

function matching(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>>): Sample[] {
  return samples.filter(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
}

/** Samples of the Prometheus text format 0.0.4, without time stamps. Comments are left out. */
export function parseSamples(body: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of body.split("\n")) {
    const match = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match === null) continue;
    const [, name = "", inside = "", value = ""] = match;
    const labels: Record<string, string> = {};
    for (const [, label = "", text = ""] of inside.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[label] = text.replace(/\\(.)/g, (_, character: string) => (character === "n" ? "\n" : character));
    }
    samples.push({ name, labels, value: value === "+Inf" ? Number.POSITIVE_INFINITY : Number(value) });
  }
  return samples;
}
