/**
 * Accepts downstream connections.
 *
 * @module
 */

import type { AddressInfo } from "node:net";
import net from "node:net";
import { formatHostPort } from "../config/address.ts";
import type { HostPort } from "../config/sidecar-config.ts";
import { HoldfastError } from "../errors.ts";
import { connectionsWaitingFor, socketsListeningOn } from "./listening-sockets.ts";

/** A bound socket. */
export interface Listener {
  readonly address: HostPort;
  /** No new connections from here on. Those that the kernel holds for us are reset. */
  close(): void;
  /** The same once the kernel holds none for us, or after 10 s in which there was no such moment. */
  closeWhenQuiet(): Promise<void>;
}

/**
 * Sockets that listen on one address (SO_REUSEPORT). Node.js accepts one connection per socket in each turn of its loop,
 * and under load a turn is long: with a thousand busy connections 20 ms, so that a hundred new ones waited for seconds.
 */
const SOCKETS = 16;

/**
 * How long to wait for a moment without new connections before closing, in milliseconds: under load it takes a while
 * until those that the kernel holds are taken.
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
  const onSocket = (socket: net.Socket): void => {
    accepted++;
    accept(socket);
  };
  let first: net.Server;
  let sharesPort = socketsListeningOn(address) === 0;
  try {
    first = await bind(address, sharesPort, onSocket);
    // Another process of this user that shares its port too goes unnoticed by the kernel, which splits the traffic.
    if (sharesPort && (socketsListeningOn(addressOf(first)) ?? 1) > 1) {
      sharesPort = false;
      await closed(first);
      first = await bind(address, sharesPort, onSocket);
    }
  } catch (error) {
    throw new HoldfastError("HF_CONFIG", bindFault(address, key, error as NodeJS.ErrnoException), { cause: error });
  }
  const actual = addressOf(first);
  const servers = [first];
  let isClosed = false;
  const addOthers = (): void => {
    for (let count = 1; count < SOCKETS && !isClosed; count++) {
      bind(actual, true, onSocket).then(
        (server) => {
          if (isClosed) server.close();
          else servers.push(server);
        },
        // Fewer accept more slowly, and that is all.
        () => {},
      );
    }
  };
  // Not before traffic can flow: one is enough to start with.
  if (sharesPort) setImmediate(addOthers);
  const close = (): void => {
    isClosed = true;
    for (const server of servers) server.close();
  };
  return {
    address: actual,
    close,
    async closeWhenQuiet() {
      const untilMs = performance.now() + QUIET_MS;
      // A turn without new connections is not enough: others may have come since, while it was busy with something else.
      for (let before = -1; before !== accepted || connectionsWaitingFor(actual, servers.length) > 0; ) {
        if (performance.now() >= untilMs) break;
        before = accepted;
        await new Promise((resolve) => setImmediate(resolve));
      }
      close();
    },
  };
}

async function bind(
  { host, port }: HostPort,
  reusePort: boolean,
  accept: (socket: net.Socket) => void,
): Promise<net.Server> {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, accept);
  const bound = Promise.withResolvers<void>();
  server.once("error", (error: NodeJS.ErrnoException) => bound.reject(error));
  server.listen({ host, port, backlog: 4096, reusePort }, () => bound.resolve());
  await bound.promise;
  // Running out of descriptors must not end the process; the kernel's backlog holds connections meanwhile.
  server.on("error", () => {});
  return server;
}

function addressOf(server: net.Server): HostPort {
  const { address: host, port } = server.address() as AddressInfo;
  return { host, port };
}

function closed(server: net.Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

/** What is wrong with an address that cannot be bound, and what to do. */
function bindFault(address: HostPort, key: string, error: NodeJS.ErrnoException): string {
  const what = `${key}: cannot listen on ${formatHostPort(address)} (${error.code ?? error.message})`;
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
