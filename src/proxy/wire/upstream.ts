/**
 * The reading side of one upstream connection: response heads and bodies as they arrive in shared memory.
 *
 * @module
 */
import type { Limits } from "../../config/sidecar-config.ts";
import { HoldfastError } from "../../errors.ts";
import { readClock } from "../clock.ts";
import type { SocketReader } from "../connect.ts";
import type { ProxyConnection } from "../connection.ts";
import { ChunkedBody } from "../grammar/chunked-body.ts";
import { returnBodyMemory, SHARED_BYTES, takeBodyMemory } from "../read-memory.ts";
import { INTERIM_ROOM } from "../response-rules.ts";
import type { MemoryOwner } from "./response-body.ts";
import { parseResponseHead, SMALL_BYTES, type WireResponseHead } from "./response-parser.ts";

const HEAD_START = "HTTP/1.";
const HEAD_END = Buffer.from("\r\n\r\n");
/** Found before the head is whole, because with such a line its end may never be. */
const BARE_LF = /(?:^|[^\r])\n/;

/** What the reader tells the exchange that uses the connection. */
export interface ResponseSink {
  /** Method of the request that is being answered. */
  readonly method: string;
  /**
   * A 1xx head.
   *
   * @returns false to stop reading for a while
   */
  interim(head: WireResponseHead): boolean;
  /**
   * The final head, with the whole body if it came along and is delimited by its length.
   *
   * @param body - latin1; `undefined` when the body follows in pieces (or there is none and `complete` is set)
   * @returns false to stop reading for a while
   */
  head(head: WireResponseHead, body: string, complete: boolean): boolean;
  /**
   * A piece of the body. The bytes are valid during the call only.
   *
   * @returns false to stop reading for a while
   */
  body(bytes: Buffer, start: number, end: number): boolean;
  /** Text between pieces of a chunked body: it stands before the piece that follows. */
  framing(text: string): void;
  /** The response is complete. `trailer`: its trailer lines, when it was chunked. */
  complete(trailer: string): void;
  /** The connection broke before the response was complete, or what came is not a response. */
  broken(error: HoldfastError | undefined, closedByPeer: boolean): void;
}

/** Reads responses from one upstream connection, one after the other. */
export class WireUpstream implements SocketReader, MemoryOwner {
  #maxHeadBytes = 0;
  #maxFields = 0;
  /** Size of the 1xx heads of the current response so far. */
  #interimBytes = 0;
  #connection: ProxyConnection | undefined;
  #sink: ResponseSink | undefined;
  #mode: "idle" | "head" | "length" | "chunked" | "close" = "idle";
  #remaining = 0;
  /** A head of which the end has not come. */
  #partial: Buffer | undefined;
  #chunked: ChunkedBody | undefined;
  /** What the rest of a body is read into. */
  #bodyMemory: Buffer | undefined;
  /** Response bytes of the current exchange. */
  responseBytes = 0;

  /** Called once, when the connection is open. */
  attach(connection: ProxyConnection): void {
    this.#connection = connection;
    connection.socket.on("end", () => this.#ended());
    connection.socket.on("close", () => this.#closed());
    connection.socket.on("drain", () => this.onDrain?.());
  }

  /** Called when everything written to the connection has left. */
  onDrain: (() => void) | undefined;

  /** A request is about to be written: what comes now is its response. */
  begin(sink: ResponseSink, { headBytes, fields }: Pick<Limits, "headBytes" | "fields">): void {
    this.#sink = sink;
    this.#maxHeadBytes = headBytes;
    this.#maxFields = fields;
    this.#interimBytes = 0;
    this.#mode = "head";
    this.responseBytes = 0;
  }

  /** Nothing that comes now is anybody's. */
  detach(): void {
    this.#sink = undefined;
    this.#mode = "idle";
    this.#partial = undefined;
    this.#chunked = undefined;
    this.onDrain = undefined;
    if (this.#bodyMemory !== undefined) returnBodyMemory(this.#bodyMemory);
    this.#bodyMemory = undefined;
  }

  memory(): Buffer {
    if (this.#mode === "idle" || this.#mode === "head") return SHARED_BYTES;
    this.#bodyMemory ??= takeBodyMemory();
    return this.#bodyMemory;
  }

  owns(memory: Buffer): boolean {
    return memory === this.#bodyMemory;
  }

  lend(): void {
    this.#bodyMemory = undefined;
  }

  read(bytes: Buffer, length: number): boolean {
    readClock();
    const sink = this.#sink;
    if (sink === undefined) {
      // RFC 9112 §9.2: it answers nothing that we asked.
      this.#connection?.cut("protocol_error");
      return true;
    }
    this.responseBytes += length;
    if (this.#mode === "head") return this.#readHead(sink, bytes, length);
    return this.#readBody(sink, bytes, 0, length);
  }

  #readHead(sink: ResponseSink, bytes: Buffer, length: number): boolean {
    const head = this.#partial === undefined ? this.#finalHead(sink, bytes, length) : undefined;
    if (head === undefined) return this.#readHeads(sink, bytes, length);
    return this.#startBody(sink, head, bytes, head.size, length);
  }

  /** The ordinary case: what was read begins with a whole final head. `undefined`: it does not, or is not allowed. */
  #finalHead(sink: ResponseSink, bytes: Buffer, length: number): WireResponseHead | undefined {
    try {
      const head = parseResponseHead(bytes, 0, length, sink.method, this.#maxFields);
      return head.status >= 200 && head.size <= this.#maxHeadBytes ? head : undefined;
    } catch {
      return undefined;
    }
  }

  #readHeads(sink: ResponseSink, read: Buffer, readLength: number): boolean {
    let bytes = read;
    let length = readLength;
    if (this.#partial !== undefined) {
      bytes = Buffer.concat([this.#partial, read.subarray(0, readLength)]);
      length = bytes.length;
      this.#partial = undefined;
    }
    let at = 0;
    let goOn = true;
    for (;;) {
      const end = headEnd(bytes, at, length);
      if (end === -1 || end - at > this.#maxHeadBytes) {
        const failure = partialFault(bytes.toString("latin1", at, Math.min(length, at + this.#maxHeadBytes + 4)));
        if (failure !== undefined) {
          this.#fail("HF_UPSTREAM_BAD_RESPONSE", failure);
          return true;
        }
        if (length - at <= this.#maxHeadBytes) {
          // A copy: what was read lies in memory that is read into again.
          this.#partial = Buffer.from(bytes.subarray(at, length));
          return goOn;
        }
        this.#fail("HF_UPSTREAM_HEAD_TOO_LARGE", `response head larger than limits.head (${this.#maxHeadBytes} bytes)`);
        return true;
      }
      let head: WireResponseHead;
      try {
        head = parseResponseHead(bytes, at, length, sink.method, this.#maxFields);
      } catch (error) {
        this.#broken(error as HoldfastError, false);
        return true;
      }
      at += head.size;
      if (head.status >= 200) {
        return this.#startBody(sink, head, bytes, at, length) && (goOn || this.#sink !== sink);
      }
      if (head.status === 101) {
        this.#fail("HF_UPSTREAM_BAD_RESPONSE", "the upstream switched protocols unasked");
        return true;
      }
      this.#interimBytes += head.size;
      if (this.#interimBytes > this.#maxHeadBytes * INTERIM_ROOM) {
        const limit = `${INTERIM_ROOM} times limits.head (${this.#maxHeadBytes} bytes)`;
        this.#fail("HF_UPSTREAM_HEAD_TOO_LARGE", `interim responses are together larger than ${limit}`);
        return true;
      }
      goOn = sink.interim(head);
      if (at === length) return goOn;
    }
  }

  #startBody(sink: ResponseSink, head: WireResponseHead, bytes: Buffer, start: number, length: number): boolean {
    const arrived = length - start;
    switch (head.ends) {
      case "none":
        if (arrived > 0) this.#connection!.drain("protocol_error");
        sink.head(head, "", true);
        return true;
      case "length": {
        if (arrived >= head.bodyBytes && head.bodyBytes <= SMALL_BYTES) {
          if (arrived > head.bodyBytes) this.#connection!.drain("protocol_error");
          sink.head(head, bodyText(head, bytes, start), true);
          return true;
        }
        this.#mode = "length";
        this.#remaining = head.bodyBytes;
        break;
      }
      case "chunked":
        this.#mode = "chunked";
        this.#chunked = new ChunkedBody();
        break;
      case "close":
        this.#mode = "close";
        break;
    }
    const goOn = sink.head(head, "", false);
    if (this.#sink !== sink || arrived === 0) return goOn;
    // Once it is complete, the connection is no longer ours to pause.
    return (this.#readBody(sink, bytes, start, length) && goOn) || this.#sink !== sink;
  }

  #readBody(sink: ResponseSink, bytes: Buffer, start: number, length: number): boolean {
    switch (this.#mode) {
      case "length": {
        const end = Math.min(length, start + this.#remaining);
        this.#remaining -= end - start;
        const goOn = sink.body(bytes, start, end);
        if (this.#remaining > 0) return goOn;
        if (end < length) this.#connection!.drain("protocol_error");
        sink.complete("");
        return true;
      }
      case "chunked":
        return this.#readChunked(sink, this.#chunked!, bytes, start, length);
      case "close":
        return sink.body(bytes, start, length);
      default:
        return true;
    }
  }

  #readChunked(sink: ResponseSink, chunked: ChunkedBody, bytes: Buffer, start: number, length: number): boolean {
    chunked.feed(bytes, start, length);
    if (chunked.fault !== undefined) {
      this.#fail("HF_UPSTREAM_BAD_RESPONSE", `the upstream's chunked body is not valid: ${chunked.fault}`);
      return true;
    }
    if (chunked.prefix !== "") sink.framing(chunked.prefix);
    let goOn = true;
    if (chunked.end > chunked.start) goOn = sink.body(bytes, chunked.start, chunked.end);
    if (!chunked.done) return goOn;
    if (chunked.consumed < length) this.#connection!.drain("protocol_error");
    sink.complete(chunked.trailer);
    return true;
  }

  #ended(): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    readClock();
    if (this.#mode === "close") sink.complete("");
    else this.#broken(undefined, true);
  }

  #closed(): void {
    if (this.#sink === undefined) return;
    readClock();
    const error = this.#connection?.error as NodeJS.ErrnoException | undefined;
    const closedByPeer = error === undefined || error.code === "ECONNRESET" || error.code === "EPIPE";
    this.#broken(undefined, closedByPeer);
  }

  #fail(code: "HF_UPSTREAM_BAD_RESPONSE" | "HF_UPSTREAM_HEAD_TOO_LARGE", message: string): void {
    this.#broken(new HoldfastError(code, message), false);
  }

  #broken(error: HoldfastError | undefined, closedByPeer: boolean): void {
    const sink = this.#sink;
    this.detach();
    sink?.broken(error, closedByPeer);
  }
}

/** The body that came along with a head; of the same text where it is in it. */
function bodyText({ text, size, bodyBytes }: WireResponseHead, bytes: Buffer, start: number): string {
  const end = size + bodyBytes;
  return end <= text.length ? text.slice(size, end) : bytes.toString("latin1", start, start + bodyBytes);
}

/** Where the head that begins at `from` ends, −1 if its end has not come. */
function headEnd(bytes: Buffer, from: number, length: number): number {
  // Finds what stands behind the length only where nothing does before it.
  const at = bytes.indexOf(HEAD_END, from);
  return at === -1 || at + 4 > length ? -1 : at + 4;
}

/** Why a head can be none, though its end has not come. */
function partialFault(text: string): string | undefined {
  if (BARE_LF.test(text)) return "the upstream's response head has a line that ends in a bare LF";
  if (!text.startsWith(HEAD_START) && !HEAD_START.startsWith(text)) return "the upstream does not speak HTTP/1";
  return undefined;
}
