/**
 * The chain of filters of one direction, and the single place where what a plugin throws is caught.
 *
 * @module
 */
import { HoldfastError } from "../errors.ts";
import { isCoreOwned, isFieldValue, isToken } from "../proxy/headers.ts";
import type {
  CloseReason,
  Connection,
  ConnectionHooks,
  Exchange,
  ExchangeHooks,
  Failure,
  Filter,
  Outcome,
  PluginFailure,
  Pool,
  Reply,
  RequestHead,
  ResponseHead,
} from "./api.ts";
import { withTimeLimit } from "./time-limit.ts";

/** How long a filter may take to close, in milliseconds: a plugin must not outlast the drain's deadline. */
const CLOSE_TIMEOUT_MS = 5000;

/** A filter with what its entry in the configuration said. */
export interface ChainLink {
  readonly name: string;
  readonly filter: Filter;
  readonly onError: "continue" | "fail";
  /** Time limit of an asynchronous `request` hook, in milliseconds. */
  readonly requestTimeoutMs: number;
}

/** Filters in the order of the `plugins` list. Hooks on the way back run in reverse. */
export class Chain {
  readonly #links: readonly ChainLink[];
  readonly #connectionLinks: readonly ChainLink[];
  readonly #exchangeLinks: readonly ChainLink[];
  readonly #report: (failure: PluginFailure) => void;

  /** @param report - told of every failure of a hook, for the log */
  constructor(links: readonly ChainLink[], report: (failure: PluginFailure) => void) {
    this.#links = links;
    this.#connectionLinks = links.filter((link) => link.filter.connection !== undefined);
    this.#exchangeLinks = links.filter((link) => link.filter.exchange !== undefined);
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
    const run = new ConnectionRun(this, connection);
    for (const link of this.#connectionLinks) {
      if (before?.chain?.has(link)) {
        const kept = before.hooksOf(link);
        if (kept !== undefined) run.add(link, kept);
        continue;
      }
      try {
        const hooks = link.filter.connection?.(connection);
        if (hooks !== undefined) run.add(link, asHooks<ConnectionHooks>(hooks));
      } catch (error) {
        this.fail(link, "connection", error, connection, undefined);
        if (link.onError === "fail") run.failure ??= pluginError(link.name, "connection", error);
      }
    }
    return run;
  }

  /**
   * Shows an exchange to every filter; the run holds the hooks they want called.
   *
   * A plugin with `onError: "fail"` that failed is in {@link ExchangeRun.failure}.
   */
  exchange(exchange: Exchange): ExchangeRun {
    if (this.#exchangeLinks.length === 0) return NO_EXCHANGE_HOOKS;
    const run = new ExchangeRun(this, exchange, this.#exchangeLinks);
    for (let at = 0; at < this.#exchangeLinks.length; at++) {
      const link = this.#exchangeLinks[at]!;
      try {
        const hooks = link.filter.exchange?.(exchange);
        if (hooks !== undefined) run.add(at, asHooks<ExchangeHooks>(hooks));
      } catch (error) {
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

/** The hooks that filters want called for one connection. */
export class ConnectionRun {
  /** Whose run it is; `undefined` where no filter wants anything of any connection. */
  readonly chain: Chain | undefined;
  readonly #connection: Connection | undefined;
  readonly #links: ChainLink[] = [];
  readonly #hooks: ConnectionHooks[] = [];
  /** A plugin with `onError: "fail"` failed on this connection: exchanges on it fail with this. */
  failure: HoldfastError | undefined;

  constructor(chain: Chain | undefined, connection: Connection | undefined) {
    this.chain = chain;
    this.#connection = connection;
  }

  add(link: ChainLink, hooks: ConnectionHooks): void {
    this.#links.push(link);
    this.#hooks.push(hooks);
  }

  /** What this link's filter wants called, if anything. */
  hooksOf(link: ChainLink): ConnectionHooks | undefined {
    const at = this.#links.indexOf(link);
    return at === -1 ? undefined : this.#hooks[at];
  }

  active(exchange: Exchange): void {
    for (let at = 0; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at]!;
      if (hooks.active === undefined) continue;
      try {
        refusePromise(hooks.active(exchange));
      } catch (error) {
        this.#failed(at, "active", error);
      }
    }
  }

  idle(): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at]!;
      if (hooks.idle === undefined) continue;
      try {
        refusePromise(hooks.idle());
      } catch (error) {
        this.#failed(at, "idle", error);
      }
    }
  }

  backendChanged(): void {
    for (let at = 0; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at]!;
      if (hooks.backendChanged === undefined) continue;
      try {
        refusePromise(hooks.backendChanged());
      } catch (error) {
        this.#failed(at, "backendChanged", error);
      }
    }
  }

  /** @param successor - the connection goes on with this chain: filters that are in it too are told nothing */
  close(reason: CloseReason, successor?: Chain): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at]!;
      if (hooks.close === undefined || successor?.has(this.#links[at]!)) continue;
      try {
        refusePromise(hooks.close(reason));
      } catch (error) {
        this.#failed(at, "close", error, "continue");
      }
    }
  }

  #failed(at: number, hook: string, error: unknown, onError = this.#links[at]!.onError): void {
    const link = this.#links[at]!;
    this.chain?.fail(link, hook, error, this.#connection, undefined, onError);
    if (onError === "fail") this.failure ??= pluginError(link.name, hook, error);
  }
}

const NO_CONNECTION_HOOKS = new ConnectionRun(undefined, undefined);

/** The hooks that filters want called for one exchange. A plugin that fails is left out for the rest of it. */
export class ExchangeRun {
  readonly #chain: Chain | undefined;
  readonly #exchange: Exchange | undefined;
  readonly #links: readonly ChainLink[];
  /** One place per link; empty where its filter wants nothing of this exchange. */
  readonly #hooks: (ExchangeHooks | undefined)[];
  /** A plugin with `onError: "fail"` failed where nothing could be thrown: the exchange fails at its next step. */
  failure: HoldfastError | undefined;
  #over = false;

  constructor(chain: Chain | undefined, exchange: Exchange | undefined, links: readonly ChainLink[] = []) {
    this.#chain = chain;
    this.#exchange = exchange;
    this.#links = links;
    this.#hooks = new Array<ExchangeHooks | undefined>(links.length).fill(undefined);
  }

  /** @param at - place of the filter's link */
  add(at: number, hooks: ExchangeHooks): void {
    this.#hooks[at] = hooks;
  }

  /**
   * Runs the `request` hooks. Synchronous as long as every hook is.
   *
   * @returns the first reply a plugin gave, `undefined` if none did
   * @throws HoldfastError when a plugin with `onError: "fail"` failed
   */
  request(head: RequestHead, from = 0): Reply | undefined | Promise<Reply | undefined> {
    this.#throwFailure();
    for (let at = from; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at];
      if (hooks?.request === undefined) continue;
      let returned: unknown;
      try {
        returned = hooks.request(head, this.#exchange!);
        if (returned === undefined) continue;
        if (isThenable(returned)) return this.#requestLater(at, returned, head);
        return asReply(returned);
      } catch (error) {
        this.#hookFailed(at, "request", error);
      }
      this.#throwFailure();
    }
    return undefined;
  }

  async #requestLater(at: number, pending: PromiseLike<unknown>, head: RequestHead): Promise<Reply | undefined> {
    const { name, requestTimeoutMs } = this.#links[at]!;
    try {
      const returned = await withTimeLimit(
        pending,
        requestTimeoutMs,
        () => new HoldfastError("HF_PLUGIN_TIMEOUT", `plugin ${name}: request hook took over ${requestTimeoutMs} ms`),
      );
      if (returned !== undefined) return asReply(returned);
    } catch (error) {
      this.#hookFailed(at, "request", error);
    }
    // The downstream peer may have gone meanwhile: nothing runs after `end`.
    return this.#over ? undefined : this.request(head, at + 1);
  }

  /** @throws HoldfastError when a plugin with `onError: "fail"` failed */
  upstreamConnected(connection: Connection): void {
    this.#throwFailure();
    for (let at = 0; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at];
      if (hooks?.upstreamConnected === undefined) continue;
      try {
        refusePromise(hooks.upstreamConnected(connection, this.#exchange!));
      } catch (error) {
        this.#hookFailed(at, "upstreamConnected", error);
      }
      this.#throwFailure();
    }
  }

  /**
   * @param isError - the exchange has failed already and this head says so: there is nothing more to fail
   * @throws HoldfastError when a plugin with `onError: "fail"` failed
   */
  response(head: ResponseHead, isError = false): void {
    if (!isError) this.#throwFailure();
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at];
      if (hooks?.response === undefined) continue;
      try {
        refusePromise(hooks.response(head, this.#exchange!));
      } catch (error) {
        if (isError) this.#keepFailure(at, "response", error);
        else this.#hookFailed(at, "response", error);
      }
      if (!isError) this.#throwFailure();
    }
  }

  retry(failure: Failure): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at];
      if (hooks?.retry === undefined) continue;
      try {
        refusePromise(hooks.retry(failure, this.#exchange!));
      } catch (error) {
        this.#keepFailure(at, "retry", error);
      }
    }
  }

  end(outcome: Outcome): void {
    this.#over = true;
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at];
      if (hooks?.end === undefined) continue;
      try {
        refusePromise(hooks.end(outcome, this.#exchange!));
      } catch (error) {
        this.#leaveOut(at);
        this.#tell(at, "end", error, "continue");
      }
    }
  }

  /** Tells the hooks of this exchange that a plugin failed. */
  failed(failure: PluginFailure): void {
    for (let at = 0; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at];
      if (hooks?.pluginFailed === undefined) continue;
      try {
        refusePromise(hooks.pluginFailed(failure));
      } catch (error) {
        // Left out first, so that it is not told of its own failure: that would never end.
        this.#keepFailure(at, "pluginFailed", error);
      }
    }
  }

  #throwFailure(): void {
    if (this.failure !== undefined && !this.#over) throw this.failure;
  }

  /** A hook failed at a step of the exchange. */
  #hookFailed(at: number, hook: string, error: unknown): void {
    const { name, onError } = this.#links[at]!;
    this.#leaveOut(at);
    this.#tell(at, hook, error, onError);
    if (onError === "fail") throw pluginError(name, hook, error);
  }

  /** A hook failed between two steps: the next one fails. */
  #keepFailure(at: number, hook: string, error: unknown): void {
    const { name, onError } = this.#links[at]!;
    this.#leaveOut(at);
    if (onError === "fail") this.failure ??= pluginError(name, hook, error);
    this.#tell(at, hook, error, onError);
  }

  #tell(at: number, hook: string, error: unknown, onError: PluginFailure["onError"]): void {
    const { downstream } = this.#exchange ?? {};
    const failure = this.#chain?.fail(this.#links[at]!, hook, error, downstream, this.#exchange, onError);
    if (failure !== undefined) this.failed(failure);
  }

  /** What a plugin opened in its other hooks it may still have to close: `end` stays, the rest goes. */
  #leaveOut(at: number): void {
    const end = this.#hooks[at]?.end;
    this.#hooks[at] = end === undefined ? undefined : { end: end.bind(this.#hooks[at]) };
  }
}

/** No filter wants anything of the exchange. */
export const NO_EXCHANGE_HOOKS: ExchangeRun = new ExchangeRun(undefined, undefined);

function pluginError(plugin: string, hook: string, error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new HoldfastError("HF_PLUGIN_FAILED", `plugin ${plugin} failed in ${hook}: ${message}`, { cause: error });
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** @throws TypeError when a hook that must be synchronous returned a promise; other values are ignored */
function refusePromise(returned: unknown): void {
  if (returned === undefined || !isThenable(returned)) return;
  // Nobody waits for it, but its rejection must not end the process.
  Promise.resolve(returned).catch(() => {});
  throw new TypeError("returned a promise; of all hooks only request may be asynchronous");
}

function asHooks<H extends object>(value: unknown): H {
  refusePromise(value);
  if (typeof value === "object" && value !== null) return value as H;
  throw new TypeError("must return an object of hooks or nothing");
}

/** @throws TypeError when it is not a reply that can be sent */
function asReply(value: unknown): Reply {
  const reply = value as Reply;
  if (typeof value !== "object" || value === null) throw new TypeError("request must return a reply or nothing");
  if (!Number.isInteger(reply.status) || reply.status < 200 || reply.status > 599) {
    throw new TypeError(`reply.status must be a whole number from 200 to 599, not ${String(reply.status)}`);
  }
  for (const field of reply.headers ?? []) {
    if (!isToken(String(field[0])) || !isFieldValue(String(field[1]))) {
      throw new TypeError(`reply.headers: not a field: ${JSON.stringify(field[0])}`);
    }
    if (isCoreOwned(field[0])) throw new TypeError(`reply.headers: ${field[0]} is written by Holdfast alone`);
  }
  const { body } = reply;
  if (body !== undefined && typeof body !== "string" && !(body instanceof Uint8Array)) {
    throw new TypeError("reply.body must be a string or bytes");
  }
  return reply;
}
