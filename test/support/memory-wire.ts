/**
 * The wire forwarder on sockets in memory: what it makes of bytes, however they are cut, without a kernel between.
 * Thousands of runs a second, and every turn of the event loop is the test's own.
 */
import type { Socket } from "node:net";
import { type Duplex, duplexPair } from "node:stream";
import type { HoldfastError } from "../../src/errors.ts";
import type { Route } from "../../src/plugin/api.ts";
import { Chain } from "../../src/plugin/chain.ts";
import type { SocketReader } from "../../src/proxy/connect.ts";
import { ProxyConnection } from "../../src/proxy/connection.ts";
import type { ExchangeSurroundings } from "../../src/proxy/exchange.ts";
import type { Asker } from "../../src/proxy/pool.ts";
import type { Pools } from "../../src/proxy/pools.ts";
import { RunningExchanges } from "../../src/proxy/running-exchanges.ts";
import { wireForwarder } from "../../src/proxy/wire/forwarder.ts";

/** How bytes are cut into reads: gets how many there are, returns how many the next read takes, from 1. */
export type Cut = (available: number) => number;

/** Everything in one read. */
export const WHOLE: Cut = (available) => available;

/** What to run. */
export interface MemoryWireOptions {
  /** A connection was opened upstream: this is the other end of it. */
  readonly onUpstream: (far: Duplex) => void;
  /** How the bytes that come from upstream are cut. Default: as they come. */
  readonly cut?: Cut;
  readonly replayBytes?: number;
}

/** A running wire forwarder. */
export interface MemoryWire {
  /** The peer's end of a fresh downstream connection. */
  connect(): Duplex;
  /** Connections to the upstream, in the order of their opening. */
  readonly upstreams: readonly ProxyConnection[];
  /** What was refused before it became an exchange. */
  readonly refused: readonly HoldfastError[];
  /** What exchanges failed with. */
  readonly failed: readonly HoldfastError[];
}

const SETUP = {
  startedAtEpochMs: 0,
  dnsMs: undefined,
  connectMs: undefined,
  tlsMs: undefined,
  tlsVersion: undefined,
  tlsResumed: undefined,
} as const;
const ROUTE: Route = {
  name: "http://origin.example:80",
  origin: { scheme: "http", host: "origin.example", port: 80 },
  backend: undefined,
};
/** Reads come in memory that is used again, as on a real socket. */

/** Starts one. */
export function memoryWire(options: MemoryWireOptions): MemoryWire {
  const { onUpstream, cut = WHOLE, replayBytes = 65_536 } = options;
  const refused: HoldfastError[] = [];
  const failed: HoldfastError[] = [];
  const upstreams: ProxyConnection[] = [];
  const chain = new Chain(
    [
      {
        name: "observer",
        onError: "continue",
        requestTimeoutMs: Number.POSITIVE_INFINITY,
        filter: {
          exchange: () => ({
            end({ error }) {
              if (error !== undefined) failed.push(error as HoldfastError);
            },
          }),
        },
      },
    ],
    ({ error }) => {
      throw error;
    },
  );

  function open(asker: Asker): ProxyConnection {
    const [near, far] = socketPair();
    const reader = asker.makeReader?.();
    const connection = new ProxyConnection({
      direction: "inbound",
      side: "upstream",
      socket: near,
      protocol: "http/1.1",
      setup: SETUP,
      origin: ROUTE.origin,
      reader,
      idleTimeoutMs: Number.POSITIVE_INFINITY,
    });
    upstreams.push(connection);
    connection.open(chain);
    if (reader !== undefined) readShared(near, reader, cut);
    onUpstream(far);
    return connection;
  }

  const pool = {
    acquire(asker: Asker) {
      const idle = upstreams.findLast(
        (connection) =>
          !asker.fresh &&
          connection.state === "idle" &&
          (connection.reader === undefined) === (asker.makeReader === undefined),
      );
      if (idle !== undefined) {
        asker.acquired(idle, 0, 0);
        return undefined;
      }
      let isWanted = true;
      // As on a network, opening takes a turn at least.
      setImmediate(() => {
        if (isWanted) asker.acquired(open(asker), 0, 0);
      });
      return {
        cancel() {
          isWanted = false;
        },
      };
    },
  };
  const around: ExchangeSurroundings = {
    name: "inbound",
    service: "memory",
    generation: {
      chain,
      router: { route: () => ROUTE, configured: [ROUTE], passes: false },
      limits: { headBytes: 65_536, fields: 200, targetBytes: 16_384, replayBytes, streams: 100 },
      forwarding: { trusted: undefined, xForwarded: false, forwarded: false, via: undefined },
      listen: { host: "127.0.0.1", port: 0 },
      listenerTls: undefined,
      http2: false,
      connectTimeoutMs: Number.POSITIVE_INFINITY,
      responseTimeoutMs: Number.POSITIVE_INFINITY,
      tunnelIdleTimeoutMs: Number.POSITIVE_INFINITY,
      dnsRefreshMs: Number.POSITIVE_INFINITY,
      upstreamTls: new Map(),
    },
    pools: { of: () => pool } as unknown as Pools,
    exchanges: new RunningExchanges(),
    onRefused: (_connection, failure) => refused.push(failure),
    draining: false,
  };
  const forwarder = wireForwarder(around);
  return {
    upstreams,
    refused,
    failed,
    connect() {
      const [near, far] = socketPair();
      const connection = new ProxyConnection({
        direction: "inbound",
        side: "downstream",
        socket: near,
        protocol: "http/1.1",
        setup: SETUP,
        idleTimeoutMs: Number.POSITIVE_INFINITY,
      });
      connection.open(chain);
      forwarder.accept(connection);
      return far;
    },
  };
}

/** Writes the bytes in reads of the sizes that `cut` says, each once the one before was taken; then ends, if asked. */
export async function writeCut(far: Duplex, bytes: Buffer, cut: Cut, end: boolean): Promise<void> {
  for (let at = 0; at < bytes.length && !far.destroyed; ) {
    const size = cut(bytes.length - at);
    const piece = bytes.subarray(at, at + size);
    await new Promise<void>((resolve) => {
      // A side that is gone takes nothing and says nothing.
      far.once("close", resolve);
      far.write(piece, () => {
        far.off("close", resolve);
        resolve();
      });
    });
    at += size;
  }
  if (end && !far.destroyed) far.end();
}

/** Two ends of one connection; when one is destroyed, the other finds out as it would from a kernel. */
function socketPair(): [near: Socket, far: Duplex] {
  const [near, far] = duplexPair();
  const { _write: write } = near;
  Object.assign(near, {
    // A kernel copies what it takes.
    _write: (bytes: Buffer, encoding: BufferEncoding, done: () => void) =>
      write.call(near, Buffer.from(bytes), encoding, done),
    remoteAddress: "192.0.2.1",
    remotePort: 1,
    localAddress: "192.0.2.2",
    localPort: 2,
    bytesRead: 0,
    bytesWritten: 0,
    setNoDelay: () => near,
    setKeepAlive: () => near,
    setTimeout: () => near,
    destroySoon: () => (near.writable ? near.end(() => near.destroy()) : near.destroy()),
    resetAndDestroy: () => near.destroy(),
  });
  near.once("close", () => far.destroy());
  far.once("close", () => {
    if (near.destroyed) return;
    if (far.writableFinished) setImmediate(() => near.destroy());
    else near.destroy(Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" }));
  });
  far.on("error", () => {});
  return [near as Socket, far];
}

/** Gives the reader what comes, in its memory, which holds something else as soon as it is to be read into again. */
function readShared(socket: Socket, reader: SocketReader, cut: Cut): void {
  socket.on("data", (bytes: Buffer) => {
    for (let at = 0; at < bytes.length && !socket.destroyed; ) {
      const memory = reader.memory();
      const size = Math.min(cut(bytes.length - at), memory.length);
      bytes.copy(memory, 0, at, at + size);
      at += size;
      const goesOn = reader.read(memory, size);
      if (reader.memory() === memory) memory.fill("~", 0, size);
      if (goesOn) continue;
      socket.pause();
      if (at < bytes.length) socket.unshift(bytes.subarray(at));
      return;
    }
  });
}
