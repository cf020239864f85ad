/** Plugins that write down which hook ran when, and how every exchange ended. */
import { EventEmitter, once } from "node:events";
import { definePlugin, type ExchangeHooks, type Outcome, type Plugin, type Side } from "../../src/plugin/api.ts";

/** What a recording plugin does besides recording, in hooks of the exchange. */
export type Deeds = Pick<ExchangeHooks, "request" | "upstreamConnected" | "response">;

/** The record of all its plugins, in the order of what happened. */
export class Tape {
  /** `"a request"`, `"b close upstream"`, … */
  readonly events: string[] = [];
  /** Every outcome that each exchange's `end` was given, by plugin and exchange. */
  readonly outcomes = new Map<string, Outcome[]>();
  readonly #seen = new EventEmitter();

  /** Resolves once the condition holds; looked at after every hook. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await once(this.#seen, "hook");
  }

  /** Resolves once the hook ran `count` times. */
  async ran(event: string, count = 1): Promise<void> {
    await this.until(() => this.count(event) >= count);
  }

  /** How often the hook ran. */
  count(event: string): number {
    return this.events.filter((each) => each === event).length;
  }

  /** Resolves with the outcome of the exchange that began as the `nth`, from 1, once it is over. */
  async outcome(nth = 1): Promise<Outcome> {
    const given = () => [...this.outcomes.values()][nth - 1] ?? [];
    await this.until(() => given().length > 0);
    return given()[0]!;
  }

  /** Makes a plugin that records under this name. */
  plugin(name: string, deeds: Deeds = {}): Plugin<object> {
    const add = (event: string): void => {
      this.events.push(`${name} ${event}`);
      setImmediate(() => this.#seen.emit("hook"));
    };
    const of = (side: Side) => (hook: string) => add(`${hook} ${side}`);
    return definePlugin({
      name,
      apiVersion: 1,
      description: "Writes down which hook ran",
      config: {},
      setup: () => ({
        pool: () => add("pool"),
        connection({ side }) {
          const addHere = of(side);
          addHere("connection");
          return {
            active: () => addHere("active"),
            idle: () => addHere("idle"),
            close: () => addHere("close"),
          };
        },
        exchange: (exchange) => {
          const outcomes: Outcome[] = [];
          this.outcomes.set(`${name} ${exchange.id}`, outcomes);
          add("exchange");
          return {
            request(head) {
              add("request");
              return deeds.request?.(head, exchange);
            },
            upstreamConnected(connection) {
              add("upstreamConnected");
              deeds.upstreamConnected?.(connection, exchange);
            },
            retry: () => add("retry"),
            response(head) {
              add("response");
              deeds.response?.(head, exchange);
            },
            end(outcome) {
              outcomes.push(outcome);
              add("end");
            },
          };
        },
        close: () => add("close"),
      }),
    });
  }
}
