/**
 * A chain of hops, as the doctor sees it: who keeps connections how long on which side, and what stands between.
 *
 * @module
 */
import { shown } from "./shown.ts";

/** What a limit stands on that was seen to work, not only written somewhere. */
export interface Evidence {
  /** `learned`: from closes. `hint`: announced by the peer. `configured`: nothing shortens what is configured. */
  readonly source: "configured" | "hint" | "learned";
  /** How sure what was learned is, from 0 to 1. */
  readonly confidence: number | undefined;
  /** The closes that what was learned stands on. */
  readonly closes: number | undefined;
}

/** Connections of one side of a hop. `undefined` is what nobody knows; `Infinity` is no limit. */
export interface Side {
  /** Whether connections are kept after a response. */
  readonly keepAlive: boolean;
  /** How long an idle one is kept. */
  readonly idleMs: number | undefined;
  /** How many requests one carries. */
  readonly maxRequests: number;
  /** How old one may become. */
  readonly maxAgeMs: number;
  /** Silence before the first TCP keepalive probe; `Infinity`: none is sent. */
  readonly tcpKeepAliveMs: number;
  /** Where {@link idleMs} comes from, at a running sidecar; `undefined`: from a preset, a file or the command line. */
  readonly idleEvidence: Evidence | undefined;
  /** What else is known, a line each. */
  readonly notes: readonly string[];
}

/** The side on which requests come in. */
export interface Downstream extends Side {
  /** What `Keep-Alive: timeout=` promises; `undefined`: nothing. */
  readonly announcedMs: number | undefined;
  /** Whether it promises that only in answer to `Connection: keep-alive`. */
  readonly announcesIfAsked: boolean;
  /** Whether the last response on a connection says `Connection: close` when a limit of requests or age ends it. */
  readonly announcesEnd: boolean;
  /** The same of age alone; `undefined`: as {@link announcesEnd}. */
  readonly announcesAge: boolean | undefined;
  /** Whether {@link idleMs} is only how long it was watched: the limit is there or above. */
  readonly isAtLeast: boolean;
  /** Of the last idle connections that ended, how many were closed by this side; `undefined`: nobody counted. */
  readonly closedHere: { readonly count: number; readonly of: number } | undefined;
}

/** The side on which requests go out. */
export interface Upstream extends Side {
  /** Whether `Keep-Alive: timeout=` of a response shortens {@link idleMs}. */
  readonly readsHint: boolean;
  /** Whether requests say `Connection: keep-alive`. */
  readonly asksForHint: boolean;
  /** How much earlier than announced a connection is left then, at most. */
  readonly hintMarginMs: number;
}

/** What can be changed, by the name of its template. */
export type Setting =
  | "downstreamIdle"
  | "downstreamMaxRequests"
  | "downstreamTcpKeepAlive"
  | "downstreamKeepAlive"
  | "upstreamIdle"
  | "upstreamMaxRequests"
  | "upstreamMaxAge"
  | "upstreamTcpKeepAlive"
  | "upstreamKeepAlive"
  | "deregistration"
  | "drain"
  | "forgets";

/**
 * How a product writes a setting: `{s}`, `{m}`, `{ms}` stand for the value in whole units, `{f}` for seconds with
 * decimals, `{d}` for it as Holdfast writes durations, `{n}` for a number.
 */
export type Template = string | BoundedTemplate;

/** A setting that takes only some values. */
export interface BoundedTemplate {
  readonly text: string;
  /** The least that it takes, in milliseconds. */
  readonly leastMs: number;
  /** The most that it takes, in milliseconds. */
  readonly mostMs: number;
}

/** The settings of a product. */
export type Templates = Readonly<Partial<Record<Setting, Template>>>;

/** What is measured of the requests that a hop sends on. */
export interface Measured {
  /** `undefined`: too few were seen. */
  readonly requestsPerSecond: number | undefined;
  readonly connections: number;
  /** `undefined`: not measured. */
  readonly rttMs: number | undefined;
  /** The hop that receives them, as it was seen. */
  readonly receiver: Downstream;
}

/** Something that speaks HTTP. */
export interface HttpHop {
  readonly kind: "http";
  /** For messages. */
  readonly name: string;
  /** Which preset it comes from. */
  readonly product: string;
  readonly downstream: Downstream | undefined;
  readonly upstream: Upstream | undefined;
  /** How long it finishes what is in flight when it is to end; `undefined`: nobody knows. */
  readonly drainMs: number | undefined;
  /** How long it lets a target that leaves finish what is in flight. */
  readonly deregistrationMs: number | undefined;
  /** Round trip to the hop before it. */
  readonly rttMs: number | undefined;
  /** Whether the hop before it comes by TLS. */
  readonly tls: boolean;
  readonly settings: Templates;
  /** What a user sees when it sends a request into a close. */
  readonly symptom: string | undefined;
  /** What it has measured of its upstream side; only of one that runs. */
  readonly measured: Measured | undefined;
}

/** Something on the way that follows TCP connections, and forgets those that are silent. */
export interface Device {
  readonly kind: "device";
  readonly name: string;
  readonly product: string;
  readonly forgetsMs: number;
  /** Whether it answers with RST what comes on a connection that it forgot. */
  readonly resets: boolean;
  readonly settings: Templates;
}

/** One element of a chain. */
export type Hop = HttpHop | Device;

/** Two neighbours that speak HTTP with each other, and what is between them. */
export interface Link {
  /** Position in {@link linksOf} of the chain. */
  readonly index: number;
  readonly before: HttpHop;
  readonly after: HttpHop;
  /** What {@link before} sends on; `undefined`: it does not say. */
  readonly upstream: Upstream | undefined;
  /** What {@link after} takes, as {@link before} has measured it if it has; `undefined`: it does not say. */
  readonly downstream: Downstream | undefined;
  readonly devices: readonly Device[];
  readonly rttMs: number | undefined;
  /** What is said of {@link after} and was measured to be different, a line each. */
  readonly doubts: readonly string[];
}

/**
 * The links of a chain, from the caller to the origin.
 *
 * @param rttMs - round trip of links that do not say their own
 */
export function linksOf(chain: readonly Hop[], rttMs: number | undefined): Link[] {
  const links: Link[] = [];
  let before: HttpHop | undefined;
  let devices: Device[] = [];
  for (const hop of chain) {
    if (hop.kind === "device") {
      devices.push(hop);
      continue;
    }
    if (before !== undefined) {
      const { upstream, measured } = before;
      const downstream = measured === undefined ? hop.downstream : asMeasured(hop.downstream, measured.receiver);
      links.push({
        index: links.length,
        before,
        after: hop,
        upstream,
        downstream,
        devices,
        rttMs: hop.rttMs ?? measured?.rttMs ?? rttMs,
        doubts: doubtsOf(before, hop.downstream, downstream),
      });
    }
    before = hop;
    devices = [];
  }
  return links;
}

/** What was measured outranks what is said. */
function asMeasured(said: Downstream | undefined, seen: Downstream): Downstream {
  if (said === undefined) return seen;
  const isKnown = seen.idleMs !== undefined && (!seen.isAtLeast || seen.idleMs > (said.idleMs ?? 0));
  return {
    ...said,
    keepAlive: said.keepAlive && seen.keepAlive,
    ...(isKnown && { idleMs: seen.idleMs, isAtLeast: seen.isAtLeast, idleEvidence: seen.idleEvidence }),
    announcedMs: seen.announcedMs ?? said.announcedMs,
    ...(Number.isFinite(seen.maxRequests) && { maxRequests: seen.maxRequests, announcesEnd: seen.announcesEnd }),
    ...(Number.isFinite(seen.maxAgeMs) && { maxAgeMs: seen.maxAgeMs, announcesAge: seen.announcesAge }),
    notes: [...said.notes, ...seen.notes.filter((note) => !said.notes.includes(note))],
  };
}

/** Limits further apart than this are not the same one. */
const SAME = 1.25;

function doubtsOf(before: HttpHop, said: Downstream | undefined, seen: Downstream | undefined): string[] {
  const saidMs = said?.idleMs;
  const seenMs = seen?.idleMs;
  if (saidMs === undefined || seenMs === undefined || saidMs === seenMs) return [];
  if (Math.max(saidMs, seenMs) <= SAME * Math.min(saidMs, seenMs)) return [];
  const how = seen?.isAtLeast === true ? "open after" : "closed after";
  return [
    `whether it keeps idle connections ${shown(saidMs)}, as is said here: ${before.name} saw them ${how} ${shown(seenMs)}`,
  ];
}

/** Whether connections of the link are kept by both ends, as far as anybody knows. */
export function isKept({ upstream, downstream }: Link): boolean {
  return upstream?.keepAlive !== false && downstream?.keepAlive !== false;
}

/** How long the sending end really keeps an idle connection: a hint that it reads shortens its own limit. */
export function effectiveIdleMs({ upstream, downstream }: Link): number | undefined {
  if (upstream?.idleMs === undefined) return undefined;
  const announcedMs = downstream === undefined ? undefined : heardMs(upstream, downstream);
  if (announcedMs === undefined) return upstream.idleMs;
  return Math.min(upstream.idleMs, leaveAfter(announcedMs, upstream.hintMarginMs));
}

/** The announced timeout that reaches who sends, and is heeded. */
function heardMs(upstream: Upstream, { announcedMs, announcesIfAsked }: Downstream): number | undefined {
  const isHeard = upstream.readsHint && (upstream.asksForHint || !announcesIfAsked);
  return isHeard ? announcedMs : undefined;
}

/**
 * When a connection is left whose peer announced a timeout, as the idle-timeout plugin has it: short ones get a smaller
 * margin.
 */
export function leaveAfter(announcedMs: number, marginMs: number): number {
  return announcedMs - Math.min(marginMs, Math.max(announcedMs / 5, Math.min(500, announcedMs / 2)));
}
