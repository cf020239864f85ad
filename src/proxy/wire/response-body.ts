/**
 * Writing a response body downstream, framed so that the peer understands it.
 *
 * @module
 */
import type { Socket } from "node:net";
import type { ProxyExchange } from "../exchange.ts";
import { ChunkedBody } from "../grammar/chunked-body.ts";
import { returnBodyMemory } from "../read-memory.ts";
import { lastChunk } from "./messages.ts";
import type { BodyEnd } from "./response-parser.ts";

/** Whose memory a piece may lie in. */
export interface MemoryOwner {
  /** Whether the memory is read into by this connection alone: then it can be {@link lend | lent}. */
  owns(memory: Buffer): boolean;
  /** The memory of this body is somebody else's from here on: the next read goes into another piece. */
  lend(): void;
}

/** The body of one response after the other. */
export class ResponseBody {
  readonly #socket: Socket;
  #sendAs: "same" | "rechunk" | "dechunk" = "same";
  #cameInChunks = false;
  #dechunker: ChunkedBody | undefined;
  /** Whether the peer can tell a response that was cut from a whole one. */
  delimited = true;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /**
   * A response begins.
   *
   * @param ends - how its body ends, as the upstream sends it
   * @param isOld - whether the peer speaks HTTP/1.0, which has no chunks
   */
  begin(ends: BodyEnd, isOld: boolean): void {
    this.delimited = ends === "none" || ends === "length" || !isOld;
    this.#sendAs = ends === "chunked" && isOld ? "dechunk" : ends === "close" && !isOld ? "rechunk" : "same";
    this.#cameInChunks = ends === "chunked";
    this.#dechunker = this.#sendAs === "dechunk" ? new ChunkedBody() : undefined;
  }

  /** Whether it goes to the peer in chunks. */
  get chunked(): boolean {
    return this.#sendAs === "rechunk" || (this.#cameInChunks && this.#sendAs === "same");
  }

  /** Text between pieces of a chunked body: it stands before the piece that follows. */
  framing(exchange: ProxyExchange, text: string): void {
    if (this.#sendAs === "same") this.#socket.write(text, "latin1");
    else if (this.#sendAs === "dechunk") this.#writePayload(exchange, Buffer.from(text, "latin1"));
  }

  /**
   * A piece of it.
   *
   * @param bytes - what lies between `start` and `end` is valid during the call only, or until `owner` has it back
   * @returns false to stop reading for a while
   */
  write(exchange: ProxyExchange, owner: MemoryOwner, bytes: Buffer, start: number, end: number): boolean {
    switch (this.#sendAs) {
      case "same":
        exchange.responseBytes += end - start;
        return this.#writeSame(owner, bytes, start, end);
      case "rechunk":
        exchange.responseBytes += end - start;
        this.#socket.cork();
        this.#socket.write(`${(end - start).toString(16)}\r\n`, "latin1");
        this.#socket.write(Buffer.from(bytes.subarray(start, end)));
        this.#socket.write("\r\n", "latin1");
        this.#socket.uncork();
        return !this.#socket.writableNeedDrain;
      case "dechunk":
        return this.#writePayload(exchange, Buffer.from(bytes.subarray(start, end)));
    }
  }

  /** Nothing follows but what ends it. `trailer`: its trailer lines, when it was chunked. */
  end(trailer: string): void {
    if (this.#sendAs === "rechunk") this.#socket.write("0\r\n\r\n", "latin1");
    else if (this.chunked) this.#socket.write(lastChunk(trailer), "latin1");
  }

  /** Without a copy where it can. */
  #writeSame(owner: MemoryOwner, bytes: Buffer, start: number, end: number): boolean {
    const piece = bytes.subarray(start, end);
    if (!owner.owns(bytes)) return this.#socket.write(Buffer.from(piece));
    let isLent = false;
    const goOn = this.#socket.write(piece, (error) => {
      // After an error the kernel's side of it is unknown: the memory is left to the collector.
      if (isLent && !error) returnBodyMemory(bytes);
    });
    if (this.#socket.writableLength > 0) {
      isLent = true;
      owner.lend();
    }
    return goOn;
  }

  /** A piece of a chunked body for a peer that does not know chunks: the connection's end delimits it. */
  #writePayload(exchange: ProxyExchange, piece: Buffer): boolean {
    const dechunker = this.#dechunker!;
    dechunker.onPayload = (start, end) => {
      exchange.responseBytes += end - start;
      this.#socket.write(piece.subarray(start, end));
    };
    dechunker.feed(piece, 0, piece.length);
    return !this.#socket.writableNeedDrain;
  }
}
