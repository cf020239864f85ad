/**
 * What is known of one origin: as a whole, and of each address behind its name.
 *
 * @module
 */
import { RoundTrip } from "./delay.ts";
import { FORGET_AFTER_MS } from "./idle-limit.ts";
import { LearnedPeer, type PeerMemory } from "./peer.ts";

/** Addresses of one origin that are told apart; further ones share what is known of the whole. */
const MAX_ADDRESSES = 64;

/** What a {@link LearnedOrigin} remembers. Plain JSON. */
export interface OriginMemory extends PeerMemory {
  readonly addresses: Readonly<Record<string, PeerMemory>>;
}

interface Address {
  readonly peer: LearnedPeer;
  usedAtMs: number;
}

/** One origin. Several peers may stand behind its name: the smallest limit holds, per address where it shows. */
export class LearnedOrigin {
  /** What holds for the origin as a whole. */
  readonly whole: LearnedPeer;
  readonly #addresses = new Map<string, Address>();
  readonly #roundTrip = new RoundTrip();

  /** @param memory - what is known from before */
  constructor(nowMs: number, memory?: OriginMemory) {
    this.whole = new LearnedPeer(nowMs, undefined, memory, (judgedAtMs) => this.#judgeAddresses(judgedAtMs));
    for (const [address, own] of Object.entries(memory?.addresses ?? {})) {
      this.#addresses.set(address, { peer: new LearnedPeer(nowMs, this.whole, own), usedAtMs: nowMs });
    }
  }

  get memory(): OriginMemory {
    const addresses: Record<string, PeerMemory> = {};
    for (const [address, { peer }] of this.#addresses) addresses[address] = peer.memory;
    return { ...this.whole.memory, addresses };
  }

  /** Every address that is told apart. */
  *addresses(): Iterable<readonly [address: string, peer: LearnedPeer]> {
    for (const [address, { peer }] of this.#addresses) yield [address, peer];
  }

  /**
   * A connection to this address opened.
   *
   * @param connectMs - how long TCP took, in milliseconds
   * @returns what is known of the peer there
   */
  opened(address: string, connectMs: number | undefined, nowMs: number): LearnedPeer {
    let entry = this.#addresses.get(address);
    if (entry === undefined) {
      if (this.#addresses.size >= MAX_ADDRESSES) return this.whole;
      entry = { peer: new LearnedPeer(nowMs, this.whole), usedAtMs: nowMs };
      this.#addresses.set(address, entry);
    }
    entry.usedAtMs = nowMs;
    if (connectMs !== undefined) {
      this.#roundTrip.measured(connectMs);
      const { boundMs } = this.#roundTrip;
      if (Math.abs(boundMs - this.whole.roundTripMs) > 0.1 * this.whole.roundTripMs) {
        this.whole.judge(nowMs, boundMs);
        this.#judgeAddresses(nowMs);
      }
    }
    return entry.peer;
  }

  /** What holds for the whole has changed: addresses that have shown nothing themselves take from it. */
  #judgeAddresses(nowMs: number): void {
    for (const { peer } of this.#addresses.values()) peer.judge(nowMs, this.whole.roundTripMs);
  }

  /** Forgets what is old. */
  sweep(nowMs: number): void {
    this.whole.sweep(nowMs);
    for (const [address, { peer, usedAtMs }] of this.#addresses) {
      if (nowMs - usedAtMs > FORGET_AFTER_MS) this.#addresses.delete(address);
      else peer.sweep(nowMs);
    }
  }
}
