/**
 * How a service of the demo runs: it listens on a free port, tells the demo which, and ends with it.
 *
 * @module
 */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

/** What a service tells the demo once it listens. */
export interface Listening {
  readonly port: number;
}

/** What the demo tells a service. */
export interface UseProxy {
  /** URL of the outbound listener of its sidecar. */
  readonly proxy: string;
}

/**
 * Listens until the demo goes away.
 *
 * @param onProxy - called when the demo says where the service's outbound requests go
 */
export function serve(server: Server, onProxy: (proxy: string) => void = () => {}): void {
  process.on("message", ({ proxy }: UseProxy) => onProxy(proxy));
  process.on("disconnect", () => process.exit());
  server.listen(0, "127.0.0.1", () => {
    process.send?.({ port: (server.address() as AddressInfo).port } satisfies Listening);
  });
}
