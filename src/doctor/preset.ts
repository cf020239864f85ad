/**
 * What a preset is, and how one becomes a hop.
 *
 * @module
 */
import type { Downstream, Hop, Side, Templates, Upstream } from "./hop.ts";

/** What a product does at its defaults. Durations are milliseconds. */
export interface Preset {
  /** Name on the command line. */
  readonly name: string;
  /** What it is, with the version where that matters. */
  readonly title: string;
  /** Where the numbers stand. */
  readonly sources: readonly string[];
  /** What the numbers leave out. */
  readonly note?: string;
  /** The side on which requests come in. */
  readonly downstream?: Partial<Downstream>;
  /** The side on which requests go out. */
  readonly upstream?: Partial<Upstream>;
  /** Set for what only follows TCP connections. */
  readonly device?: { readonly forgetsMs: number; readonly resets: boolean };
  readonly deregistrationMs?: number;
  readonly settings: Templates;
  /** What a user sees when it sends a request into a close. */
  readonly symptom?: string;
}

const SIDE: Side = {
  keepAlive: true,
  idleMs: undefined,
  maxRequests: Number.POSITIVE_INFINITY,
  maxAgeMs: Number.POSITIVE_INFINITY,
  tcpKeepAliveMs: Number.POSITIVE_INFINITY,
  idleEvidence: undefined,
  notes: [],
};

/** A downstream side with what is not said filled in. */
export function downstreamOf(side: Partial<Downstream>): Downstream {
  const hint = { announcedMs: undefined, announcesIfAsked: false };
  const nothingSeen = { announcesAge: undefined, isAtLeast: false, closedHere: undefined };
  return { ...SIDE, ...hint, announcesEnd: true, ...nothingSeen, ...side };
}

/** An upstream side with what is not said filled in. */
export function upstreamOf(side: Partial<Upstream>): Upstream {
  return { ...SIDE, readsHint: false, asksForHint: false, hintMarginMs: 5000, ...side };
}

/** The hop that a preset describes. */
export function hopOf({ name, downstream, upstream, device, deregistrationMs, settings, symptom }: Preset): Hop {
  if (device !== undefined) return { kind: "device", name, product: name, ...device, settings };
  return {
    kind: "http",
    name,
    product: name,
    downstream: downstream === undefined ? undefined : downstreamOf(downstream),
    upstream: upstream === undefined ? undefined : upstreamOf(upstream),
    drainMs: undefined,
    deregistrationMs,
    rttMs: undefined,
    tls: false,
    settings,
    symptom,
    measured: undefined,
  };
}
