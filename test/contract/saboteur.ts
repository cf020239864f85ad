/** Wraps a plugin so that one of its hooks misbehaves when a test says so, and counts what must run exactly once. */
import { EventEmitter, once } from "node:events";
import type {
  Connection,
  ConnectionHooks,
  Exchange,
  ExchangeHooks,
  Filter,
  Plugin,
  Reply,
} from "../../src/plugin/api.ts";

/** Every hook of the API: those of the filter, of a connection on either side, and of an exchange. */
export const HOOKS = [
  "pool",
  "connection downstream",
  "connection upstream",
  "exchange",
  "filter pluginFailed",
  "filter close",
  "active downstream",
  "active upstream",
  "idle downstream",
  "idle upstream",
  "backendChanged",
  "close downstream",
  "close upstream",
  "request",
  "upstreamConnected",
  "retry",
  "response",
  "pluginFailed",
  "end",
] as const;

export type HookPlace = (typeof HOOKS)[number];

/** How a hook misbehaves. */
export const MISDEEDS = ["throws", "throws what has no text", "rejects", "returns nonsense"] as const;

export type Misdeed = (typeof MISDEEDS)[number];

/** Name of the hook as logs have it. */
export function hookName(place: HookPlace): string {
  return place.replace(/^filter | (?:down|up)stream$/g, "");
}

/** A plugin under sabotage. */
export class Saboteur {
  readonly plugin: Plugin<unknown>;
  /** What to do, the next times the hook is called. */
  orders: { readonly place: HookPlace; readonly misdeed: Misdeed } | undefined;
  /** How often it was done. */
  done = 0;
  /** How often `end` ran for each exchange that was opened. */
  readonly ends = new Map<Exchange, number>();
  /** How often `close` ran for each connection that was opened. */
  readonly closes = new Map<Connection, number>();
  /** How often each side became idle. */
  readonly idled = { downstream: 0, upstream: 0 };
  filterCloses = 0;
  readonly #events = new EventEmitter();

  constructor(original: Plugin<unknown>) {
    this.plugin = { ...original, setup: async (context) => this.#wrap(await original.setup(context)) };
  }

  /** Resolves once the condition holds; looked at after every hook that is counted. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await once(this.#events, "called");
  }

  /** Exchanges that are not over. */
  get running(): number {
    let running = 0;
    for (const ends of this.ends.values()) if (ends === 0) running++;
    return running;
  }

  #wrap(filter: Filter): Filter {
    return {
      pool: (pool) => this.#call("pool", () => filter.pool?.(pool)),
      connection: (connection) =>
        this.#call(`connection ${connection.side}`, () =>
          this.#wrapConnection(connection, filter.connection?.(connection) ?? {}),
        ),
      exchange: (exchange) =>
        this.#call("exchange", () => this.#wrapExchange(exchange, filter.exchange?.(exchange) ?? {})),
      pluginFailed: (failure) => this.#call("filter pluginFailed", () => filter.pluginFailed?.(failure)),
      close: () => {
        this.filterCloses++;
        return this.#call("filter close", () => filter.close?.());
      },
    };
  }

  #wrapConnection(connection: Connection, hooks: ConnectionHooks): ConnectionHooks {
    const { side } = connection;
    this.closes.set(connection, 0);
    return {
      active: (exchange) => this.#call(`active ${side}`, () => hooks.active?.(exchange)),
      idle: () => {
        this.idled[side]++;
        return this.#call(`idle ${side}`, () => hooks.idle?.());
      },
      backendChanged: () => this.#call("backendChanged", () => hooks.backendChanged?.()),
      close: (reason) => {
        this.closes.set(connection, this.closes.get(connection)! + 1);
        return this.#call(`close ${side}`, () => hooks.close?.(reason));
      },
    };
  }

  #wrapExchange(exchange: Exchange, hooks: ExchangeHooks): ExchangeHooks {
    this.ends.set(exchange, 0);
    return {
      request: (head) =>
        this.#call<Reply | void | Promise<Reply | void>>("request", () => hooks.request?.(head, exchange)),
      upstreamConnected: (connection) =>
        this.#call("upstreamConnected", () => hooks.upstreamConnected?.(connection, exchange)),
      retry: (failure) => this.#call("retry", () => hooks.retry?.(failure, exchange)),
      response: (head) => this.#call("response", () => hooks.response?.(head, exchange)),
      pluginFailed: (failure) => this.#call("pluginFailed", () => hooks.pluginFailed?.(failure)),
      end: (outcome) => {
        this.ends.set(exchange, this.ends.get(exchange)! + 1);
        return this.#call("end", () => hooks.end?.(outcome, exchange));
      },
    };
  }

  /** Runs the plugin's own hook, or misbehaves in its place. What it returns then breaks the type on purpose. */
  #call<T>(place: HookPlace, own: () => T): T {
    // Whoever waits for it looks only after the hook, and what follows from it, has run.
    setImmediate(() => this.#events.emit("called"));
    if (this.orders?.place !== place) return own();
    this.done++;
    switch (this.orders.misdeed) {
      case "throws":
        throw new Error("sabotaged");
      case "throws what has no text":
        throw Object.create(null);
      case "rejects":
        return Promise.reject(new Error("sabotaged")) as T;
      case "returns nonsense":
        return 42 as T;
    }
  }
}
