/** What Holdfast itself says it forwarded: kept by a plugin, which marks every request with its exchange. */
import { definePlugin, type Exchange, type Outcome, type Plugin } from "../../src/plugin/api.ts";
import { SAW } from "./origins.ts";
import { MARK } from "./strict-reader.ts";

/** One exchange. */
export interface Entry {
  readonly mark: string;
  /** Of the downstream connection: tells which conversation it is of. */
  readonly connection: number;
  readonly method: string;
  readonly target: string;
  /** How often it got a connection to the origin. */
  attempts: number;
  /** Marks that its response heads named. */
  readonly answers: string[];
  outcome: Outcome | undefined;
  readonly exchange: Exchange;
}

/** Exchanges since the last {@link take}. */
export class Ledger {
  #entries = new Map<string, Entry>();
  /** Connections by their peers: the newest, since ports are used again. */
  readonly #connections = new Map<string, number>();
  /** Exchanges that are not over. */
  open = 0;
  readonly plugin: Plugin<object> = definePlugin({
    name: "ledger",
    apiVersion: 1,
    description: "Marks requests with their exchange and keeps what became of them",
    config: {},
    setup: () => ({
      connection: ({ id, side, remoteAddress, remotePort }) => {
        if (side === "downstream") this.#connections.set(`${remoteAddress}:${remotePort}`, id);
      },
      exchange: (exchange) => this.#begin(exchange),
    }),
  });

  /** The newest connection from this address and port; `undefined` if it never came. */
  connectionFrom(peer: string): number | undefined {
    return this.#connections.get(peer);
  }

  /** What becomes of the exchanges of a connection, in words; for what does not end. */
  describe(connection: number | undefined): string {
    const entries = [...this.#entries.values()].filter((entry) => entry.connection === connection);
    return entries
      .map(({ mark, method, target, attempts, outcome, exchange: { upstream } }) => {
        const state =
          upstream === undefined
            ? "none"
            : `${upstream.state}, ${upstream.bytesWritten} bytes sent, ${upstream.bytesRead} read, exchange ${upstream.exchanges}`;
        const end = outcome === undefined ? "open" : `over with ${outcome.status} ${outcome.error?.code ?? ""}`;
        return `${mark} ${method} ${target}: ${attempts} attempts, upstream ${state}, ${end}`;
      })
      .join("; ");
  }

  /** Exchanges that began, all of them over. */
  take(): Map<string, Entry> {
    const entries = this.#entries;
    this.#entries = new Map();
    this.#connections.clear();
    return entries;
  }

  #begin(exchange: Exchange) {
    const { request, downstream } = exchange;
    const mark = `m${exchange.id}`;
    const entry: Entry = {
      mark,
      connection: downstream.id,
      method: request.method,
      target: request.target,
      attempts: 0,
      answers: [],
      outcome: undefined,
      exchange,
    };
    this.#entries.set(mark, entry);
    this.open++;
    return {
      request: () => request.headers.set(MARK, mark),
      upstreamConnected() {
        entry.attempts++;
      },
      response(head: { readonly headers: { getAll(name: string): string[] } }) {
        entry.answers.push(...head.headers.getAll(SAW));
      },
      end: (outcome: Outcome) => {
        entry.outcome = outcome;
        this.open--;
      },
    };
  }
}
