/**
 * Makes one pooled connection usable by node:http: an agent that holds exactly that connection.
 *
 * The pool decides which connection carries an exchange before node:http is asked for anything, so the agent never
 * chooses, queues or opens. Only documented parts of http.Agent are overridden.
 *
 * @module
 */
import http from "node:http";
import type { Duplex } from "node:stream";
import type { ProxyConnection } from "../connection.ts";

/** An agent with one connection. */
export class ConnectionAgent extends http.Agent {
  readonly #connection: ProxyConnection;
  #taken = false;
  /** Called when node:http has finished with the connection: `kept` tells whether it can carry more. */
  onDone: (kept: boolean) => void = () => {};
  /** The final response that the connection carries now, as far as it has come. */
  response: http.IncomingMessage | undefined;

  constructor(connection: ProxyConnection) {
    super({ keepAlive: true, maxSockets: 1, maxFreeSockets: 1 });
    this.#connection = connection;
    connection.socket.once("close", () => this.onDone(false));
    // node:http stops listening once a response is complete, although its reader may be far behind: what comes in
    // between would vanish unseen.
    connection.socket.on("data", () => {
      if (this.response?.complete) connection.cut("protocol_error", bytesAfterResponse());
    });
  }

  override getName(): string {
    return "connection";
  }

  override createConnection(): Duplex {
    if (this.#taken || this.#connection.socket.destroyed) {
      // It closed between the pool's choice and now: a stale connection like any other.
      throw Object.assign(new Error("the connection is closed"), { code: "ECONNRESET" });
    }
    this.#taken = true;
    return this.#connection.socket;
  }

  /** Leaves the socket's TCP keepalive alone: node's own method would reset interval and count. */
  override keepSocketAlive(socket: Duplex): boolean {
    const kept = socket.writable && this.#connection.reasonToClose() === undefined;
    // Node puts the socket among its free ones after this returns; only then may it be taken again.
    queueMicrotask(() => this.onDone(kept));
    return kept;
  }
}

/** What a connection is cut for when its upstream sends more than the response (RFC 9112 §9.2). */
export function bytesAfterResponse(): Error {
  return new Error("the upstream sent bytes after a complete response");
}
