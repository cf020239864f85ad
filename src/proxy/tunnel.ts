/**
 * Bytes both ways between two sockets, once they are no longer HTTP: CONNECT and upgrades.
 *
 * @module
 */
import type { Socket } from "node:net";

/** How a tunnel is watched. */
export interface TunnelWatch {
  /** Bytes moved; `upstream` says which way. */
  moved(bytes: number, towards: "upstream" | "downstream"): void;
  /** Both sides are closed. Called once. */
  closed(): void;
}

/**
 * Joins two sockets. Back-pressure and half-closed sides pass through; when one side breaks, so does the other.
 *
 * @param downstreamFirst - bytes already read from downstream, sent before the rest
 * @param upstreamFirst - bytes already read from upstream
 */
export function joinSockets(
  downstream: Socket,
  upstream: Socket,
  downstreamFirst: Buffer,
  upstreamFirst: Buffer,
  watch: TunnelWatch,
): void {
  let open = 2;
  downstream.setNoDelay(true);
  upstream.setNoDelay(true);
  flow(downstream, upstream, downstreamFirst, "upstream");
  flow(upstream, downstream, upstreamFirst, "downstream");

  function flow(from: Socket, to: Socket, first: Buffer, towards: "upstream" | "downstream"): void {
    const send = (bytes: Buffer): void => {
      watch.moved(bytes.length, towards);
      if (!to.write(bytes)) from.pause();
    };
    if (first.length > 0) send(first);
    from.on("data", send);
    to.on("drain", () => from.resume());
    from.on("end", () => to.end());
    from.once("close", () => {
      // A clean end has been passed on; anything else must not look like one.
      if (from.readableEnded) to.destroySoon();
      else to.destroy();
      open--;
      if (open === 0) watch.closed();
    });
    from.resume();
  }
}
