/**
 * Where the response on a connection ends, counted beside node's parser.
 *
 * The parser reads on after a complete response and silently drops what could be the beginning of another, so whether
 * a connection is clean has to be found out here: bytes that answer nothing must end it (RFC 9112 §9.2).
 *
 * @module
 */
import type http from "node:http";
import type { Socket } from "node:net";
import { hasBody } from "../response-rules.ts";

const EMPTY_LINE = "\r\n\r\n";

/** Watches what arrives for one attempt. */
export class ResponseEnd {
  readonly #socket: Socket;
  readonly #method: string;
  #received = 0;
  /** What arrived up to the end of the final head. */
  #heads = "";
  /** Where in {@link #heads} the current head begins. */
  #headStart = 0;
  #headsBytes: number | undefined;
  #lastFour = "";
  #late = false;
  /** The final response, once its head has come. */
  response: http.IncomingMessage | undefined;

  /** @param method - of the request that is answered */
  constructor(socket: Socket, method: string) {
    this.#socket = socket;
    this.#method = method;
    socket.on("data", this.#read);
  }

  /** Stops watching. */
  stop(): void {
    this.#socket.removeListener("data", this.#read);
  }

  /** Whether exactly one whole response has arrived and nothing else. */
  get isClean(): boolean {
    const { response } = this;
    if (response === undefined || !response.complete || this.#late || this.#headsBytes === undefined) return false;
    if (!hasBody(this.#method, response.statusCode!)) return this.#received === this.#headsBytes;
    const { "transfer-encoding": coding, "content-length": length } = response.headers;
    // A chunked message ends in an empty line. A whole head after it ends in one too, but that the parser refuses.
    if (coding !== undefined) return this.#lastFour === EMPTY_LINE;
    return length !== undefined && this.#received === this.#headsBytes + Number(length);
  }

  readonly #read = (bytes: Buffer): void => {
    // node:http stops listening once a response is complete, although its reader may be far behind.
    if (this.response?.complete) this.#late = true;
    this.#received += bytes.length;
    this.#lastFour = (this.#lastFour + bytes.toString("latin1", Math.max(0, bytes.length - 4))).slice(-4);
    if (this.#headsBytes === undefined) this.#findHeadsEnd(bytes);
  };

  #findHeadsEnd(bytes: Buffer): void {
    this.#heads += bytes.toString("latin1");
    for (;;) {
      const end = this.#heads.indexOf(EMPTY_LINE, this.#headStart);
      if (end === -1) return;
      const isInterim = /^HTTP\/1\.[01] 1/.test(this.#heads.slice(this.#headStart, this.#headStart + 10));
      this.#headStart = end + EMPTY_LINE.length;
      if (isInterim) continue;
      this.#headsBytes = this.#headStart;
      this.#heads = "";
      return;
    }
  }
}
