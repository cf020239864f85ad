/**
 * A chain of hops, as the doctor sees it: who keeps connections how long on which side, and what stands between.
 *
 * @module
 */

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
}

/** The side on which requests come in. */
export interface Downstream extends Side {
  /** What `Keep-Alive: timeout=` promises; `undefined`: nothing. */
  readonly announcedMs: number | undefined;
  /** Whether the last response on a connection says `Connection: close` when a limit of requests or age ends it. */
  readonly announcesEnd: boolean;
  /** Whether {@link idleMs} is only how long it was watched: the limit is there or above. */
  readonly isAtLeast: boolean;
}

/** The side on which requests go out. */
export interface Upstream extends Side {
  /** Whether `Keep-Alive: timeout=` of a response shortens {@link idleMs}. */
  readonly readsHint: boolean;
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
  /** What {@link after} takes; `undefined`: it does not say. */
  readonly downstream: Downstream | undefined;
  readonly devices: readonly Device[];
  readonly rttMs: number | undefined;
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
      const { upstream } = before;
      const { downstream } = hop;
      links.push({ index: links.length, before, after: hop, upstream, downstream, devices, rttMs: hop.rttMs ?? rttMs });
    }
    before = hop;
    devices = [];
  }
  return links;
}

/** Whether connections of the link are kept by both ends, as far as anybody knows. */
export function isKept({ upstream, downstream }: Link): boolean {
  return upstream?.keepAlive !== false && downstream?.keepAlive !== false;
}

/** How long the sending end really keeps an idle connection: a hint that it reads shortens its own limit. */
export function effectiveIdleMs({ upstream, downstream }: Link): number | undefined {
  if (upstream?.idleMs === undefined) return undefined;
  if (!upstream.readsHint || downstream?.announcedMs === undefined) return upstream.idleMs;
  return Math.min(upstream.idleMs, leaveAfter(downstream.announcedMs, upstream.hintMarginMs));
}

/**
 * When a connection is left whose peer announced a timeout, as the idle-timeout plugin has it: short ones get a smaller
 * margin.
 */
export function leaveAfter(announcedMs: number, marginMs: number): number {
  return announcedMs - Math.min(marginMs, Math.max(announcedMs / 5, Math.min(500, announcedMs / 2)));
}
