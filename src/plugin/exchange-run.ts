/**
 * The hooks that the filters of a chain want called for one exchange.
 *
 * @module
 */
import { HoldfastError } from "../errors.ts";
import { isCoreOwned, isFieldValue, isToken } from "../proxy/headers.ts";
import type {
  Connection,
  Exchange,
  ExchangeHooks,
  Failure,
  Filter,
  Outcome,
  PluginFailure,
  Reply,
  RequestHead,
  ResponseHead,
} from "./api.ts";
import type { Chain } from "./chain.ts";
import { asHooks, type ChainLink, isThenable, pluginError, refusePromise } from "./hooks.ts";
import { withTimeLimit } from "./time-limit.ts";

/** The functions of one hooks object, for the same reason as those of a connection are kept. */
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

/** A link whose filter wants to see exchanges. */
export class ExchangeLink {
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
   * What an object of hooks wants called; of the same object as last time nothing is read again.
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
