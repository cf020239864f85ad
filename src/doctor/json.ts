/**
 * Diagnoses as the JSON of `holdfast doctor --json`, described in docs/commands/doctor.md.
 *
 * @module
 */
import type { Diagnosis } from "./diagnose.ts";
import type { Finding, Unknown } from "./finding.ts";
import type { Hop, Side } from "./hop.ts";
import type { PoolSize } from "./pool-sizes.ts";

/** Name of the format, with its version. */
export const DOCTOR_FORMAT = "holdfast-doctor/1";

/** What `--json` prints. */
export interface DoctorDocument {
  readonly format: typeof DOCTOR_FORMAT;
  /** Whether no chain has a fault. */
  readonly sound: boolean;
  readonly chains: readonly {
    readonly hops: readonly unknown[];
    readonly findings: readonly Finding[];
    readonly unknown: readonly Unknown[];
  }[];
  /** What the running sidecars that were asked know of every origin. */
  readonly pools: readonly PoolSize[];
}

/** The document of some diagnoses. */
export function doctorDocument(diagnoses: readonly Diagnosis[], pools: readonly PoolSize[] = []): DoctorDocument {
  return {
    format: DOCTOR_FORMAT,
    sound: diagnoses.every(({ findings }) => findings.length === 0),
    chains: diagnoses.map(({ chain, findings, unknown }) => ({ hops: chain.map(hopJson), findings, unknown })),
    pools,
  };
}

function hopJson(hop: Hop): unknown {
  const { kind, name, product } = hop;
  if (hop.kind === "device") return { kind, name, product, forgetsMs: hop.forgetsMs, resets: hop.resets };
  const { downstream, upstream, drainMs = null, deregistrationMs = null, rttMs = null, tls, measured } = hop;
  return {
    kind,
    name,
    product,
    downstream: downstream === undefined ? null : sideJson(downstream),
    upstream: upstream === undefined ? null : sideJson(upstream),
    drainMs,
    deregistrationMs,
    rttMs,
    tls,
    measured:
      measured === undefined
        ? null
        : {
            requestsPerSecond: measured.requestsPerSecond ?? null,
            connections: measured.connections,
            rttMs: measured.rttMs ?? null,
          },
  };
}

/** Numbers that stand for "no limit" are `"off"`, and `null` is what nobody knows, as in the admin API. */
function sideJson(side: Side): unknown {
  return Object.fromEntries(
    Object.entries(side).map(([key, value]) => [key, value === Number.POSITIVE_INFINITY ? "off" : (value ?? null)]),
  );
}
