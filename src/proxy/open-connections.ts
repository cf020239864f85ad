/**
 * The open connections of one direction.
 *
 * @module
 */
import type { Side } from "../plugin/api.ts";
import type { ProxyConnection } from "./connection.ts";

/** A set of connections that knows how many there are on each side. */
export class OpenConnections implements Iterable<ProxyConnection> {
  readonly #all = new Set<ProxyConnection>();
  readonly #counts: Record<Side, number> = { downstream: 0, upstream: 0 };

  get size(): number {
    return this.#all.size;
  }

  count(side: Side): number {
    return this.#counts[side];
  }

  add(connection: ProxyConnection): void {
    if (this.#all.has(connection)) return;
    this.#all.add(connection);
    this.#counts[connection.side]++;
  }

  delete(connection: ProxyConnection): void {
    if (this.#all.delete(connection)) this.#counts[connection.side]--;
  }

  [Symbol.iterator](): Iterator<ProxyConnection> {
    return this.#all.values();
  }
}
