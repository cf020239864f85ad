/**
 * TLS that ends here: handshakes on accepted sockets, with certificates that may change while we run.
 *
 * @module
 */
import type { Socket } from "node:net";
import type tls from "node:tls";
import type { ListenerTls } from "../../config/sidecar-config.ts";
import { watchFiles } from "../../config/watch-files.ts";
import { HoldfastError } from "../../errors.ts";
import { nodeTls } from "../../node-lazy.ts";
import type { Logger } from "../../plugin/api.ts";
import { filesOf, readMaterial, sameMaterial, type TlsMaterial } from "./material.ts";

/** How a handshake ended: with the socket to speak on, or with why there is none. */
export type HandshakeResult =
  | { readonly socket: tls.TLSSocket; readonly failure: undefined }
  | { readonly socket: undefined; readonly failure: HoldfastError };

/** node:tls has a time limit of its own, which would end before ours; this is the longest that its timer takes. */
const NO_HANDSHAKE_TIMEOUT_MS = 2 ** 31 - 1;

/** What {@link TlsTermination} is made of. */
export interface TerminationOptions {
  readonly settings: ListenerTls;
  /** Name of the settings in messages: `"inbound.tls"`. */
  readonly key: string;
  /** Whether ALPN offers `h2`. */
  readonly http2: boolean;
  readonly log: Pick<Logger, "info" | "error">;
}

/**
 * A tls.Server tells only itself how a handshake ended. Each handshake gets one of its own to tell: an object that
 * inherits everything from the one server, and knows the connection.
 */
interface Handshake extends tls.Server {
  over(result: HandshakeResult): void;
}

/** The TLS of one listener. */
export class TlsTermination {
  readonly #options: TerminationOptions;
  readonly #server: tls.Server;
  readonly #unwatch: () => void;
  #material: TlsMaterial;

  /** @throws HoldfastError `HF_CONFIG` when the files cannot be used */
  constructor(options: TerminationOptions) {
    const { settings, key, http2 } = options;
    this.#options = options;
    try {
      this.#material = readMaterial(settings);
    } catch (error) {
      throw new HoldfastError("HF_CONFIG", `${key}: ${(error as Error).message}`, { cause: error });
    }
    this.#server = nodeTls().createServer({
      ...contextOptions(settings, this.#material),
      ALPNProtocols: http2 ? ["h2", "http/1.1"] : ["http/1.1"],
      handshakeTimeout: NO_HANDSHAKE_TIMEOUT_MS,
      requestCert: settings.clientCa !== undefined,
      rejectUnauthorized: settings.clientCa !== undefined && settings.requireClientCertificate,
    });
    this.#server.on("secureConnection", function (this: tls.Server, socket: tls.TLSSocket) {
      (this as Handshake).over(accepted(socket, settings));
    });
    this.#server.on("tlsClientError", function (this: tls.Server, error: NodeJS.ErrnoException, socket: tls.TLSSocket) {
      (this as Handshake).over({ socket: undefined, failure: handshakeError(error, socket) });
    });
    this.#unwatch = watchFiles(filesOf(settings), () => this.renew());
  }

  /**
   * Begins the handshake on an accepted socket.
   *
   * @param over - called once; with a failure, the socket is closed or about to be
   */
  begin(socket: Socket, over: (result: HandshakeResult) => void): void {
    // A peer that ends its side now will never finish; afterwards it may end it and wait for an answer.
    socket.allowHalfOpen = false;
    const handshake: Handshake = Object.assign(Object.create(this.#server) as tls.Server, { over });
    handshake.emit("connection", socket);
  }

  /** Stops looking after the files. Connections stay. */
  close(): void {
    this.#unwatch();
  }

  /** Reads the files again: new connections get the new certificate, what was negotiated stays. Files that cannot be used change nothing. */
  renew(): void {
    const { settings, key, log } = this.#options;
    let material: TlsMaterial;
    try {
      material = readMaterial(settings);
      if (sameMaterial(material, this.#material)) return;
      this.#server.setSecureContext(contextOptions(settings, material));
    } catch (error) {
      log.error({}, `${key}: the new files are not used, the ones before stay: ${(error as Error).message}`);
      return;
    }
    this.#material = material;
    const { subject, validTo } = material;
    log.info({ subject, validTo }, `${key}: new connections get the new certificate`);
  }
}

function contextOptions(settings: ListenerTls, { cert, key, clientCa }: TlsMaterial): tls.SecureContextOptions {
  return { cert, key, minVersion: settings.minVersion, ...(clientCa === undefined ? {} : { ca: clientCa }) };
}

/** A peer that need not show a certificate must still not show a wrong one. */
function accepted(socket: tls.TLSSocket, settings: ListenerTls): HandshakeResult {
  socket.allowHalfOpen = true;
  const isOptional = settings.clientCa !== undefined && !settings.requireClientCertificate;
  if (!isOptional || socket.authorized || socket.getPeerX509Certificate() === undefined) {
    return { socket, failure: undefined };
  }
  socket.destroy();
  return { socket: undefined, failure: certificateError(socket) };
}

function handshakeError(error: NodeJS.ErrnoException, socket: tls.TLSSocket): HoldfastError {
  // Only what was verified and found wrong has this.
  if (socket.authorizationError) return certificateError(socket);
  if (error.code === "ECONNRESET") {
    return new HoldfastError("HF_DOWNSTREAM_TLS", "the TLS handshake was not finished: the peer closed", {
      cause: error,
    });
  }
  // OpenSSL's text has the place in its source before the reason, and more lines after it.
  const reason = (error as { reason?: string }).reason ?? error.code ?? error.message;
  return new HoldfastError("HF_DOWNSTREAM_TLS", `the TLS handshake failed: ${reason}`, { cause: error });
}

function certificateError(socket: tls.TLSSocket): HoldfastError {
  return new HoldfastError("HF_DOWNSTREAM_TLS", `the client certificate was refused: ${socket.authorizationError}`);
}
