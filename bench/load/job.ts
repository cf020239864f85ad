/**
 * What load generators are asked for, and what they report.
 *
 * @module
 */

/** Something to send to a port of 127.0.0.1 again and again, and what must come back. */
export interface Exchange {
  readonly port: number;
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body: Uint8Array;
  /** The body that must come back, with status 200. */
  readonly expected: Uint8Array;
  /** Whether each request asks for the connection to be closed, so that the next one needs a new one. */
  readonly closes: boolean;
}

interface JobOf<Kind extends string> {
  readonly kind: Kind;
  readonly exchange: Exchange;
  readonly connections: number;
}

/** Each connection sends its next request as soon as it has its response. */
export interface SaturatingJob extends JobOf<"saturating"> {
  /** Ends after a time or a number of exchanges. */
  readonly until: { readonly seconds: number } | { readonly exchanges: number };
}

/** Requests leave at a fixed rate, whether or not responses come. */
export interface FixedRateJob extends JobOf<"fixed-rate"> {
  readonly requestsPerSecond: number;
  readonly seconds: number;
}

/** Opens connections, has one exchange on each and keeps them until it is told to end. */
export type IdleJob = JobOf<"idle">;

export type Job = SaturatingJob | FixedRateJob | IdleJob;

/** What a load generator saw. */
export interface LoadReport {
  /** Answered with 200 and as many body bytes as there should be; in {@link checked} reports, with the right ones. */
  readonly exchanges: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** What went wrong, and how often. */
  readonly errors: Readonly<Record<string, number>>;
  /** Fixed rate only: how much later than planned requests left, 99th percentile. */
  readonly lateP99Ms: number | undefined;
}

/** The head of the request, to which its body is to be added. */
export function requestHead({ port, method, path, body, closes }: Exchange): string {
  const length =
    method === "POST" ? `Content-Type: application/octet-stream\r\nContent-Length: ${body.length}\r\n` : "";
  const close = closes ? "Connection: close\r\n" : "";
  return `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${length}${close}\r\n`;
}
