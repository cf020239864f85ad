/**
 * The wire forwarder: HTTP/1.0 and 1.1 on sockets. What leaves plain request and response (upgrades, CONNECT, HTTP/2)
 * goes to the http-proxy-3 forwarder, in the middle of a connection if need be.
 *
 * @module
 */

import { HoldfastError } from "../../errors.ts";
import type { ProxyConnection } from "../connection.ts";
import type { ExchangeSurroundings } from "../exchange.ts";
import type { Forwarder } from "../forwarder.ts";
import { type HttpProxy3Forwarder, httpProxy3Forwarder } from "../http-proxy-3/forwarder.ts";
import { refuseConnection } from "../refuse.ts";
import { Lane, type LaneHost } from "./lane.ts";

/** Makes the forwarder of one direction. */
export function wireForwarder(around: ExchangeSurroundings): Forwarder {
  let made: HttpProxy3Forwarder | undefined;
  const other = (): HttpProxy3Forwarder => (made ??= httpProxy3Forwarder(around));
  const handedOver = new WeakSet<ProxyConnection>();
  const host: LaneHost = {
    around,
    handOver(connection, bytes, to) {
      handedOver.add(connection);
      connection.socket.unshift(bytes);
      if (to === "h2") {
        other().acceptHttp2(connection);
        return;
      }
      other().acceptHttp1(connection);
      // The lane paused it, so that no byte got lost between the two.
      connection.socket.resume();
    },
    refuse: (connection, failure) => refuseConnection(around, connection, failure),
  };
  return {
    name: "wire",
    accept(connection) {
      // By ALPN; without TLS the lane finds out.
      if (connection.protocol === "h2") other().acceptHttp2(connection);
      else new Lane(connection, host);
    },
    refuseSlowHead(connection) {
      if (handedOver.has(connection)) {
        other().refuseSlowHead(connection);
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
