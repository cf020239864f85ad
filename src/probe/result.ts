/**
 * What a probe found out: the JSON of `holdfast probe --json`, described in docs/commands/probe.md. Fields may be added
 * to it; none is renamed or taken away within a format.
 *
 * @module
 */
import type { ProbeMethod } from "./peer.ts";

/** Name of the format, with its version. */
export const PROBE_FORMAT = "holdfast-probe/1";

/** What `--json` prints. */
export interface ProbeDocument {
  readonly format: typeof PROBE_FORMAT;
  readonly results: readonly ProbeResult[];
  /** A sidecar.json with the lines to use; `null` when no peer answered. */
  readonly sidecar: SidecarLines | null;
}

/** What was found out of one peer. `null` stands for what was not measured; {@link notMeasured} says why. */
export interface ProbeResult {
  readonly url: string;
  /** What was asked for instead of the URL's host; `null`: nothing. */
  readonly host: string | null;
  readonly method: ProbeMethod;
  /** Addresses that were connected to. */
  readonly addresses: readonly string[];
  /** Status of the first response. */
  readonly status: number | null;
  /** Version of the first response. */
  readonly version: "1.0" | "1.1" | null;
  readonly keepAlive: Persistence;
  /** What the first response on a connection advertised in `Keep-Alive`; `null` when nothing. */
  readonly hint: {
    readonly timeoutMs: number | null;
    readonly maxRequests: number | null;
    /** Whether it is advertised only to requests with `Connection: keep-alive`. */
    readonly onlyWhenAsked: boolean;
  } | null;
  readonly idle: {
    /** Idle after one exchange: what a pool's connection is. */
    readonly afterRequest: IdleMeasured | null;
    /** Idle from the beginning. */
    readonly beforeRequest: IdleMeasured | null;
  };
  readonly requests: RequestsMeasured | null;
  readonly setup: SetupMeasured | null;
  readonly hintTruth: HintTruth;
  readonly notMeasured: readonly NotMeasured[];
  /** Whether it was stopped before it was over. */
  readonly interrupted: boolean;
}

/** Something that was not measured. */
export interface NotMeasured {
  readonly what: "everything" | "keep-alive" | "set-up" | "requests" | "idle after a request" | "idle before a request";
  readonly why: string;
}

/**
 * What became of a connection after its first response: `kept`, and a second request was answered; `closed`, as was
 * announced; `broken`: it was closed although the response said that it stays.
 */
export type Kept = "kept" | "closed" | "broken";

/** Whether connections are kept, by how that is asked for. */
export interface Persistence {
  /** HTTP/1.1 without a word about it: kept by default (RFC 9112 §9.3). */
  readonly http11: Kept | null;
  /** HTTP/1.1 with `Connection: keep-alive`. */
  readonly http11KeepAlive: Kept | null;
  /** HTTP/1.1 with `Connection: close`. */
  readonly http11Close: Kept | null;
  /** HTTP/1.0 without a word about it: closed by default. */
  readonly http10: Kept | null;
  /** HTTP/1.0 with `Connection: keep-alive`. */
  readonly http10KeepAlive: Kept | null;
}

/** How long idle connections were kept. */
export interface IdleMeasured {
  /** The shortest time after which one was closed, in milliseconds; `null`: none was. */
  readonly shortestMs: number | null;
  readonly longestMs: number | null;
  /** How long was waited at most. */
  readonly waitedMs: number;
  /** Connections that were not closed: whether they still answered; `null` when all were closed. */
  readonly stillAnswers: boolean | null;
  readonly connections: readonly IdleConnection[];
}

/** One idle connection. */
export interface IdleConnection {
  readonly address: string | null;
  /** When it was closed, or how long it was watched. */
  readonly idleMs: number;
  /** How it ended; `open`: it did not. */
  readonly end: "fin" | "reset" | "failed" | "open";
  /** First line that the peer said before it closed, such as `HTTP/1.1 408 Request Timeout`. */
  readonly said: string | null;
}

/** How many requests one connection carries. */
export interface RequestsMeasured {
  /** Requests that were answered on one connection. */
  readonly answered: number;
  /**
   * `announced`: the last response said `Connection: close`. `unannounced`: it was closed without a word.
   * `not reached`: no limit up to `--max-requests`. `refused`: stopped because of a 429 or 503.
   */
  readonly end: "announced" | "unannounced" | "not reached" | "refused";
}

/** What opening a connection costs: medians, in milliseconds. */
export interface SetupMeasured {
  readonly dnsMs: number | null;
  readonly tcpMs: number;
  readonly tlsMs: number | null;
  readonly tlsVersion: string | null;
  /** Whether a TLS session is resumed; `null` without TLS. */
  readonly tlsResumes: boolean | null;
  /** The TLS handshake where the session was resumed. */
  readonly tlsResumedMs: number | null;
  /** From the request to the first byte of its response on a connection just opened, without opening it. */
  readonly firstByteMs: number;
  /** The same on a connection that had been used before; `null` when none is kept. */
  readonly reusedFirstByteMs: number | null;
  /** What a kept connection saves: opening, and the slower first response; `null` when none is kept. */
  readonly savedMs: number | null;
}

/**
 * Whether the advertised limit is the real one: `true` within the precision of the field; `closes early`: it is closed
 * before, which costs requests; `closes late`: it is kept longer, which is harmless; `unknown`: not observed;
 * `none`: nothing was advertised.
 */
export type Truth = "true" | "closes early" | "closes late" | "unknown" | "none";

/** Whether `Keep-Alive` tells the truth. */
export interface HintTruth {
  readonly timeout: Truth;
  readonly maxRequests: Truth;
}

/** The parts of a sidecar.json that come of a probe. */
export interface SidecarLines {
  readonly service: string;
  readonly outbound: { readonly routes: readonly { readonly host: string; readonly upstream: string }[] };
  readonly backends: Readonly<Record<string, BackendLines>>;
  readonly plugins: readonly { readonly use: string; readonly config?: Readonly<Record<string, unknown>> }[];
}

/** One entry of `backends`. */
export interface BackendLines {
  readonly address: string;
  readonly port: number;
  readonly tls?: true | { readonly ca: string };
  readonly keepaliveTime?: string;
  readonly tcpKeepalive?: { readonly enable: true; readonly time: string };
}
