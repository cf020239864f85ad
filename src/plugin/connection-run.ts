/**
 * The hooks that the filters of a chain want called for one connection.
 *
 * @module
 */
import type { HoldfastError } from "../errors.ts";
import type { CloseReason, Connection, ConnectionHooks, Exchange, Filter } from "./api.ts";
import type { Chain } from "./chain.ts";
import { type ChainLink, pluginError, refusePromise } from "./hooks.ts";

/**
 * The functions of one hooks object. Looking for them in the object at every step, where each plugin's looks different,
 * costs more than calling them.
 */
export class ConnectionCalls {
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

/** A link whose filter wants to see connections. */
export class ConnectionLink {
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
