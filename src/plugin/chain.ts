/**
 * The chain of filters of one direction. What a plugin throws is caught here and in the runs that the chain makes; what
 * follows from it is {@link Chain.fail}.
 *
 * @module
 */
import { HoldfastError } from "../errors.ts";
import type { Connection, ConnectionHooks, Exchange, PluginFailure, Pool } from "./api.ts";
import { type ConnectionCalls, ConnectionLink, ConnectionRun, NO_CONNECTION_HOOKS } from "./connection-run.ts";
import { ExchangeLink, ExchangeRun, NO_EXCHANGE_HOOKS } from "./exchange-run.ts";
import { asHooks, type ChainLink, isThenable, pluginError, refusePromise } from "./hooks.ts";
import { withTimeLimit } from "./time-limit.ts";

/** How long a filter may take to close, in milliseconds: a plugin must not outlast the drain's deadline. */
const CLOSE_TIMEOUT_MS = 5000;

/** Filters in the order of the `plugins` list. Hooks on the way back run in reverse. */
export class Chain {
  readonly #links: readonly ChainLink[];
  readonly #connectionLinks: readonly ConnectionLink[];
  readonly #exchangeLinks: readonly ExchangeLink[];
  readonly #report: (failure: PluginFailure) => void;

  /** @param report - told of every failure of a hook, for the log */
  constructor(links: readonly ChainLink[], report: (failure: PluginFailure) => void) {
    this.#links = links;
    this.#connectionLinks = links.flatMap((link) =>
      link.filter.connection === undefined ? [] : new ConnectionLink(link, link.filter.connection),
    );
    this.#exchangeLinks = links.flatMap((link) =>
      link.filter.exchange === undefined ? [] : new ExchangeLink(link, link.filter.exchange),
    );
    this.#report = report;
  }

  /**
   * Lets every filter state the limits of a new pool.
   *
   * @throws HoldfastError when a plugin with `onError: "fail"` failed; the pool is then not to be used
   */
  pool(pool: Pool): void {
    let failure: HoldfastError | undefined;
    for (const link of this.#links) {
      if (link.filter.pool === undefined) continue;
      try {
        refusePromise(link.filter.pool(pool));
      } catch (error) {
        this.fail(link, "pool", error, undefined, undefined);
        if (link.onError === "fail") failure ??= pluginError(link.name, "pool", error);
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Whether this very link is in the chain. */
  has(link: ChainLink): boolean {
    return this.#links.includes(link);
  }

  /**
   * Shows a connection to every filter; the run holds the hooks they want called.
   *
   * @param before - of another chain that the connection was shown to: filters that are in both are not shown it again,
   *   and keep their hooks
   */
  connection(connection: Connection, before?: ConnectionRun): ConnectionRun {
    if (this.#connectionLinks.length === 0) return NO_CONNECTION_HOOKS;
    const wanted: ConnectionHooks[] = [];
    const calls: ConnectionCalls[] = [];
    let failure: HoldfastError | undefined;
    for (const connectionLink of this.#connectionLinks) {
      const { link } = connectionLink;
      try {
        const isShown = before?.chain?.has(link) === true;
        const hooks = isShown ? before?.hooksOf(link) : connectionLink.show.call(link.filter, connection);
        if (hooks === undefined) continue;
        // First: reading them is the plugin's code where they are accessors.
        calls.push(connectionLink.callsOf(asHooks<ConnectionHooks>(hooks)));
        wanted.push(hooks);
      } catch (error) {
        this.fail(link, "connection", error, connection, undefined);
        if (link.onError === "fail") failure ??= pluginError(link.name, "connection", error);
      }
    }
    // Copies, because an array that grew holds room for more, and there may be many thousand connections.
    return new ConnectionRun(this, connection, wanted.slice(), calls.slice(), failure);
  }

  /**
   * Shows an exchange to every filter; the run holds the hooks they want called.
   *
   * A plugin with `onError: "fail"` that failed is in {@link ExchangeRun.failure}.
   */
  exchange(exchange: Exchange): ExchangeRun {
    const links = this.#exchangeLinks;
    if (links.length === 0) return NO_EXCHANGE_HOOKS;
    const run = new ExchangeRun(this, exchange, links.length);
    for (let at = 0; at < links.length; at++) {
      const exchangeLink = links[at]!;
      try {
        const hooks = exchangeLink.show.call(exchangeLink.link.filter, exchange);
        if (hooks !== undefined) run.add(hooks, exchangeLink);
      } catch (error) {
        const { link } = exchangeLink;
        run.failed(this.fail(link, "exchange", error, exchange.downstream, exchange));
        if (link.onError === "fail") run.failure ??= pluginError(link.name, "exchange", error);
      }
    }
    return run;
  }

  /**
   * Closes every filter, last one first; waits for each, but not for ever.
   *
   * @param successor - filters that are in it too go on
   */
  async close(successor?: Chain): Promise<void> {
    for (const link of this.#links.toReversed()) {
      if (link.filter.close === undefined || successor?.has(link)) continue;
      try {
        const closing = link.filter.close();
        if (!isThenable(closing)) continue;
        await withTimeLimit(
          closing,
          CLOSE_TIMEOUT_MS,
          () => new HoldfastError("HF_PLUGIN_TIMEOUT", `plugin ${link.name}: close took over ${CLOSE_TIMEOUT_MS} ms`),
        );
      } catch (error) {
        this.fail(link, "close", error, undefined, undefined, "continue");
      }
    }
  }

  /**
   * Reports a failed hook to the log and to every filter that listens.
   *
   * @param onError - what follows from it. Default: what the plugin's entry says
   */
  fail(
    link: ChainLink,
    hook: string,
    error: unknown,
    connection: Connection | undefined,
    exchange: Exchange | undefined,
    onError = link.onError,
  ): PluginFailure {
    const failure: PluginFailure = { plugin: link.name, hook, error, onError, connection, exchange };
    this.#announce(failure, new Set());
    return failure;
  }

  /** @param deaf - listeners that failed on the way here: told again, they could go on failing for ever */
  #announce(failure: PluginFailure, deaf: Set<ChainLink>): void {
    this.#report(failure);
    for (const listener of this.#links) {
      if (listener.filter.pluginFailed === undefined || deaf.has(listener)) continue;
      try {
        refusePromise(listener.filter.pluginFailed(failure));
      } catch (error) {
        deaf.add(listener);
        this.#announce({ ...failure, plugin: listener.name, hook: "pluginFailed", error, onError: "continue" }, deaf);
      }
    }
  }
}
