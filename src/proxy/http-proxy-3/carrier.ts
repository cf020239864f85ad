/**
 * The only place that calls http-proxy-3: sends one attempt of one exchange and hands back what comes.
 *
 * What http-proxy-3 2.0.1 would do to a request on its way (`Content-Length: 0` on a chunked DELETE or OPTIONS,
 * joined field lines, names in lower case, `Trailer` removed, paths normalised, `*` turned into `/*`) is mended at its
 * seam: the options object that it fills and gives to node:http is ours, and the two fields that decide what goes on
 * the wire are pinned.
 *
 * @module
 */
import type http from "node:http";
import type { Socket } from "node:net";
import { createProxyServer, type ProxyServer } from "http-proxy-3";
import type { ProxyConnection } from "../connection.ts";
import { ConnectionAgent } from "./connection-agent.ts";
import type { RequestBody } from "./request-body.ts";

/** One attempt, exactly as it must stand on the wire. */
export interface Attempt {
  readonly request: http.IncomingMessage;
  readonly response: http.ServerResponse;
  readonly connection: ProxyConnection;
  readonly target: string;
  /** Names and values in turn. */
  readonly fields: string[];
  readonly body: RequestBody;
  readonly events: AttemptEvents;
}

/** What becomes of an attempt. */
export interface AttemptEvents {
  response(incoming: http.IncomingMessage): void;
  /** A 1xx that is not 101. */
  information(status: number, fields: string[]): void;
  /** 101: the socket is no longer node:http's. */
  upgraded(incoming: http.IncomingMessage, socket: Socket, first: Buffer): void;
  failed(error: NodeJS.ErrnoException): void;
  /** node:http has finished with the connection. */
  released(kept: boolean): void;
}

/** Sends attempts through http-proxy-3. */
export class Carrier {
  readonly #proxy: ProxyServer = createProxyServer({ selfHandleResponse: true });
  readonly #agents = new WeakMap<ProxyConnection, ConnectionAgent>();
  readonly #attempts = new WeakMap<http.IncomingMessage, Attempt>();
  readonly #maxHeaderSize: number;

  /** @param headBytes - the largest response head that is taken */
  constructor(headBytes: number) {
    this.#maxHeaderSize = headBytes;
    this.#proxy.on("proxyRes", (incoming, request) => {
      const attempt = this.#attempts.get(request);
      if (attempt === undefined) return;
      this.#agentOf(attempt.connection).response = incoming;
      attempt.events.response(incoming);
    });
    // A peer that resets while we write to it: the response's `close` event tells the same, once.
    this.#proxy.on("econnreset", () => {});
  }

  /** Sends one attempt. Events come later, except `failed`, which may come before this returns. */
  send(attempt: Attempt): void {
    const { request, response, connection, body, events } = attempt;
    this.#attempts.set(request, attempt);
    const agent = this.#agentOf(connection);
    agent.onDone = events.released;
    agent.response = undefined;
    body.onOutgoing = (outgoing) => {
      // Node would cut the list silently; maxHeaderSize bounds it.
      outgoing.maxHeadersCount = 0;
      outgoing.on("information", ({ statusCode, rawHeaders }) => events.information(statusCode, rawHeaders));
      outgoing.on("upgrade", (incoming, socket: Socket, first) => events.upgraded(incoming, socket, first));
    };
    try {
      this.#proxy.web(
        request,
        response,
        {
          // The connection is open already, TLS included: node:http only has to write to it.
          target: { protocol: "http:", host: connection.origin!.host, port: connection.origin!.port },
          agent,
          ssl: pinned(attempt, this.#maxHeaderSize),
          buffer: body,
        },
        (error) => events.failed(error),
      );
    } catch (error) {
      events.failed(error as NodeJS.ErrnoException);
    }
  }

  #agentOf(connection: ProxyConnection): ConnectionAgent {
    let agent = this.#agents.get(connection);
    if (agent === undefined) {
      agent = new ConnectionAgent(connection);
      this.#agents.set(connection, agent);
    }
    return agent;
  }
}

/** Options for node:http in which path and headers stay what they are, whatever is assigned to them. */
function pinned(attempt: Attempt, maxHeaderSize: number): object {
  const pin = (value: unknown): PropertyDescriptor => ({ enumerable: true, get: () => value, set: () => {} });
  return Object.defineProperties({ maxHeaderSize }, { path: pin(attempt.target), headers: pin(attempt.fields) });
}
