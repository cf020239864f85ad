/**
 * Going away without losing anything: the order of steps for a whole sidecar.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { DrainConfig } from "../config/sidecar-config.ts";
import type { Logger } from "../plugin/api.ts";
import type { ProxyDirection } from "./direction.ts";

/** How long closing may take once the end is forced, in milliseconds. */
const FORCED_CLOSE_MS = 500;

/** How a drain ended. */
export interface Drained {
  /** Exchanges that had to be cut, by the deadline or by force. */
  readonly cut: number;
}

/** What a drain works on. */
export interface DrainOptions {
  readonly inbound: ProxyDirection | undefined;
  readonly outbound: ProxyDirection | undefined;
  readonly config: DrainConfig;
  readonly log: Pick<Logger, "info" | "warn">;
  /** Called once, before anything else: readiness fails from here on. */
  readonly onBegin: () => void;
  /** Closes what is left, when nothing is in flight any more. */
  readonly close: () => Promise<void>;
}

/**
 * The one drain of a sidecar. Whoever comes first begins it, whoever comes later takes it further: {@link begin},
 * {@link release}, {@link force}.
 *
 * Inbound responses say `Connection: close`; idle inbound connections get a grace, so that a request already on its way
 * still finds us; then inbound closes. Outbound works until inbound is done and it is released, because the service may
 * still need it to finish its answers. One deadline for all, counted from the beginning.
 */
export class Drain {
  readonly #options: DrainOptions;
  readonly #released = Promise.withResolvers<void>();
  readonly #forced = Promise.withResolvers<void>();
  readonly #end = Promise.withResolvers<Drained>();
  #begun = false;
  #isReleased = false;
  #isForced = false;

  constructor(options: DrainOptions) {
    this.#options = options;
    // Whoever began the drain is told of its failure; nobody else has to listen.
    this.#end.promise.catch(() => {});
  }

  /** Resolves when the drain is over, whoever began it. */
  get end(): Promise<Drained> {
    return this.#end.promise;
  }

  /** Drains inbound. Outbound stays open until {@link release} or the deadline. */
  begin(): Promise<Drained> {
    if (!this.#begun) {
      this.#begun = true;
      this.#run().then(this.#end.resolve, this.#end.reject);
    }
    return this.#end.promise;
  }

  /** Drains everything: inbound first, if that has not begun, then outbound. */
  release(): Promise<Drained> {
    this.#isReleased = true;
    this.#released.resolve();
    return this.begin();
  }

  /** Cuts what is in flight and closes everything now. */
  force(): Promise<Drained> {
    this.#isForced = true;
    this.#forced.resolve();
    return this.release();
  }

  async #run(): Promise<Drained> {
    const { inbound, outbound, config, log, onBegin, close } = this.#options;
    const { deadlineMs, idleGraceMs } = config;
    const over = new AbortController();
    const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal: over.signal }).catch(() => {});
    const last = Promise.race([pause(deadlineMs), this.#forced.promise]).then(() => over.abort());
    const unlessOver = (step: Promise<void>): Promise<void> => Promise.race([step, last]);

    onBegin();
    inbound?.announceDrain();
    // From here on outbound responses say `Connection: close` too, while new connections are still taken.
    void this.#released.promise.then(() => outbound?.announceDrain());
    if (inbound !== undefined) {
      await pause(idleGraceMs);
      log.info({ connections: inbound.connections.count("downstream") }, "inbound takes no new connections");
      await unlessOver(inbound.drain(idleGraceMs));
    }
    if (outbound !== undefined) {
      if (!this.#isReleased && !over.signal.aborted) {
        const state = inbound === undefined ? "draining" : "inbound is drained";
        log.info({}, `${state}; outbound stays open until SIGTERM or the deadline`);
      }
      await unlessOver(this.#released.promise);
      await unlessOver(outbound.drain(idleGraceMs));
    }

    const cut = (inbound?.cut() ?? 0) + (outbound?.cut() ?? 0);
    if (cut > 0) {
      const why = this.#isForced ? "forced" : "the drain deadline came";
      log.warn({ cut }, `${why}: ${cut === 1 ? "1 exchange was cut" : `${cut} exchanges were cut`}`);
    }
    over.abort();
    await this.#unlessForced(close());
    return { cut };
  }

  /** A second signal must not wait for a plugin or a collector that takes its time. */
  async #unlessForced(closing: Promise<void>): Promise<void> {
    const closed = new AbortController();
    const patience = this.#forced.promise
      .then(() => sleep(FORCED_CLOSE_MS, undefined, { signal: closed.signal }))
      .catch(() => {});
    await Promise.race([closing.finally(() => closed.abort()), patience]);
  }
}
