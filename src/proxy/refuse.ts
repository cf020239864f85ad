/**
 * Answering what is not a request.
 *
 * @module
 */

import { errorResponse, type HoldfastError } from "../errors.ts";
import { http } from "../node-http.ts";
import { closeGently, type ProxyConnection } from "./connection.ts";
import type { ExchangeSurroundings } from "./exchange.ts";

/**
 * Answers and closes. There is no exchange: nothing of what came can be trusted. A connection on which nothing came
 * before its time was over is closed without an answer.
 */
export function refuseConnection(
  around: ExchangeSurroundings,
  connection: ProxyConnection,
  failure: HoldfastError,
): void {
  around.onRefused(connection, failure);
  const timedOut = failure.code === "HF_REQUEST_TIMEOUT";
  const silent = timedOut && connection.headSinceMs === undefined;
  if (!silent && connection.socket.writable) {
    const { status, fields, body } = errorResponse(failure, around.service);
    const lines = [`HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ""}`];
    for (const [name, value] of fields) lines.push(`${name}: ${value}`);
    lines.push(`Date: ${new Date().toUTCString()}`, `Content-Length: ${body.length}`, "Connection: close");
    connection.socket.write(`${lines.join("\r\n")}\r\n\r\n${body}`, "latin1");
  }
  connection.drain(timedOut ? "request_timeout" : "protocol_error");
  closeGently(connection.socket);
}

/**
 * Closes without an answer: the rest of a body whose request was answered already is not valid. Who gets a second
 * response may take it for that to its next request.
 */
export function closeBehindAnswer(
  around: ExchangeSurroundings,
  connection: ProxyConnection,
  failure: HoldfastError,
): void {
  around.onRefused(connection, failure);
  connection.drain("protocol_error");
  closeGently(connection.socket);
}
