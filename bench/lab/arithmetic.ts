/**
 * What must come out, from round trips alone: no queueing, no bandwidth, no work on either side.
 *
 * @module
 */

/** How connections across the slow link are used. */
export type Keeping =
  /** One for each request. */
  | "none"
  /** Kept, none open at the beginning. */
  | "cold"
  /** Kept, as many open at the beginning as are needed. */
  | "warm";

/** A page load. */
export interface PageLoad {
  /** Beside the document. */
  readonly resources: number;
  /** How many resources are fetched at one time, after the document. */
  readonly atOnce: number;
  readonly keeping: Keeping;
  readonly scheme: "http" | "https";
}

/** Round trips before the first request can be sent: TCP, and with TLS 1.3 one more (RFC 8446 §2). */
export function handshakeRoundTrips(scheme: PageLoad["scheme"]): number {
  return scheme === "http" ? 1 : 2;
}

/** Round trips that a page load takes. */
export function roundTrips({ resources, atOnce, keeping, scheme }: PageLoad): number {
  const handshake = handshakeRoundTrips(scheme);
  const connections = Math.min(atOnce, resources);
  switch (keeping) {
    case "none":
      return (1 + Math.ceil(resources / connections)) * (handshake + 1);
    case "warm":
      return 1 + Math.ceil(resources / connections);
    case "cold": {
      // The document's connection fetches resources while the others are opened.
      let after = connections === 1 ? 0 : handshake + 1;
      while (after + (connections - 1) * (after - handshake) < resources) after++;
      return handshake + 1 + after;
    }
  }
}

/** Connections that a page load opens across the slow link. */
export function handshakes({ resources, atOnce, keeping }: PageLoad): number {
  switch (keeping) {
    case "none":
      return 1 + resources;
    case "warm":
      return 0;
    case "cold":
      return Math.min(atOnce, resources);
  }
}

/** The arithmetic in words: `31 × (1 + 2) RTT`. */
export function formula({ resources, atOnce, keeping, scheme }: PageLoad): string {
  const handshake = handshakeRoundTrips(scheme);
  const connections = Math.min(atOnce, resources);
  const rounds = 1 + Math.ceil(resources / connections);
  switch (keeping) {
    case "none":
      return `${rounds} × (${handshake} + 1) RTT`;
    case "warm":
      return `${rounds} × 1 RTT`;
    case "cold":
      return connections === 1
        ? `${handshake} + ${rounds} × 1 RTT`
        : `${roundTrips({ resources, atOnce, keeping, scheme })} RTT, ${connections} handshakes of ${handshake} at once`;
  }
}
