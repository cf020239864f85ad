/**
 * The only place that calls http-proxy-3: sends one attempt of one exchange and hands back what comes.
 *
 * What http-proxy-3 2.0.1 would do to a request on its way (`Content-Length: 0` on a chunked DELETE or OPTIONS,
 * joined field lines, names in lower case, `Trailer` removed, paths normalised, `*` turned into `/*`) is mended at its
 * seam: the options object that it fills and gives to node:http is ours, and what decides about the wire is pinned.
 *
 * @module
 */
import type http from "node:http";
import { createRequire } from "node:module";
import type * as HttpProxy3 from "http-proxy-3";
import type { ProxyConnection } from "../connection.ts";
import { FieldList } from "../headers.ts";
import type { RequestBody } from "./request-body.ts";
import { ResponseEnd } from "./response-end.ts";

/** Methods whose requests node:http leaves without framing when their fields have none. */
const UNFRAMED: ReadonlySet<string> = new Set(["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"]);

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
  upgraded(incoming: http.IncomingMessage, first: Buffer): void;
  failed(error: NodeJS.ErrnoException): void;
  /** node:http has finished with the connection. `clean`: it carried one whole response, and can carry another. */
  released(clean: boolean): void;
}

/** Loaded with the first carrier: most sidecars with the wire forwarder never need one. */
function httpProxy3(): typeof HttpProxy3 {
  return createRequire(import.meta.url)("http-proxy-3");
}

/** Sends attempts through http-proxy-3. */
export class Carrier {
  readonly #proxy: HttpProxy3.ProxyServer = httpProxy3().createProxyServer({ selfHandleResponse: true });
  /** The largest response head that is taken. */
  readonly headBytes: number;

  constructor(headBytes: number) {
    this.headBytes = headBytes;
    // A peer that resets while we write to it: the response's `close` event tells the same, once.
    this.#proxy.on("econnreset", () => {});
  }

  /** Sends one attempt. Events come later, except `failed`, which may come before this returns. */
  send(attempt: Attempt): void {
    const { request, response, connection, body, events } = attempt;
    body.onOutgoing = (outgoing) => watch(outgoing, attempt);
    try {
      this.#proxy.web(
        request,
        response,
        {
          // The connection is open already, TLS included: node:http only has to write to it.
          target: { protocol: "http:", host: connection.origin!.host, port: connection.origin!.port },
          ssl: this.#options(attempt),
          buffer: body,
        },
        (error) => events.failed(error),
      );
    } catch (error) {
      events.failed(error as NodeJS.ErrnoException);
    }
  }

  /**
   * Options for node:http in which path, headers and connection stay what they are, whatever is assigned to them. With
   * a connection and no agent, nobody but our pool decides what becomes of it: http.Agent would take over its reads
   * while it is idle, and destroy it without telling why.
   */
  #options(attempt: Attempt): object {
    const { connection, target } = attempt;
    const pin = (value: unknown): PropertyDescriptor => ({ enumerable: true, get: () => value, set: () => {} });
    return Object.defineProperties(
      { maxHeaderSize: this.headBytes },
      {
        path: pin(target),
        headers: pin(framedFields(attempt)),
        agent: pin(undefined),
        createConnection: pin(() => {
          if (!connection.socket.destroyed) return connection.socket;
          // It closed between the pool's choice and now: a stale connection like any other.
          throw Object.assign(new Error("the connection is closed"), { code: "ECONNRESET" });
        }),
      },
    );
  }
}

/** Node would add `Transfer-Encoding: chunked` where nothing stands; a length of 0 says that there is no body (RFC 9110 §8.6). */
function framedFields({ request, fields }: Attempt): string[] {
  if (UNFRAMED.has(request.method!)) return fields;
  const list = new FieldList(fields);
  if (!list.has("content-length") && !list.has("transfer-encoding")) list.write("Content-Length", "0");
  return fields;
}

/** Follows the outgoing request; called before anything of it is sent. */
function watch(outgoing: http.ClientRequest, { connection, events }: Attempt): void {
  const { socket } = connection;
  const end = new ResponseEnd(socket, outgoing.method);
  // Without an agent node:http would close the connection after the response. What we tell the peer is in our fields.
  outgoing.shouldKeepAlive = true;
  // Node would cut the list silently; maxHeaderSize bounds it.
  outgoing.maxHeadersCount = 0;
  outgoing.on("response", (incoming) => {
    end.response = incoming;
    events.response(incoming);
  });
  outgoing.on("information", ({ statusCode, rawHeaders }) => events.information(statusCode, rawHeaders));
  outgoing.on("upgrade", (incoming, _socket, first) => {
    end.stop();
    events.upgraded(incoming, first);
  });
  outgoing.on("close", () => {
    end.stop();
    events.released(socket.writable && end.isClean);
  });
}
