/**
 * What a peer sends while its upgrade is not yet decided.
 *
 * @module
 */
import type { Socket } from "node:net";

/** How much is read ahead; the rest waits in the kernel. */
const MAX_EARLY_BYTES = 65_536;

/** Reads a socket that nobody else reads, so that its end is noticed, and keeps what came. */
export class EarlyBytes {
  readonly #socket: Socket;
  readonly #onEnd: () => void;
  #pieces: Buffer[];
  #bytes: number;

  /**
   * @param first - bytes that were read already
   * @param onEnd - the peer ended its side
   */
  constructor(socket: Socket, first: Buffer, onEnd: () => void) {
    this.#socket = socket;
    this.#onEnd = onEnd;
    this.#pieces = [first];
    this.#bytes = first.length;
    socket.on("data", this.#keep);
    socket.on("end", onEnd);
    socket.resume();
  }

  /** Gives up the socket, paused, with everything that came so far. */
  take(): Buffer {
    this.#socket.removeListener("data", this.#keep);
    this.#socket.removeListener("end", this.#onEnd);
    this.#socket.pause();
    const pieces = this.#pieces;
    this.#pieces = [];
    return Buffer.concat(pieces);
  }

  readonly #keep = (bytes: Buffer): void => {
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes >= MAX_EARLY_BYTES) this.#socket.pause();
  };
}
