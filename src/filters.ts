/**
 * The filters of a direction: telemetry, the access log, and the plugins of one configuration.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { Logger as PinoLogger } from "pino";
import { HoldfastError } from "./errors.ts";
import type { Loaded } from "./load.ts";
import type { Direction, Filter, Plugin, PluginContext, PluginFailure, Side } from "./plugin/api.ts";
import { Chain } from "./plugin/chain.ts";
import type { ChainLink } from "./plugin/hooks.ts";
import { withTimeLimit } from "./plugin/time-limit.ts";
import type { OpenConnections } from "./proxy/open-connections.ts";
import { accessLogFilter } from "./telemetry/access-log.ts";
import type { Telemetry } from "./telemetry/start.ts";

/** How long a plugin may take to set up, in milliseconds: a start that hangs must say where. */
const SETUP_TIMEOUT_MS = 30_000;

/** What the filters of one direction are made with, whatever the configuration. */
export interface FiltersOptions {
  readonly direction: Direction;
  readonly telemetry: Telemetry;
  readonly log: PinoLogger;
  readonly connections: OpenConnections;
}

/** A configuration in force, and the chain that was made from it. */
export interface ChainInForce {
  readonly from: Loaded;
  readonly chain: Chain;
}

/** Makes the chains of one direction, one configuration after the other. */
export class Filters {
  readonly #options: FiltersOptions;
  /** The same in every chain: they only look on, and what they have counted and begun must not end with a reload. */
  readonly #observers: readonly ChainLink[];
  readonly #accessLog: ChainLink;
  /** By plugin, for every instance of it: the log keeps each logger that was ever made from it. */
  readonly #logs = new Map<string, PinoLogger>();

  constructor(options: FiltersOptions) {
    const { direction, telemetry, log } = options;
    this.#options = options;
    const link = (name: string, filter: Filter): ChainLink => {
      return { name, filter, onError: "continue", requestTimeoutMs: 0 };
    };
    this.#observers = telemetry.filters(direction).map(({ name, filter }) => link(name, filter));
    this.#accessLog = link("access-log", accessLogFilter(log.child({ part: "access" })));
  }

  /**
   * Telemetry first, so that it sees everything that the plugins do; then the plugins in their order.
   *
   * @param inForce - its chain is what is returned when the plugins of this direction, their order and their
   *   configuration are the same: they stay, with everything they know
   * @param failures - gets what each plugin that cannot be set up says; the chain is then without it, and only good to be
   *   closed
   */
  async chain(loaded: Loaded, inForce: ChainInForce | undefined, failures: unknown[]): Promise<Chain> {
    if (inForce !== undefined && this.#isSame(loaded, inForce.from)) return inForce.chain;
    const { config } = loaded.loaded;
    const { log } = this.#options;
    const links = [...this.#observers, ...(config.log.access ? [this.#accessLog] : [])];
    for (const { plugin, entry, config: pluginConfig } of this.#pluginsOf(loaded)) {
      try {
        const filter = await setUp(plugin, this.#context(plugin.name, config.service, pluginConfig));
        links.push({ name: plugin.name, filter, onError: entry.onError, requestTimeoutMs: entry.requestTimeoutMs });
      } catch (error) {
        failures.push(error);
      }
    }
    return new Chain(links, (failure) => reportPluginFailure(log, failure));
  }

  #pluginsOf({ plugins }: Loaded): Loaded["plugins"] {
    return plugins.filter(({ entry }) => entry.directions.includes(this.#options.direction));
  }

  #isSame(one: Loaded, other: Loaded): boolean {
    const recipe = (of: Loaded): unknown => [
      of.loaded.config.log.access,
      this.#pluginsOf(of).map(({ plugin, entry, config }) => [plugin, entry.onError, entry.requestTimeoutMs, config]),
    ];
    return isDeepStrictEqual(recipe(one), recipe(other));
  }

  #context(plugin: string, service: string, config: unknown): PluginContext<unknown> {
    const { direction, connections } = this.#options;
    const log = this.#logs.get(plugin) ?? this.#options.log.child({ plugin });
    this.#logs.set(plugin, log);
    return {
      config,
      direction,
      service,
      log,
      connections,
      countConnections: (side: Side) => connections.count(side),
    };
  }
}

async function setUp(plugin: Plugin<unknown>, context: PluginContext<unknown>): Promise<Filter> {
  const cannotStart = `plugin ${plugin.name} cannot start ${context.direction}`;
  let filter: unknown;
  try {
    const pending = Promise.resolve(plugin.setup(context));
    filter = await withTimeLimit(pending, SETUP_TIMEOUT_MS, () => {
      // What comes after all is nobody's.
      pending.then((late) => (late as Partial<Filter> | undefined)?.close?.()).catch(() => {});
      return new Error(`setup took over ${SETUP_TIMEOUT_MS / 1000} s`);
    });
  } catch (error) {
    const message = (error instanceof Error ? error.message : String(error)).replaceAll(/\s*\n\s*/g, " ");
    throw new HoldfastError("HF_CONFIG", `${cannotStart}: ${message}`, { cause: error });
  }
  if (typeof filter === "object" && filter !== null) return filter;
  throw new HoldfastError("HF_CONFIG", `${cannotStart}: setup must return a filter, an object of hooks`);
}

function reportPluginFailure(log: PinoLogger, failure: PluginFailure): void {
  const { plugin, hook, error, onError } = failure;
  log.error(
    { plugin, hook, err: error, connection: failure.connection?.id, exchange: failure.exchange?.id },
    `plugin ${plugin} failed in ${hook}; ${onError === "fail" ? "the exchange fails" : "going on without it"}`,
  );
}
