/** A plugin that remembers what the filters are told, for tests that wait for it. */
import { EventEmitter, once } from "node:events";
import {
  type CloseReason,
  type Connection,
  definePlugin,
  type Exchange,
  type Failure,
  type Outcome,
  type Plugin,
  type Side,
} from "../../src/plugin/api.ts";

/** A connection that has closed. */
export interface Closed {
  readonly connection: Connection;
  readonly reason: CloseReason;
}

/** An exchange that is over. */
export interface Ended {
  readonly exchange: Exchange;
  readonly outcome: Outcome;
}

/** See {@link observer}. */
export interface Observer {
  readonly plugin: Plugin<object>;
  readonly opened: readonly Connection[];
  readonly closed: readonly Closed[];
  readonly ended: readonly Ended[];
  readonly retried: readonly Failure[];
  /** How often a connection of this side became idle. */
  idled(side: Side): number;
  /** Resolves once the condition holds; looked at after everything that is observed. */
  until(condition: (observer: Observer) => boolean): Promise<void>;
  /** Resolves with the connection of this side that closed as the `count`-th, from 1. */
  closedOn(side: Side, count?: number): Promise<Closed>;
  /** Resolves with the exchange that ended as the `count`-th, from 1. */
  end(count?: number): Promise<Ended>;
}

/**
 * Makes an observer: list its `plugin`, then wait for what it saw.
 *
 * @param touch - called with each connection as it opens
 */
export function observer(touch: (connection: Connection) => void = () => {}): Observer {
  const events = new EventEmitter();
  const opened: Connection[] = [];
  const closed: Closed[] = [];
  const ended: Ended[] = [];
  const retried: Failure[] = [];
  const idled: Record<Side, number> = { downstream: 0, upstream: 0 };
  const seen = (): void => void events.emit("seen");

  const self: Observer = {
    opened,
    closed,
    ended,
    retried,
    idled: (side) => idled[side],
    async until(condition) {
      while (!condition(self)) await once(events, "seen");
    },
    async closedOn(side, count = 1) {
      const onSide = () => closed.filter(({ connection }) => connection.side === side);
      await self.until(() => onSide().length >= count);
      return onSide()[count - 1]!;
    },
    async end(count = 1) {
      await self.until(() => ended.length >= count);
      return ended[count - 1]!;
    },
    plugin: definePlugin({
      name: "observer",
      apiVersion: 1,
      description: "Remembers what filters are told",
      config: {},
      setup: () => ({
        connection(connection) {
          opened.push(connection);
          touch(connection);
          seen();
          return {
            idle() {
              idled[connection.side]++;
              seen();
            },
            close(reason) {
              closed.push({ connection, reason });
              seen();
            },
          };
        },
        exchange: (exchange) => ({
          retry: (error) => void retried.push(error),
          end(outcome) {
            ended.push({ exchange, outcome });
            seen();
          },
        }),
      }),
    }),
  };
  return self;
}
