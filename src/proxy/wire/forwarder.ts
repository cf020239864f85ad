/**
 * The wire forwarder: HTTP/1.0 and 1.1 on sockets. What leaves plain request and response (upgrades, CONNECT) goes to
 * the http-proxy-3 forwarder, in the middle of a connection if need be.
 *
 * @module
 */

import { HoldfastError } from "../../errors.ts";
import type { ProxyConnection } from "../connection.ts";
import type { ExchangeSurroundings } from "../exchange.ts";
import type { Forwarder } from "../forwarder.ts";
import { httpProxy3Forwarder } from "../http-proxy-3/forwarder.ts";
import { refuseConnection } from "../refuse.ts";
import { Lane, type LaneHost } from "./lane.ts";

/** Makes the forwarder of one direction. */
export function wireForwarder(around: ExchangeSurroundings): Forwarder {
  let other: Forwarder | undefined;
  const handedOver = new WeakSet<ProxyConnection>();
  const host: LaneHost = {
    around,
    handOver(connection, bytes) {
      handedOver.add(connection);
      other ??= httpProxy3Forwarder(around);
      connection.socket.unshift(bytes);
      other.accept(connection);
      // The lane paused it, so that no byte got lost between the two.
      connection.socket.resume();
    },
    refuse: (connection, failure) => refuseConnection(around, connection, failure),
  };
  return {
    name: "wire",
    accept(connection) {
      new Lane(connection, host);
    },
    refuseSlowHead(connection) {
      if (handedOver.has(connection)) {
        other?.refuseSlowHead(connection);
        return;
      }
      const { headMs } = connection.requestTimeouts;
      host.refuse(
        connection,
        new HoldfastError("HF_REQUEST_TIMEOUT", `the request head was not complete within ${headMs} ms`),
      );
    },
  };
}
