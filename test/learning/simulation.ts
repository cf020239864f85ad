/**
 * Origins, a network and traffic in virtual time, with the pool's rules and the real learning between them: days pass in
 * seconds, and every run can be had again from its seed.
 *
 * @module
 */
import { LearnedOrigin } from "../../src/learning/origin.ts";
import type { LearnedPeer } from "../../src/learning/peer.ts";
import type { Random } from "../proxy/wire/random.ts";

/** What the origin does. May be changed while the simulation runs. */
export interface SimulatedOrigin {
  /** How long each of its replicas keeps an idle connection, in milliseconds. */
  limitsMs: readonly number[];
  /** By how much a replica varies that, either way: 0.1 is ±10 %. */
  jitter: number;
  /** Whether each replica has an address of its own, or all stand behind one. */
  readonly showsAddresses: boolean;
}

/** The world around the pool. */
export interface SimulationOptions {
  readonly random: Random;
  readonly origin: SimulatedOrigin;
  /** One way, in milliseconds. */
  readonly wayMs: number;
  /** Our own setting, in milliseconds. */
  readonly configuredMs: number;
  readonly canaries: number;
  /** Share of requests that must not be sent twice. */
  readonly posts: number;
}

/** What happened so far. */
export interface Counts {
  exchanges: number;
  reused: number;
  /** Requests that met a closing connection, and those of them that could not be sent again. */
  races: number;
  lost: number;
  /** Idle closes of the peer that were seen, races included. */
  closes: number;
  /** Of them, those of a replica with the smallest limit, where several at one instant count once. */
  smallestCloses: number;
}

interface Connection {
  readonly replica: number;
  readonly peer: LearnedPeer;
  readonly openedAtMs: number;
  exchanges: number;
  /** When the last response reached us, as we saw it. */
  idleSinceMs: number;
  /** How much earlier that may have been, as far as we know. */
  idleLateMs: number;
  /** When the peer closes, by its own action, and after how long. */
  closesAtMs: number;
  keptMs: number;
  isCanary: boolean;
}

/** Our event loop is late by this much on average, in milliseconds; now and then by much more. */
const LATE_MS = 0.15;
const STALL_MS = 4;
const SERVICE_MS = 1;
const SWEEP_MS = 100;

/** A pool of connections to one origin. */
export class Simulation {
  readonly counts: Counts = { exchanges: 0, reused: 0, races: 0, lost: 0, closes: 0, smallestCloses: 0 };
  readonly learned: LearnedOrigin;
  /** The longest time that a replica with the smallest limit was seen to keep a connection, in milliseconds. */
  longestSmallestMs = 0;
  nowMs: number;
  readonly #options: SimulationOptions;
  readonly #random: Random;
  /** Oldest first. */
  #connections: Connection[] = [];
  #sweptAtMs: number;
  #smallestAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SimulationOptions, startMs = 0) {
    this.#options = options;
    this.#random = options.random;
    this.nowMs = startMs;
    this.#sweptAtMs = startMs;
    this.learned = new LearnedOrigin(startMs);
  }

  get open(): number {
    return this.#connections.length;
  }

  /** Time passes until a request comes, which is then sent. */
  request(afterMs: number): void {
    this.#passTo(this.nowMs + afterMs);
    const isPost = this.#uniform() < this.#options.posts;
    this.counts.exchanges++;
    const connection = this.#take(isPost);
    if (connection === undefined) {
      this.#exchange(this.#connect());
      return;
    }
    this.counts.reused++;
    const idleMs = this.nowMs - connection.idleSinceMs;
    if (this.nowMs + this.#options.wayMs < connection.closesAtMs) {
      connection.peer.survived(idleMs, this.nowMs);
      this.#exchange(connection);
      return;
    }
    this.counts.races++;
    if (isPost) this.counts.lost++;
    this.#drop(connection);
    this.#closed(connection, idleMs, this.nowMs, 0, connection.peer.roundTripMs);
    if (!isPost) this.#exchange(this.#connect());
  }

  /** Idle time of the newest connection that may be used; `undefined` when there is none. */
  get newestIdleMs(): number | undefined {
    const newest = this.#connections.findLast((connection) => !connection.isCanary);
    return newest === undefined ? undefined : this.nowMs - newest.idleSinceMs;
  }

  /** Every connection closes at once, whatever its idle time. */
  restart(): void {
    for (const connection of this.#connections) connection.closesAtMs = Math.min(connection.closesAtMs, this.nowMs);
  }

  #take(isPost: boolean): Connection | undefined {
    for (const connection of this.#connections.toReversed()) {
      const idleMs = this.nowMs - connection.idleSinceMs;
      if (connection.isCanary || idleMs < 0) continue;
      if (this.#leaves(connection)) continue;
      if (isPost && connection.peer.isDoubtful(idleMs + connection.idleLateMs)) continue;
      return connection;
    }
    return undefined;
  }

  /** As the pool does with a connection whose limits have passed. */
  #leaves(connection: Connection): boolean {
    const { configuredMs, canaries } = this.#options;
    const idleMs = this.nowMs - connection.idleSinceMs;
    const usableIdleMs = connection.peer.usableIdleMs - connection.idleLateMs;
    if (idleMs < Math.min(configuredMs, usableIdleMs)) return false;
    const watched = this.#connections.filter(({ isCanary }) => isCanary).length;
    if (usableIdleMs < configuredMs && watched < canaries) connection.isCanary = true;
    else this.#leave(connection);
    return true;
  }

  #leave(connection: Connection): void {
    connection.peer.survived(this.nowMs - connection.idleSinceMs - 2 * STALL_MS, this.nowMs);
    this.#drop(connection);
  }

  #connect(): Connection {
    const { origin, wayMs } = this.#options;
    const replica = this.#random.below(origin.limitsMs.length);
    this.nowMs += 2 * wayMs;
    const address = origin.showsAddresses ? `10.0.0.${replica}` : "10.0.0.0";
    const peer = this.learned.opened(address, 2 * wayMs + this.#late(), this.nowMs);
    const opened = {
      replica,
      peer,
      openedAtMs: this.nowMs,
      exchanges: 0,
      idleSinceMs: 0,
      idleLateMs: 0,
      closesAtMs: 0,
      keptMs: 0,
    };
    return { ...opened, isCanary: false };
  }

  #exchange(connection: Connection): void {
    const { origin, wayMs } = this.#options;
    this.#drop(connection);
    const sentAtMs = this.nowMs + wayMs + SERVICE_MS;
    const limitMs = origin.limitsMs[connection.replica % origin.limitsMs.length]!;
    connection.exchanges++;
    const late = this.#late();
    connection.idleSinceMs = sentAtMs + wayMs + late;
    connection.idleLateMs = this.#possible(late);
    connection.keptMs = limitMs * (1 + origin.jitter * (2 * this.#uniform() - 1));
    connection.closesAtMs = sentAtMs + connection.keptMs;
    this.#connections.push(connection);
  }

  /** What the peer closed until then is seen, and what is idle for too long is left. */
  #passTo(untilMs: number): void {
    for (;;) {
      let next: Connection | undefined;
      for (const connection of this.#connections) {
        if (next === undefined || connection.closesAtMs < next.closesAtMs) next = connection;
      }
      const closeMs = (next?.closesAtMs ?? Number.POSITIVE_INFINITY) + this.#options.wayMs;
      const sweepMs = this.#nextSweepMs(untilMs);
      if (Math.min(closeMs, sweepMs) > untilMs) break;
      if (closeMs <= sweepMs) {
        const late = this.#late();
        this.nowMs = Math.max(this.nowMs, closeMs);
        this.#drop(next!);
        this.#closed(next!, closeMs + late - next!.idleSinceMs, closeMs + late, late);
      } else {
        this.nowMs = Math.max(this.nowMs, sweepMs);
        this.#sweep();
      }
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  /** Sweeps that would find nothing to do are not made: a night is long. */
  #nextSweepMs(untilMs: number): number {
    if (this.#connections.length === 0) return Number.POSITIVE_INFINITY;
    const stepMs = Math.max(SWEEP_MS, Math.min((untilMs - this.nowMs) / 20, 1000));
    return this.#sweptAtMs + stepMs < this.nowMs ? this.nowMs : this.#sweptAtMs + stepMs;
  }

  #sweep(): void {
    const { configuredMs } = this.#options;
    for (const connection of [...this.#connections]) {
      const idleMs = this.nowMs - connection.idleSinceMs;
      if (idleMs < 0) continue;
      if (connection.isCanary) {
        const enoughMs = Math.min(configuredMs, connection.peer.limit?.outlivedMs ?? 0);
        if (idleMs > enoughMs) this.#leave(connection);
        continue;
      }
      connection.peer.seenOpen(this.#sweptAtMs - connection.idleSinceMs);
      this.#leaves(connection);
    }
    this.learned.sweep(this.nowMs);
    this.#sweptAtMs = this.nowMs;
  }

  #closed(connection: Connection, idleMs: number, atMs: number, late = 0, wayMs = 0): void {
    const { origin } = this.#options;
    this.counts.closes++;
    const smallestMs = Math.min(...origin.limitsMs);
    const isSmallest = origin.limitsMs[connection.replica % origin.limitsMs.length] === smallestMs;
    if (isSmallest) this.longestSmallestMs = Math.max(this.longestSmallestMs, connection.keptMs);
    if (isSmallest && atMs - this.#smallestAtMs >= Math.min(250, smallestMs / 3)) {
      this.counts.smallestCloses++;
      this.#smallestAtMs = atMs;
    }
    if (idleMs <= 0) return;
    const { peer, exchanges, openedAtMs } = connection;
    peer.ended({ exchanges, ageMs: atMs - openedAtMs, idleMs, announced: false, atMs });
    const openMs = Math.max(0, idleMs - this.#possible(late));
    peer.closed({ openMs, closedMs: idleMs + connection.idleLateMs + wayMs, atMs });
  }

  /** What the event loop may have been late is known as an upper bound only. */
  #possible(late: number): number {
    return late * (1 + 2 * this.#uniform()) + 0.5 * this.#uniform();
  }

  #drop(connection: Connection): void {
    this.#connections = this.#connections.filter((other) => other !== connection);
  }

  #late(): number {
    const late = -LATE_MS * Math.log(1 - this.#uniform());
    return this.#random.oneIn(50) ? late + STALL_MS * this.#uniform() : late;
  }

  #uniform(): number {
    return this.#random.below(1 << 24) / (1 << 24);
  }
}
