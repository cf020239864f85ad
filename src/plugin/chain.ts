/**
 * The chain of filters of one direction, and the single place where what a plugin throws is caught.
 *
 * @module
 */
import { HoldfastError } from "../errors.ts";
import { isFieldValue, isToken } from "../proxy/headers.ts";
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

  /** Lets every filter state the limits of a new pool. */
  pool(pool: Pool): void {
    for (const link of this.#links) {
      if (link.filter.pool === undefined) continue;
      try {
        this.stray(link, "pool", link.filter.pool(pool), undefined, undefined);
      } catch (error) {
        this.fail(link, "pool", error, undefined, undefined);
      }
    }
  }

  /** Shows a connection to every filter; the run holds the hooks they want called. */
  connection(connection: Connection): ConnectionRun {
    if (this.#connectionLinks.length === 0) return NO_CONNECTION_HOOKS;
    const run = new ConnectionRun(this, connection);
    for (const link of this.#connectionLinks) {
      try {
        const hooks = link.filter.connection?.(connection);
        if (hooks !== undefined) run.add(link, asHooks<ConnectionHooks>(hooks));
      } catch (error) {
        this.fail(link, "connection", error, connection, undefined);
        if (link.onError === "fail") run.failedBy ??= link.name;
      }
    }
    return run;
  }

  /**
   * Shows an exchange to every filter; the run holds the hooks they want called.
   *
   * @throws HoldfastError `HF_PLUGIN_FAILED` when a plugin with `onError: "fail"` failed; the run is then over
   */
  exchange(exchange: Exchange): ExchangeRun {
    if (this.#exchangeLinks.length === 0) return NO_EXCHANGE_HOOKS;
    const run = new ExchangeRun(this, exchange);
    for (const link of this.#exchangeLinks) {
      try {
        const hooks = link.filter.exchange?.(exchange);
        if (hooks !== undefined) run.add(link, asHooks<ExchangeHooks>(hooks));
      } catch (error) {
        run.failed(this.fail(link, "exchange", error, exchange.downstream, exchange));
        if (link.onError === "fail") run.openingFailure ??= pluginError(link.name, "exchange", error);
      }
    }
    return run;
  }

  /** Closes every filter, last one first; waits for each. */
  async close(): Promise<void> {
    for (const link of [...this.#links].reverse()) {
      try {
        await link.filter.close?.();
      } catch (error) {
        this.fail(link, "close", error, undefined, undefined);
      }
    }
  }

  /** Reports a failed hook to the log and to every filter that listens. */
  fail(
    link: ChainLink,
    hook: string,
    error: unknown,
    connection: Connection | undefined,
    exchange: Exchange | undefined,
  ): PluginFailure {
    const failure: PluginFailure = { plugin: link.name, hook, error, onError: link.onError, connection, exchange };
    this.#report(failure);
    for (const listener of this.#links) {
      if (listener.filter.pluginFailed === undefined) continue;
      try {
        listener.filter.pluginFailed(failure);
      } catch (second) {
        // Reported, not passed on: a listener that fails on failures would never end.
        this.#report({ ...failure, plugin: listener.name, hook: "pluginFailed", error: second });
      }
    }
    return failure;
  }

  /** A hook that must be synchronous returned something: if it is a promise, its rejection must not end the process. */
  stray(
    link: ChainLink,
    hook: string,
    returned: unknown,
    connection: Connection | undefined,
    exchange: Exchange | undefined,
  ): void {
    if (returned === undefined || !isThenable(returned)) return;
    returned.then(undefined, (error: unknown) => this.fail(link, hook, error, connection, exchange));
  }
}

/** The hooks that filters want called for one connection. */
export class ConnectionRun {
  readonly #chain: Chain | undefined;
  readonly #connection: Connection | undefined;
  readonly #links: ChainLink[] = [];
  readonly #hooks: ConnectionHooks[] = [];
  /** A plugin with `onError: "fail"` that failed in `connection`: exchanges on this connection get 500. */
  failedBy: string | undefined;

  constructor(chain: Chain | undefined, connection: Connection | undefined) {
    this.#chain = chain;
    this.#connection = connection;
  }

  add(link: ChainLink, hooks: ConnectionHooks): void {
    this.#links.push(link);
    this.#hooks.push(hooks);
  }

  active(exchange: Exchange): void {
    for (let at = 0; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at]!;
      if (hooks.active === undefined) continue;
      try {
        this.#check(at, "active", hooks.active(exchange));
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
        this.#check(at, "idle", hooks.idle());
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
        this.#check(at, "backendChanged", hooks.backendChanged());
      } catch (error) {
        this.#failed(at, "backendChanged", error);
      }
    }
  }

  close(reason: CloseReason): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at]!;
      if (hooks.close === undefined) continue;
      try {
        this.#check(at, "close", hooks.close(reason));
      } catch (error) {
        this.#failed(at, "close", error);
      }
    }
  }

  #check(at: number, hook: string, returned: unknown): void {
    if (returned !== undefined) this.#chain?.stray(this.#links[at]!, hook, returned, this.#connection, undefined);
  }

  #failed(at: number, hook: string, error: unknown): void {
    this.#chain?.fail(this.#links[at]!, hook, error, this.#connection, undefined);
  }
}

const NO_CONNECTION_HOOKS = new ConnectionRun(undefined, undefined);

/** The hooks that filters want called for one exchange. A plugin that fails is left out for the rest of it. */
export class ExchangeRun {
  readonly #chain: Chain | undefined;
  readonly #exchange: Exchange | undefined;
  readonly #links: ChainLink[] = [];
  readonly #hooks: (ExchangeHooks | undefined)[] = [];
  /** Set when a plugin with `onError: "fail"` failed as the exchange opened. */
  openingFailure: HoldfastError | undefined;

  constructor(chain: Chain | undefined, exchange: Exchange | undefined) {
    this.#chain = chain;
    this.#exchange = exchange;
  }

  add(link: ChainLink, hooks: ExchangeHooks): void {
    this.#links.push(link);
    this.#hooks.push(hooks);
  }

  /**
   * Runs the `request` hooks. Synchronous as long as every hook is.
   *
   * @returns the first reply a plugin gave, `undefined` if none did
   * @throws HoldfastError when a plugin with `onError: "fail"` failed
   */
  request(head: RequestHead, from = 0): Reply | undefined | Promise<Reply | undefined> {
    for (let at = from; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at];
      if (hooks?.request === undefined) continue;
      let returned: unknown;
      try {
        returned = hooks.request(head);
        if (returned === undefined) continue;
        if (isThenable(returned)) return this.#requestLater(at, returned, head);
        return asReply(returned);
      } catch (error) {
        this.#hookFailed(at, "request", error);
      }
    }
    return undefined;
  }

  async #requestLater(at: number, pending: PromiseLike<unknown>, head: RequestHead): Promise<Reply | undefined> {
    const link = this.#links[at]!;
    const timeout = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      timeout.reject(
        new HoldfastError(
          "HF_PLUGIN_TIMEOUT",
          `plugin ${link.name}: request hook took over ${link.requestTimeoutMs} ms`,
        ),
      );
    }, link.requestTimeoutMs);
    try {
      const returned = await Promise.race([pending, timeout.promise]);
      if (returned !== undefined) return asReply(returned);
    } catch (error) {
      this.#hookFailed(at, "request", error);
    } finally {
      clearTimeout(timer);
    }
    return this.request(head, at + 1);
  }

  /** @throws HoldfastError when a plugin with `onError: "fail"` failed */
  upstreamConnected(connection: Connection): void {
    for (let at = 0; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at];
      if (hooks?.upstreamConnected === undefined) continue;
      try {
        this.#check(at, "upstreamConnected", hooks.upstreamConnected(connection));
      } catch (error) {
        this.#hookFailed(at, "upstreamConnected", error);
      }
    }
  }

  /** @throws HoldfastError when a plugin with `onError: "fail"` failed */
  response(head: ResponseHead): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at];
      if (hooks?.response === undefined) continue;
      try {
        this.#check(at, "response", hooks.response(head));
      } catch (error) {
        this.#hookFailed(at, "response", error);
      }
    }
  }

  retry(failure: Failure): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at];
      if (hooks?.retry === undefined) continue;
      try {
        this.#check(at, "retry", hooks.retry(failure));
      } catch (error) {
        this.#hookFailed(at, "retry", error, false);
      }
    }
  }

  end(outcome: Outcome): void {
    for (let at = this.#hooks.length - 1; at >= 0; at--) {
      const hooks = this.#hooks[at];
      if (hooks?.end === undefined) continue;
      try {
        this.#check(at, "end", hooks.end(outcome));
      } catch (error) {
        this.#hookFailed(at, "end", error, false);
      }
    }
  }

  /** Tells the hooks of this exchange that a plugin failed. */
  failed(failure: PluginFailure): void {
    for (let at = 0; at < this.#hooks.length; at++) {
      const hooks = this.#hooks[at];
      if (hooks?.pluginFailed === undefined) continue;
      try {
        hooks.pluginFailed(failure);
      } catch (error) {
        // Left out from here on, and not told of its own failure: that would never end.
        this.#leaveOut(at);
        this.#chain?.fail(this.#links[at]!, "pluginFailed", error, this.#exchange?.downstream, this.#exchange);
      }
    }
  }

  #check(at: number, hook: string, returned: unknown): void {
    if (returned === undefined) return;
    this.#chain?.stray(this.#links[at]!, hook, returned, this.#exchange?.downstream, this.#exchange);
  }

  #hookFailed(at: number, hook: string, error: unknown, mayFailExchange = true): void {
    const link = this.#links[at]!;
    this.#leaveOut(at);
    const failure = this.#chain?.fail(link, hook, error, this.#exchange?.downstream, this.#exchange);
    if (failure !== undefined) this.failed(failure);
    if (mayFailExchange && link.onError === "fail") throw pluginError(link.name, hook, error);
  }

  /** What a plugin opened in its other hooks it may still have to close: `end` stays, the rest goes. */
  #leaveOut(at: number): void {
    const end = this.#hooks[at]?.end;
    this.#hooks[at] = end === undefined ? undefined : { end: end.bind(this.#hooks[at]) };
  }
}

const NO_EXCHANGE_HOOKS = new ExchangeRun(undefined, undefined);

function pluginError(plugin: string, hook: string, error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new HoldfastError("HF_PLUGIN_FAILED", `plugin ${plugin} failed in ${hook}: ${message}`, { cause: error });
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

function asHooks<H extends object>(value: unknown): H {
  if (typeof value === "object" && value !== null && !isThenable(value)) return value as H;
  if (isThenable(value)) value.then(undefined, () => {});
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
  }
  const { body } = reply;
  if (body !== undefined && typeof body !== "string" && !(body instanceof Uint8Array)) {
    throw new TypeError("reply.body must be a string or bytes");
  }
  return reply;
}
