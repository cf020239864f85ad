/**
 * Whose word on earlier hops is taken: peers that may say, in `X-Forwarded-*` and `Forwarded`, who asked them.
 *
 * @module
 */
import { BlockList, isIP } from "node:net";
import type { AddressRange } from "../config/address.ts";

/** Verdicts kept; peers are few where it matters, a load balancer's addresses. */
const MAX_KEPT = 1024;

/** The addresses that are trusted. */
export class TrustedPeers {
  readonly #list = new BlockList();
  readonly #verdicts = new Map<string, boolean>();

  constructor(ranges: readonly AddressRange[]) {
    for (const { address, prefix, family } of ranges) this.#list.addSubnet(address, prefix, family);
  }

  /** @param address - of a peer, or as a peer wrote it; what is no address is not trusted */
  has(address: string): boolean {
    let verdict = this.#verdicts.get(address);
    if (verdict === undefined) {
      const family = isIP(address);
      verdict = family !== 0 && this.#list.check(address, family === 6 ? "ipv6" : "ipv4");
      if (this.#verdicts.size >= MAX_KEPT) this.#verdicts.clear();
      this.#verdicts.set(address, verdict);
    }
    return verdict;
  }

  /**
   * The address that a request really came from: of the chain that `X-Forwarded-For` and the peer make, the last that
   * is not trusted, or the first of all if every one is. What stands before it anybody could have written.
   *
   * @param peer - address of the peer itself
   * @param forwardedFor - every value of `X-Forwarded-For`, in order
   */
  clientOf(peer: string, forwardedFor: readonly string[]): string {
    let client = peer;
    if (!this.has(peer)) return client;
    for (const element of forwardedFor.join(",").split(",").reverse()) {
      const address = addressOf(element.trim());
      if (address === undefined) return client;
      client = address;
      if (!this.has(address)) return client;
    }
    return client;
  }
}

/** The address of an element, which may have a port: `192.0.2.1:80`, `[2001:db8::1]:80`; `undefined` if it is none. */
function addressOf(element: string): string | undefined {
  if (isIP(element) !== 0) return element;
  const [, bracketed, plain] = /^(?:\[([^\]]{1,45})\]|([\d.]{7,15}))(?::\d{1,5})?$/.exec(element) ?? [];
  const address = bracketed ?? plain ?? "";
  return isIP(address) === 0 ? undefined : address;
}
