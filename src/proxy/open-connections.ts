/**
 * The open connections of one direction, as a doubly linked list through the connections themselves: see
 * running-exchanges.ts for what a `Set` would keep alive.
 *
 * @module
 */
import type { Side } from "../plugin/api.ts";
import type { ProxyConnection } from "./connection.ts";

/** A list of connections that knows how many there are on each side. The oldest comes first. */
export class OpenConnections implements Iterable<ProxyConnection> {
  #first: ProxyConnection | undefined;
  #last: ProxyConnection | undefined;
  readonly #counts: Record<Side, number> = { downstream: 0, upstream: 0 };

  get size(): number {
    return this.#counts.downstream + this.#counts.upstream;
  }

  count(side: Side): number {
    return this.#counts[side];
  }

  /** Adds one that is not in the list. */
  add(connection: ProxyConnection): void {
    const last = this.#last;
    connection.previousOpen = last;
    if (last === undefined) this.#first = connection;
    else last.nextOpen = connection;
    this.#last = connection;
    this.#counts[connection.side]++;
  }

  /** Removes one that is in the list. Its own links are cleared, so that it keeps no other alive. */
  delete(connection: ProxyConnection): void {
    const { previousOpen: previous, nextOpen: next } = connection;
    if (previous === undefined) this.#first = next;
    else previous.nextOpen = next;
    if (next === undefined) this.#last = previous;
    else next.previousOpen = previous;
    connection.previousOpen = undefined;
    connection.nextOpen = undefined;
    this.#counts[connection.side]--;
  }

  /** Goes through those that were open when it began; one may close, and others with it, meanwhile. */
  *[Symbol.iterator](): Iterator<ProxyConnection> {
    const open: ProxyConnection[] = [];
    for (let at = this.#first; at !== undefined; at = at.nextOpen) open.push(at);
    for (const connection of open) if (connection.state !== "closed") yield connection;
  }
}
