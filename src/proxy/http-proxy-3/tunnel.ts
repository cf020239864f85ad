/**
 * CONNECT: opaque bytes to an upstream, with connection hooks, TCP keepalive and telemetry still applied.
 *
 * @module
 */
import type http from "node:http";
import type { Socket } from "node:net";
import { asHoldfastError, HoldfastError } from "../../errors.ts";
import type { LocalResponse, ProxyExchange } from "../exchange.ts";
import { runTunnel } from "../tunnel.ts";

/**
 * Runs a CONNECT exchange to its end.
 *
 * @param first - bytes that came after the request head
 * @param over - called once
 */
export function runConnect(
  exchange: ProxyExchange,
  response: http.ServerResponse,
  socket: Socket,
  first: Buffer,
  over: () => void,
): void {
  let failure: HoldfastError | undefined;
  let joined = false;
  let finished = false;
  exchange.requestComplete = true;

  response.on("finish", () => finish());
  socket.on("close", () => {
    if (joined) return;
    failure ??= new HoldfastError(
      "HF_DOWNSTREAM_ABORTED",
      "the downstream connection closed before the tunnel was open",
    );
    finish();
  });

  exchange.steps = {
    admitted(_exchange, error, reply) {
      if (finished) return;
      if (error !== undefined) fail(error);
      else if (reply !== undefined) send(() => exchange.respondWithReply(reply));
      else exchange.attempt(true);
    },
    connected(_exchange, error, upstream) {
      if (error !== undefined) fail(error);
      else if (finished || upstream === undefined) exchange.releaseUpstream(false);
      else join();
    },
    abort: (_exchange, error) => fail(error),
  };
  exchange.admit();

  /** Answers instead of opening the tunnel. */
  function send(answer: () => LocalResponse): void {
    // What the peer may have sent ahead, for the tunnel, must not be read as a request.
    exchange.downstream.drain("protocol_error");
    try {
      const { head, body, closes } = answer();
      exchange.addDownstreamFields(head.headers, head.version, closes);
      response.writeHead(head.status, head.headers.flat);
      response.end(body);
    } catch (thrown) {
      fail(asHoldfastError(thrown));
    }
  }

  function join(): void {
    joined = true;
    response.detachSocket(socket);
    exchange.status = 200;
    exchange.answered("holdfast");
    // 2xx to CONNECT has neither Content-Length nor Transfer-Encoding (RFC 9110 §9.3.6).
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n", "latin1");
    runTunnel(exchange, first, Buffer.alloc(0), finish);
  }

  function fail(error: HoldfastError): void {
    if (finished || failure !== undefined) return;
    failure = error;
    exchange.releaseUpstream(false);
    send(() => exchange.respondWithError(error));
  }

  function finish(): void {
    if (finished) return;
    finished = true;
    exchange.end(failure);
    over();
  }
}
