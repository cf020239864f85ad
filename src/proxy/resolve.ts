/**
 * The name of an origin while its connections are open: what moves to another address is followed.
 *
 * Each new connection looks its name up anew, since node:net keeps no answers. Connections that are open know nothing
 * of that, so the names of origins in use are looked up now and then beside them.
 *
 * @module
 */
import type { LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { plainAddress } from "./address.ts";
import type { ProxyConnection } from "./connection.ts";

/** Looks one name up again and again, never twice at a time. */
export class NameWatch {
  readonly #host: string;
  readonly #refreshMs: number;
  readonly #lookup: LookupFunction;
  /** `undefined`: there was nothing to look after. */
  #nextAtMs: number | undefined;
  #isLooking = false;

  constructor(host: string, refreshMs: number, lookup: LookupFunction) {
    this.#host = host;
    this.#refreshMs = refreshMs;
    this.#lookup = lookup;
  }

  /** Whether a host can move at all: an address cannot. */
  static canMove(host: string): boolean {
    return isIP(host) === 0;
  }

  /**
   * Begins a look-up when it is time. Of these connections, those to an address that the name no longer has are drained
   * once it is over; when it fails, or says nothing, all of them stay.
   *
   * @param open - read when the look-up is over
   */
  sweep(nowMs: number, open: ReadonlySet<ProxyConnection>): void {
    if (open.size === 0) {
      this.#nextAtMs = undefined;
      return;
    }
    this.#nextAtMs ??= nowMs + this.#refreshMs;
    if (nowMs < this.#nextAtMs || this.#isLooking) return;
    this.#isLooking = true;
    const askedAtMs = performance.now();
    this.#lookup(this.#host, { all: true }, (error, found) => {
      this.#isLooking = false;
      this.#nextAtMs = performance.now() + this.#refreshMs;
      if (error === null && found.length > 0) retire(open, addressesOf(found), askedAtMs);
    });
  }
}

function addressesOf(found: string | LookupAddress[]): Set<string> {
  const list = typeof found === "string" ? [found] : found.map(({ address }) => address);
  return new Set(list.map(plainAddress));
}

function retire(open: Iterable<ProxyConnection>, addresses: ReadonlySet<string>, askedAtMs: number): void {
  for (const connection of [...open]) {
    // One that opened meanwhile has had its own answer. A tunnel is for its two ends to close.
    if (connection.openedAtMs >= askedAtMs || connection.protocol === "tunnel") continue;
    if (!addresses.has(connection.remoteAddress)) connection.drain("max_age");
  }
}
