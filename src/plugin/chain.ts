/**
 * The chain of filters of one direction, and the single place where what a plugin throws is caught.
 *
 * @module
 */
import { HoldfastError, messageOf } from "../errors.ts";
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

/**
 * The functions of one hooks object. Looking for them in the object at every step, where each plugin's looks different,
 * costs more than calling them.
 */
class ConnectionCalls {
  readonly link: ChainLink;
  readonly active: ConnectionHooks["active"];
  readonly idle: ConnectionHooks["idle"];
  readonly backendChanged: ConnectionHooks["backendChanged"];
  readonly close: ConnectionHooks["close"];

  constructor(link: ChainLink, hooks: ConnectionHooks) {
    this.link = link;
    this.active = hooks.active;
    this.idle = hooks.idle;
    this.backendChanged = hooks.backendChanged;
    this.close = hooks.close;
  }
}

/** As {@link ConnectionCalls}, of an exchange. */
class ExchangeCalls {
  readonly link: ChainLink;
  readonly request: ExchangeHooks["request"];
  readonly upstreamConnected: ExchangeHooks["upstreamConnected"];
  readonly retry: ExchangeHooks["retry"];
  readonly response: ExchangeHooks["response"];
  readonly pluginFailed: ExchangeHooks["pluginFailed"];
  readonly end: ExchangeHooks["end"];

  constructor(link: ChainLink, hooks: ExchangeHooks) {
    this.link = link;
    this.request = hooks.request;
    this.upstreamConnected = hooks.upstreamConnected;
    this.retry = hooks.retry;
    this.response = hooks.response;
    this.pluginFailed = hooks.pluginFailed;
    this.end = hooks.end;
  }
}

/** A link whose filter wants to see connections. */
class ConnectionLink {
  readonly link: ChainLink;
  readonly show: NonNullable<Filter["connection"]>;
  #last: ConnectionCalls;

  constructor(link: ChainLink, show: NonNullable<Filter["connection"]>) {
    this.link = link;
    this.show = show;
    this.#last = new ConnectionCalls(link, {});
  }

  /** What an object of hooks wants called; the same as last time where the functions are the same. */
  callsOf(hooks: ConnectionHooks): ConnectionCalls {
    const last = this.#last;
    if (
      hooks.active === last.active &&
      hooks.idle === last.idle &&
      hooks.backendChanged === last.backendChanged &&
      hooks.close === last.close
    ) {
      return last;
    }
    this.#last = new ConnectionCalls(this.link, hooks);
    return this.#last;
  }
}

/** A link whose filter wants to see exchanges. */
class ExchangeLink {
  readonly link: ChainLink;
  readonly show: NonNullable<Filter["exchange"]>;
  #lastHooks: ExchangeHooks | undefined;
  #last: ExchangeCalls;

  constructor(link: ChainLink, show: NonNullable<Filter["exchange"]>) {
    this.link = link;
    this.show = show;
    this.#last = new ExchangeCalls(link, {});
  }

  /**
   * As {@link ConnectionLink.callsOf}; of the same object as last time nothing is read again.
   *
   * @throws TypeError when it is no object of hooks
   */
  callsOf(hooks: ExchangeHooks): ExchangeCalls {
    const last = this.#last;
    if (hooks === this.#lastHooks) return last;
    asHooks<ExchangeHooks>(hooks);
    if (
      hooks.request === last.request &&
      hooks.upstreamConnected === last.upstreamConnected &&
      hooks.retry === last.retry &&
      hooks.response === last.response &&
      hooks.pluginFailed === last.pluginFailed &&
      hooks.end === last.end
    ) {
      return last;
    }
    this.#last = new ExchangeCalls(this.link, hooks);
    this.#lastHooks = hooks;
    return this.#last;
  }
}

/** The hooks that filters want called for one connection. */
export class ConnectionRun {
  /** Whose run it is; `undefined` where no filter wants anything of any connection. */
  readonly chain: Chain | undefined;
  readonly #connection: Connection | undefined;
  readonly #hooks: readonly ConnectionHooks[];
  /** What to call of each of them. */
  readonly #calls: readonly ConnectionCalls[];
  /** A plugin with `onError: "fail"` failed on this connection: exchanges on it fail with this. */
  failure: HoldfastError | undefined;

  constructor(
    chain: Chain | undefined,
    connection: Connection | undefined,
    hooks: readonly ConnectionHooks[],
    calls: readonly ConnectionCalls[],
    failure?: HoldfastError,
  ) {
    this.chain = chain;
    this.#connection = connection;
    this.#hooks = hooks;
    this.#calls = calls;
    this.failure = failure;
  }

  /** What this link's filter wants called, if anything. */
  hooksOf(link: ChainLink): ConnectionHooks | undefined {
    const at = this.#calls.findIndex((calls) => calls.link === link);
    return at === -1 ? undefined : this.#hooks[at];
  }

  active(exchange: Exchange): void {
    for (let at = 0; at < this.#hooks.length; at++) {
      const { active } = this.#calls[at]!;
      if (active === undefined) continue;
      try {
        refusePromise(active.call(this.#hooks[at]!, exchange));
      } catch (error) {
        this.#failed(at, "active", error);
      }
    }
  }

  idle(): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const { idle } = this.#calls[at]!;
      if (idle === undefined) continue;
      try {
        refusePromise(idle.call(this.#hooks[at]!));
      } catch (error) {
        this.#failed(at, "idle", error);
      }
    }
  }

  backendChanged(): void {
    for (let at = 0; at < this.#hooks.length; at++) {
      const { backendChanged } = this.#calls[at]!;
      if (backendChanged === undefined) continue;
      try {
        refusePromise(backendChanged.call(this.#hooks[at]!));
      } catch (error) {
        this.#failed(at, "backendChanged", error);
      }
    }
  }

  /** @param successor - the connection goes on with this chain: filters that are in it too are told nothing */
  close(reason: CloseReason, successor?: Chain): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const { close, link } = this.#calls[at]!;
      if (close === undefined || successor?.has(link)) continue;
      try {
        refusePromise(close.call(this.#hooks[at]!, reason));
      } catch (error) {
        this.#failed(at, "close", error, "continue");
      }
    }
  }

  #failed(at: number, hook: string, error: unknown, onError = this.#calls[at]!.link.onError): void {
    const { link } = this.#calls[at]!;
    this.chain?.fail(link, hook, error, this.#connection, undefined, onError);
    if (onError === "fail") this.failure ??= pluginError(link.name, hook, error);
  }
}

/** No filter wants anything of the connection. */
export const NO_CONNECTION_HOOKS: ConnectionRun = new ConnectionRun(undefined, undefined, [], []);

/** The hooks that filters want called for one exchange. A plugin that fails is left out for the rest of it. */
export class ExchangeRun {
  readonly #chain: Chain | undefined;
  readonly #exchange: Exchange | undefined;
  readonly #hooks: ExchangeHooks[];
  /** What to call of each of them. */
  readonly #calls: ExchangeCalls[];
  #size = 0;
  /** A plugin with `onError: "fail"` failed where nothing could be thrown: the exchange fails at its next step. */
  failure: HoldfastError | undefined;
  #over = false;

  /** @param most - how many filters may want something */
  constructor(chain: Chain | undefined, exchange: Exchange | undefined, most: number) {
    this.#chain = chain;
    this.#exchange = exchange;
    // Made for every exchange: arrays that grow take twice the memory and the time.
    this.#hooks = new Array<ExchangeHooks>(most);
    this.#calls = new Array<ExchangeCalls>(most);
  }

  /** Takes what the next filter wants called. */
  add(hooks: ExchangeHooks, link: ExchangeLink): void {
    this.#calls[this.#size] = link.callsOf(hooks);
    this.#hooks[this.#size++] = hooks;
  }

  /**
   * Runs the `request` hooks. Synchronous as long as every hook is.
   *
   * @returns the first reply a plugin gave, `undefined` if none did
   * @throws HoldfastError when a plugin with `onError: "fail"` failed
   */
  request(head: RequestHead, from = 0): Reply | undefined | Promise<Reply | undefined> {
    this.#throwFailure();
    for (let at = from; at < this.#size; at++) {
      const { request } = this.#calls[at]!;
      if (request === undefined) continue;
      let returned: unknown;
      try {
        returned = request.call(this.#hooks[at]!, head, this.#exchange!);
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
    const { name, requestTimeoutMs } = this.#calls[at]!.link;
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
    for (let at = 0; at < this.#size; at++) {
      const { upstreamConnected } = this.#calls[at]!;
      if (upstreamConnected === undefined) continue;
      try {
        refusePromise(upstreamConnected.call(this.#hooks[at]!, connection, this.#exchange!));
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
    for (let at = this.#size - 1; at >= 0; at--) {
      const { response } = this.#calls[at]!;
      if (response === undefined) continue;
      try {
        refusePromise(response.call(this.#hooks[at]!, head, this.#exchange!));
      } catch (error) {
        if (isError) this.#keepFailure(at, "response", error);
        else this.#hookFailed(at, "response", error);
      }
      if (!isError) this.#throwFailure();
    }
  }

  retry(failure: Failure): void {
    for (let at = this.#size - 1; at >= 0; at--) {
      const { retry } = this.#calls[at]!;
      if (retry === undefined) continue;
      try {
        refusePromise(retry.call(this.#hooks[at]!, failure, this.#exchange!));
      } catch (error) {
        this.#keepFailure(at, "retry", error);
      }
    }
  }

  end(outcome: Outcome): void {
    this.#over = true;
    for (let at = this.#size - 1; at >= 0; at--) {
      const { end } = this.#calls[at]!;
      if (end === undefined) continue;
      try {
        refusePromise(end.call(this.#hooks[at]!, outcome, this.#exchange!));
      } catch (error) {
        this.#leaveOut(at);
        this.#tell(at, "end", error, "continue");
      }
    }
  }

  /** Tells the hooks of this exchange that a plugin failed. */
  failed(failure: PluginFailure): void {
    for (let at = 0; at < this.#size; at++) {
      const { pluginFailed } = this.#calls[at]!;
      if (pluginFailed === undefined) continue;
      try {
        refusePromise(pluginFailed.call(this.#hooks[at]!, failure));
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
    const { name, onError } = this.#calls[at]!.link;
    this.#leaveOut(at);
    this.#tell(at, hook, error, onError);
    if (onError === "fail") throw pluginError(name, hook, error);
  }

  /** A hook failed between two steps: the next one fails. */
  #keepFailure(at: number, hook: string, error: unknown): void {
    const { name, onError } = this.#calls[at]!.link;
    this.#leaveOut(at);
    if (onError === "fail") this.failure ??= pluginError(name, hook, error);
    this.#tell(at, hook, error, onError);
  }

  #tell(at: number, hook: string, error: unknown, onError: PluginFailure["onError"]): void {
    const { downstream } = this.#exchange ?? {};
    const failure = this.#chain?.fail(this.#calls[at]!.link, hook, error, downstream, this.#exchange, onError);
    if (failure !== undefined) this.failed(failure);
  }

  /** What a plugin opened in its other hooks it may still have to close: `end` stays, the rest goes. */
  #leaveOut(at: number): void {
    const { link, end } = this.#calls[at]!;
    this.#calls[at] = new ExchangeCalls(link, end === undefined ? {} : { end });
  }
}

/** No filter wants anything of the exchange. */
export const NO_EXCHANGE_HOOKS: ExchangeRun = new ExchangeRun(undefined, undefined, 0);

function pluginError(plugin: string, hook: string, error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const what = `plugin ${plugin} failed in ${hook}: ${messageOf(error)}`;
  return new HoldfastError("HF_PLUGIN_FAILED", what, { cause: error });
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
