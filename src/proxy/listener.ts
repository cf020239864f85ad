/**
 * Accepts downstream connections.
 *
 * @module
 */

import type { AddressInfo } from "node:net";
import net from "node:net";
import type { HostPort } from "../config/sidecar-config.ts";
import { HoldfastError } from "../errors.ts";

/** A bound socket. */
export interface Listener {
  readonly address: HostPort;
  /** No new connections from here on. Those that the kernel holds for us are reset. */
  close(): void;
  /** The same once the kernel holds none for us, or after 10 s in which there was no such moment. */
  closeWhenQuiet(): Promise<void>;
}

/**
 * How long to wait for a moment without new connections before closing, in milliseconds. Node accepts one connection in
 * each turn of its loop: under load it takes seconds until those that the kernel holds are taken.
 */
const QUIET_MS = 10_000;

/**
 * Binds and listens. Nothing is accepted before `accept` is ready, because the returned promise is awaited first.
 *
 * @param accept - called for every connection
 * @throws HoldfastError `HF_CONFIG` when the address cannot be bound
 */
export async function listen(address: HostPort, key: string, accept: (socket: net.Socket) => void): Promise<Listener> {
  let accepted = 0;
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    accepted++;
    accept(socket);
  });
  const bound = Promise.withResolvers<void>();
  server.once("error", (error: NodeJS.ErrnoException) => bound.reject(error));
  server.listen({ host: address.host, port: address.port, backlog: 4096 }, () => bound.resolve());
  try {
    await bound.promise;
  } catch (error) {
    throw new HoldfastError("HF_CONFIG", bindFault(address, key, error as NodeJS.ErrnoException), { cause: error });
  }
  // Running out of descriptors must not end the process; the kernel's backlog holds connections meanwhile.
  server.on("error", () => {});
  const actual = server.address() as AddressInfo;
  return {
    address: { host: actual.address, port: actual.port },
    close: () => void server.close(),
    async closeWhenQuiet() {
      const untilMs = performance.now() + QUIET_MS;
      for (let before = -1; before !== accepted && performance.now() < untilMs; ) {
        before = accepted;
        await new Promise((resolve) => setImmediate(resolve));
      }
      server.close();
    },
  };
}

/** What is wrong with an address that cannot be bound, and what to do. */
function bindFault({ host, port }: HostPort, key: string, error: NodeJS.ErrnoException): string {
  const what = `${key}: cannot listen on ${host}:${port} (${error.code ?? error.message})`;
  switch (error.code) {
    case "EADDRINUSE":
      return `${what}; it is in use: stop what listens there or choose another port`;
    case "EACCES":
      return `${what}; choose a port above 1023 or grant CAP_NET_BIND_SERVICE`;
    case "EADDRNOTAVAIL":
      return `${what}; choose an address of this machine, or 0.0.0.0 for all of them`;
    default:
      return what;
  }
}
