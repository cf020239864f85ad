/**
 * Opening an upstream connection: DNS, TCP, TLS, each timed.
 *
 * @module
 */
import net, { isIP, type LookupFunction, type Socket } from "node:net";
import type tls from "node:tls";
import { HoldfastError } from "../errors.ts";
import { nodeTls } from "../node-lazy.ts";
import type { ConnectionSetup, Origin } from "../plugin/api.ts";
import { plainAddress } from "./address.ts";
import type { ProxyConnection } from "./connection.ts";
import { RESERVED_ADDRESSES } from "./reserved-addresses.ts";

/** TLS towards one origin: what to trust and present, and the sessions to resume. */
export interface TlsOrigin {
  readonly context: tls.SecureContext;
  readonly serverName: string | undefined;
  /** Last session ticket the origin gave. */
  session: Buffer | undefined;
}

/** A freshly opened socket and how long opening it took. */
export interface Opened {
  readonly socket: Socket;
  readonly setup: ConnectionSetup;
}

/** A failure to open, with how far it came. */
export interface OpenFailure {
  readonly error: HoldfastError;
  readonly socket: Socket;
  readonly setup: ConnectionSetup;
}

/** Reads a socket without a stream between: bytes come in memory that is read into again afterwards. */
export interface SocketReader {
  /**
   * @param bytes - valid until this returns
   * @param length - how many of them are new
   * @returns false to pause the socket
   */
  read(bytes: Buffer, length: number): boolean;
  /** What a plain socket is to be read into: asked for at first and after each read. */
  memory(): Buffer;
  /** The connection is open: called once, before the first read. */
  attach(connection: ProxyConnection): void;
}

/** Ports of this sidecar that must not be reached through it, and what is there. */
export type OwnPorts = ReadonlyMap<number, "admin" | "outbound">;

/** What to open. */
export interface ConnectOptions {
  readonly origin: Origin;
  readonly security: TlsOrigin | undefined;
  /** For DNS, TCP and TLS together, in milliseconds. */
  readonly timeoutMs: number;
  /** Who reads it; `undefined`: it is read as a stream. */
  readonly reader: SocketReader | undefined;
  /** How its name is looked up; `undefined`: as the system does it. */
  readonly lookup?: LookupFunction | undefined;
  readonly ownPorts?: OwnPorts | undefined;
  /** Whether it is an origin of the configuration and not one that a request named. Default `true`. */
  readonly isConfigured?: boolean;
}

/**
 * Opens a connection. Tries the addresses of a name by Node's happy eyeballs: each for 250 ms, the last for what is left.
 *
 * @param done - called exactly once
 */
export function connect(
  options: ConnectOptions,
  done: (failure: OpenFailure | undefined, opened: Opened | undefined) => void,
): void {
  const { origin, security, timeoutMs, reader, lookup } = options;
  const startedAtMs = performance.now();
  const startedAtEpochMs = performance.timeOrigin + startedAtMs;
  let dnsMs: number | undefined;
  let connectMs: number | undefined;
  let tlsMs: number | undefined;
  let tlsSocket: tls.TLSSocket | undefined;
  let settled = false;

  const tcp = net.connect({
    host: origin.host,
    port: origin.port,
    noDelay: true,
    autoSelectFamily: true,
    ...(lookup === undefined ? {} : { lookup }),
    // Looked at by address as it connects, so that no name leads there.
    ...(options.isConfigured === false ? { blockList: RESERVED_ADDRESSES } : {}),
    // Under TLS the bytes of the socket are not those to be read.
    ...(reader === undefined || security !== undefined
      ? {}
      : {
          onread: {
            buffer: () => reader.memory(),
            callback: (length: number, bytes: Uint8Array) => reader.read(bytes as Buffer, length),
          },
        }),
  });
  const timer =
    timeoutMs === Number.POSITIVE_INFINITY
      ? undefined
      : setTimeout(() => {
          const where = `${origin.host}:${origin.port}`;
          fail(new HoldfastError("HF_UPSTREAM_CONNECT_TIMEOUT", `connecting to ${where} took over ${timeoutMs} ms`));
        }, timeoutMs);

  function setup(): ConnectionSetup {
    return {
      startedAtEpochMs,
      dnsMs,
      connectMs,
      tlsMs,
      tlsVersion: tlsSocket?.getProtocol() ?? undefined,
      tlsResumed: tlsSocket === undefined || tlsMs === undefined ? undefined : tlsSocket.isSessionReused(),
    };
  }

  function fail(error: HoldfastError): void {
    if (settled) return;
    settled = true;
    clearTimeout(timer);
    const socket = tlsSocket ?? tcp;
    done({ error, socket, setup: setup() }, undefined);
    tcp.destroy();
    tlsSocket?.destroy();
  }

  function succeed(socket: Socket): void {
    if (settled) return;
    settled = true;
    clearTimeout(timer);
    socket.removeListener("error", onError);
    done(undefined, { socket, setup: setup() });
  }

  function onError(error: NodeJS.ErrnoException): void {
    fail(connectError(origin, error, connectMs !== undefined));
  }

  // Stays after success: tls.connect leaves errors of the socket underneath to whoever made it.
  tcp.on("error", onError);
  tcp.once("lookup", () => {
    if (isIP(origin.host) === 0) dnsMs = performance.now() - startedAtMs;
  });
  tcp.once("connect", () => {
    connectMs = performance.now() - startedAtMs - (dnsMs ?? 0);
    const own = options.ownPorts?.get(origin.port);
    if (own !== undefined && isThisMachine(tcp)) {
      fail(ownPortError(origin, own));
      return;
    }
    if (security === undefined) {
      succeed(tcp);
      return;
    }
    const name = security.serverName ?? origin.host;
    tlsSocket = nodeTls().connect({
      socket: tcp,
      secureContext: security.context,
      host: name,
      ALPNProtocols: ["http/1.1"],
      ...(isIP(name) === 0 ? { servername: name } : {}),
      ...(security.session === undefined ? {} : { session: security.session }),
    });
    tlsSocket.once("error", onError);
    tlsSocket.on("session", (session) => {
      security.session = session;
    });
    tlsSocket.once("secureConnect", () => {
      tlsMs = performance.now() - startedAtMs - (dnsMs ?? 0) - (connectMs ?? 0);
      if (reader !== undefined) {
        tlsSocket!.on("data", (bytes: Buffer) => {
          if (!reader.read(bytes, bytes.length)) tlsSocket!.pause();
        });
      }
      succeed(tlsSocket!);
    });
  });
}

/** Whoever can reach the sidecar could reach what is for this machine only, or us again and again. */
function ownPortError(origin: Origin, own: "admin" | "outbound"): HoldfastError {
  const where = `${origin.host}:${origin.port}`;
  return own === "admin"
    ? new HoldfastError("HF_NO_ROUTE", `${where} is this sidecar's admin API, which is not reached through it`)
    : new HoldfastError("HF_LOOP", `${where} is this sidecar itself; check outbound.routes and unmatched`);
}

/** Whether both ends of the connection are on this machine. */
function isThisMachine(socket: Socket): boolean {
  const remote = plainAddress(socket.remoteAddress);
  return remote.startsWith("127.") || remote === "::1" || remote === plainAddress(socket.localAddress);
}

/** What a failure to open means. Names the address, so that the one line in the log is enough. */
function connectError(origin: Origin, error: NodeJS.ErrnoException, tcpIsOpen: boolean): HoldfastError {
  const where = `${origin.host}:${origin.port}`;
  const cause = { cause: error };
  if (tcpIsOpen) {
    // OpenSSL's verification results have names of their own, next to Node's ERR_TLS_CERT_ALTNAME_INVALID.
    const code = error.code ?? "";
    const certificate =
      code.includes("CERT") || code.startsWith("UNABLE_TO_") || code.startsWith("ERR_TLS_CERT") || code.includes("CRL");
    return certificate
      ? new HoldfastError("HF_UPSTREAM_CERTIFICATE", `certificate of ${where} refused: ${error.message}`, cause)
      : new HoldfastError("HF_UPSTREAM_TLS", `TLS handshake with ${where} failed: ${tlsReason(error)}`, cause);
  }
  switch (error.code) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EAI_FAIL":
    case "EAI_NODATA":
      return new HoldfastError("HF_UPSTREAM_DNS", `no address for ${origin.host} (${error.code})`, cause);
    case "ERR_IP_BLOCKED": {
      const what = `${where} is an address of this link, or a cloud's for credentials`;
      return new HoldfastError("HF_NO_ROUTE", `${what}; if the service may go there, give it a route`, cause);
    }
    case "ECONNREFUSED":
      return new HoldfastError("HF_UPSTREAM_REFUSED", `${where} refused the connection`, cause);
    case "ETIMEDOUT":
      return new HoldfastError("HF_UPSTREAM_CONNECT_TIMEOUT", `${where} did not answer`, cause);
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EADDRNOTAVAIL":
      return new HoldfastError("HF_UPSTREAM_UNREACHABLE", `no way to ${where} (${error.code})`, cause);
    default: {
      const reason = error.code ?? error.message;
      // Happy eyeballs reports all attempts at once.
      if (error instanceof AggregateError) return connectError(origin, error.errors[0] as NodeJS.ErrnoException, false);
      return new HoldfastError("HF_UPSTREAM_CLOSED", `connecting to ${where} failed (${reason})`, cause);
    }
  }
}

/** OpenSSL's own word where there is one: its whole message has source files in it, and ends in a line break. */
function tlsReason(error: NodeJS.ErrnoException & { reason?: string }): string {
  return error.reason ?? error.message.trim();
}
