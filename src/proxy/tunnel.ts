/**
 * Bytes both ways between two sockets, once they are no longer HTTP: CONNECT and upgrades.
 *
 * @module
 */
import type { Socket } from "node:net";
import type { ProxyConnection } from "./connection.ts";
import type { ProxyExchange } from "./exchange.ts";

/**
 * Makes a tunnel of the exchange's two connections and runs it to its end. Back-pressure and half-closed sides pass
 * through; when one side breaks, so does the other. A tunnel that is silent for too long is closed; that is no error.
 *
 * @param downstreamFirst - bytes already read from downstream, sent before the rest
 * @param upstreamFirst - bytes already read from upstream
 * @param over - called once, when both sides are closed
 */
export function runTunnel(
  exchange: ProxyExchange,
  downstreamFirst: Buffer,
  upstreamFirst: Buffer,
  over: () => void,
): void {
  const { downstream } = exchange;
  const upstream = exchange.upstream!;
  let open = 2;
  exchange.steps = {
    admitted() {},
    connected() {},
    abort() {
      downstream.cut("idle_timeout");
      upstream.cut("idle_timeout");
    },
  };
  for (const connection of [downstream, upstream]) {
    connection.protocol = "tunnel";
    connection.socket.allowHalfOpen = true;
    connection.socket.setNoDelay(true);
  }
  flow(downstream.socket, upstream, downstreamFirst, (bytes) => {
    exchange.requestBytes += bytes;
  });
  flow(upstream.socket, downstream, upstreamFirst, (bytes) => {
    exchange.responseBytes += bytes;
  });

  function flow(from: Socket, other: ProxyConnection, first: Buffer, count: (bytes: number) => void): void {
    const to = other.socket;
    const send = (bytes: Buffer): void => {
      count(bytes.length);
      exchange.progressAtMs = performance.now();
      if (!to.write(bytes)) from.pause();
    };
    if (first.length > 0) send(first);
    from.on("data", send);
    to.on("drain", () => from.resume());
    from.on("end", () => to.end());
    from.once("close", () => {
      // A clean end has been passed on; anything else must not look like one.
      if (from.readableEnded) to.destroySoon();
      else other.reset("aborted");
      open--;
      if (open > 0) return;
      exchange.releaseUpstream(true);
      over();
    });
    from.resume();
  }
}
