/**
 * HTTP/2 from downstream: node:http2 reads frames, each stream runs as an exchange, http-proxy-3 carries it upstream in
 * HTTP/1.1.
 *
 * @module
 */

import type http from "node:http";
import type {
  Http2Server,
  Http2ServerRequest,
  Http2ServerResponse,
  Http2Session,
  ServerHttp2Session,
} from "node:http2";
import type { Limits } from "../../config/sidecar-config.ts";
import { asHoldfastError, errorResponse, type HoldfastError } from "../../errors.ts";
import { nodeHttp2 } from "../../node-lazy.ts";
import { CLOSE_LINGER_MS, type ProxyConnection } from "../connection.ts";
import { type ExchangeSurroundings, ProxyExchange } from "../exchange.ts";
import { FieldList } from "../headers.ts";
import { type CheckedHead, checkRequestHead } from "../request-rules.ts";
import type { Carrier } from "./carrier.ts";
import { runExchange } from "./exchange.ts";
import { Http2Answer, NO_ERROR, streamBody } from "./http2-answer.ts";
import { headOfStream } from "./http2-head.ts";

/**
 * node:http2 resets a stream whose head is too large before anybody sees it. A head up to this many times the limit
 * still gets its 431.
 */
const HEAD_ROOM = 2;

/** Streams that a peer may reset in a burst, and per second after it (CVE-2023-44487); then the connection ends. */
const RESET_BURST = 200;
const RESET_PER_SECOND = 20;

/** Takes connections that speak HTTP/2. */
export interface Http2Acceptor {
  /** Takes over a connection whose peer begins, or has begun, with the client preface. */
  accept(connection: ProxyConnection): void;
}

/** Makes one for connections with these limits; a reload may bring others. */
export function http2Acceptor(around: ExchangeSurroundings, limits: Limits, carrier: Carrier): Http2Acceptor {
  const connections = new WeakMap<Http2Session, ProxyConnection>();
  let server: Http2Server | undefined;

  return {
    accept(connection) {
      const { socket } = connection;
      connection.protocol = "h2";
      // Frames that belong to no request come at any time.
      connection.noteBytesRead = false;
      // A side that ends alone means nothing in HTTP/2.
      socket.allowHalfOpen = false;
      server ??= makeServer();
      server.once("session", (session) => begin(connection, session));
      server.emit("connection", socket);
    },
  };

  function makeServer(): Http2Server {
    const made = nodeHttp2().createServer({
      settings: {
        maxConcurrentStreams: limits.streams,
        maxHeaderListSize: limits.headBytes * HEAD_ROOM,
      },
      maxHeaderListPairs: limits.fields * HEAD_ROOM,
      // Of a response: what HTTP/2 counts for each field comes on top.
      maxSendHeaderBlockLength: limits.headBytes * HEAD_ROOM,
      // What an upstream sends twice is passed on twice.
      strictSingleValueFields: false,
      streamResetBurst: RESET_BURST,
      streamResetRate: RESET_PER_SECOND,
    });
    made.on("request", received);
    made.on("checkContinue", received);
    made.on("checkExpectation", received);
    made.on("connect", received);
    return made;
  }

  function begin(connection: ProxyConnection, session: ServerHttp2Session): void {
    connections.set(session, connection);
    // GOAWAY: no further streams, and what runs finishes. What crosses it on its way can be repeated (RFC 9113 §6.8).
    connection.onDraining = () => session.close();
    connection.closeTransport = () => {
      session.close();
      linger(connection);
    };
    session.on("goaway", (code) => {
      if (code === NO_ERROR) connection.peerCloses();
    });
    session.on("error", (error) => {
      connection.error ??= error;
      connection.drain("protocol_error");
    });
  }

  function received(request: Http2ServerRequest, response: Http2ServerResponse): void {
    const { stream } = request;
    // Reset in the same read.
    if (stream.destroyed || stream.session === undefined) return;
    const connection = connections.get(stream.session)!;
    const answer = new Http2Answer(response);
    let head: CheckedHead;
    try {
      head = checkRequestHead(
        headOfStream(request.rawHeaders, connection.secure, !stream.endAfterHeaders),
        around.generation.limits,
      );
    } catch (error) {
      refuse(connection, answer, asHoldfastError(error));
      return;
    }
    const exchange = new ProxyExchange(around, connection, head, "http");
    const carriage = { carrier, replayBytes: exchange.generation.limits.replayBytes, upgrade: undefined };
    runExchange(
      exchange,
      { request: request as unknown as http.IncomingMessage, body: streamBody(request) },
      answer,
      carriage,
      () => {},
    );
  }

  /** Answers what is not a request. There is no exchange; the other streams go on. */
  function refuse(connection: ProxyConnection, answer: Http2Answer, failure: HoldfastError): void {
    around.onRefused(connection, failure);
    const { status, fields, body } = errorResponse(failure, around.service);
    answer.writeHead({ status, reason: "", headers: new FieldList(fields.flat()) }, false);
    answer.end(body);
  }
}

/** A peer that does not close its side does not keep ours. */
function linger({ socket }: ProxyConnection): void {
  if (socket.destroyed) return;
  const timer = setTimeout(() => socket.destroy(), CLOSE_LINGER_MS).unref();
  socket.once("close", () => clearTimeout(timer));
}
