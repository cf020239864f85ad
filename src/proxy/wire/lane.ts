/**
 * One downstream connection: reads requests, runs each as an exchange, writes responses, in order.
 *
 * @module
 */
import type { Socket } from "node:net";
import { asHoldfastError, HoldfastError } from "../../errors.ts";
import type { Reply } from "../../plugin/api.ts";
import { lastClock, readClock } from "../clock.ts";
import type { SocketReader } from "../connect.ts";
import type { ProxyConnection } from "../connection.ts";
import {
  closeReasonOf,
  type ExchangeSurroundings,
  type LocalResponse,
  lengthRequired,
  ProxyExchange,
  type Steps,
  upstreamClosedError,
} from "../exchange.ts";
import { METHOD, VALUE } from "../grammar/characters.ts";
import { ChunkedBody } from "../grammar/chunked-body.ts";
import { findPreface } from "../preface.ts";
import { returnBodyMemory, takeBodyMemory } from "../read-memory.ts";
import { closeBehindAnswer } from "../refuse.ts";
import { CONTINUE_TIMEOUT_MS } from "../request-rules.ts";
import { hasBody } from "../response-rules.ts";
import { writeAtEndOfTurn } from "./end-of-turn.ts";
import { interimText, lastChunk, localText, requestText, responseText } from "./messages.ts";
import { RequestBody } from "./request-body.ts";
import { parseRequestHead, type WireHead } from "./request-parser.ts";
import { ResponseBody } from "./response-body.ts";
import type { WireResponseHead } from "./response-parser.ts";
import { type ResponseSink, WireUpstream } from "./upstream.ts";

/** Bytes that wait for the exchange before them; above this, reading pauses. */
const MAX_WAITING_BYTES = 65_536;
/** A head up to here is taken as it was read; a longer one is copied first. */
const MAX_ORDINARY_HEAD_BYTES = 8192;
/** Empty lines before a request line that are skipped. */
const MAX_EMPTY_LINES = 4;
/** From here on, memory for a read of a request body is used again. */
const LARGE_BYTES = 16_384;
const NOTHING = Buffer.alloc(0);
const HEAD_END = Buffer.from("\r\n\r\n");

/** What a lane cannot do itself. */
export interface LaneHost {
  readonly around: ExchangeSurroundings;
  /** Takes the connection over from here, with these bytes still to be read: an upgrade, CONNECT, or HTTP/2. */
  handOver(connection: ProxyConnection, bytes: Buffer, to: "http/1.1" | "h2"): void;
  /** Answers what is not a request, and closes. */
  refuse(connection: ProxyConnection, failure: HoldfastError): void;
}

/** How the rest of a request body ends; `none`: there is no rest. */
type BodyRest = "none" | "length" | "chunked";

/** A downstream connection on the wire path. */
export class Lane implements Steps, ResponseSink {
  readonly connection: ProxyConnection;
  readonly #host: LaneHost;
  readonly #around: ExchangeSurroundings;
  readonly #socket: Socket;
  /** Bytes that were not looked at yet. */
  #waiting: Buffer | undefined;
  #paused = false;
  /** Set where the connection is read as a stream. */
  #onData: ((bytes: Buffer) => void) | undefined;
  /** Nothing more is read as a request. */
  #over = false;
  /** The peer has ended its side. */
  #peerEnded = false;
  /** Empty lines that stood before the next request line. */
  #emptyLines = 0;

  #exchange: ProxyExchange | undefined;
  #head: WireHead | undefined;
  #upstream: WireUpstream | undefined;
  method = "";

  #body: BodyRest = "none";
  #bodyRemaining = 0;
  #bodyChunks: ChunkedBody | undefined;
  /** What was wrong with the body that came along with the head, until the exchange begins and can fail. */
  #fault: HoldfastError | undefined;
  #isAdmitted = false;
  /** The request body has to be whole before the exchange goes on. */
  #gathering = false;
  /** The exchange is over but its request is not: what is left is read and dropped. */
  #dropping = false;
  readonly #requestBody = new RequestBody();
  /** To be called when the piece of a request body that is read next is written. */
  #onWritten: ((error: Error | null | undefined) => void) | undefined;

  /** Runs while the peer waits for 100. */
  #continueTimer: NodeJS.Timeout | undefined;
  /** The peer was told that it may send its body. */
  #continued = false;
  #responseBegun = false;
  readonly #responseBody: ResponseBody;

  constructor(connection: ProxyConnection, host: LaneHost) {
    this.connection = connection;
    this.#host = host;
    this.#around = host.around;
    this.#socket = connection.socket;
    this.#responseBody = new ResponseBody(connection.socket);
    connection.noteBytesRead = false;
    if (connection.reads === undefined) {
      this.#onData = (bytes) => this.#takeBytes(bytes);
      this.#socket.on("data", this.#onData);
    } else connection.reads.reader = this;
    this.#socket.on("drain", this.#onDrain);
    this.#socket.on("end", this.#onEnd);
    this.#socket.on("close", this.#onClose);
  }

  // ---- reading requests

  /** Bytes in memory that is read into again afterwards. */
  read(bytes: Buffer, length: number): boolean {
    if (length >= LARGE_BYTES && this.#passesOn()) this.#takeLarge(bytes, length);
    else if (!this.#takeOnlyHead(bytes, length)) this.#takeBytes(Buffer.from(bytes.subarray(0, length)));
    return true;
  }

  /** Whether what comes of a request body goes straight to the upstream, and nobody keeps it. */
  #passesOn(): boolean {
    if (this.#body === "none" || this.#upstream === undefined || this.#requestBody.isKept) return false;
    return this.#waiting === undefined && !this.#dropping && !this.#over;
  }

  /**
   * A read that begins with body. Its copy lies in memory that is used again: left to the collector, tens of megabytes
   * would lie there before V8 collects any of it.
   */
  #takeLarge(bytes: Buffer, length: number): void {
    readClock();
    const memory = takeBodyMemory();
    bytes.copy(memory, 0, 0, length);
    this.#onWritten = (error) => {
      // After an error the kernel's side of it is unknown.
      if (!error) returnBodyMemory(memory);
    };
    const taken = this.#takeBody(memory.subarray(0, length), 0);
    if (this.#onWritten !== undefined) {
      // None of it was written.
      this.#onWritten = undefined;
      returnBodyMemory(memory);
    }
    this.#take(taken === length ? NOTHING : Buffer.from(bytes.subarray(taken, length)));
  }

  /**
   * The ordinary case, for which nothing needs to be kept: all that was read is one head.
   *
   * @returns whether it was one and was taken
   */
  #takeOnlyHead(bytes: Buffer, length: number): boolean {
    const { connection } = this;
    if (length > MAX_ORDINARY_HEAD_BYTES || connection.state !== "idle" || connection.exchanges === 0) return false;
    if (this.#waiting !== undefined || this.#body !== "none" || this.#over || this.#socket.writableNeedDrain)
      return false;
    if (!endsHead(bytes, length) || METHOD[bytes[0]!] !== 1) return false;
    readClock();
    let head: WireHead;
    try {
      head = parseRequestHead(bytes, 0, length, this.#around.generation.limits, connection.secure);
    } catch {
      return false;
    }
    if (head.form === "authority" || passesUpgrade(head)) return false;
    this.#begin(head, bytes, length, length);
    this.#flow();
    return true;
  }

  #takeBytes(bytes: Buffer): void {
    readClock();
    const waiting = this.#waiting;
    if (waiting === undefined) {
      this.#take(bytes);
      return;
    }
    this.#waiting = undefined;
    this.#take(Buffer.concat([waiting, bytes]));
  }

  #take(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length && !this.#over) {
      if (this.#body !== "none") {
        at = this.#takeBody(bytes, at);
      } else if (this.#exchange !== undefined || this.#socket.writableNeedDrain) {
        // This request is answered first, and a peer that does not read its answers gets no more of them made.
        this.#waiting = at === 0 ? bytes : bytes.subarray(at);
        break;
      } else {
        const next = this.#takeHead(bytes, at);
        if (next === -1) break;
        at = next;
      }
    }
    if (this.#peerEnded) this.#finishLast();
    this.#flow();
  }

  /** Goes on with what waited. Not from inside an upstream's read: it may go to the same connection. */
  #takeWaiting(): void {
    const waiting = this.#waiting;
    if (waiting === undefined || this.#exchange !== undefined) return;
    readClock();
    this.#waiting = undefined;
    this.#take(waiting);
  }

  /** Reads on, or pauses: the one place that decides. */
  #flow(): void {
    const isFull =
      (this.#waiting !== undefined && this.#waiting.length > MAX_WAITING_BYTES) ||
      (this.#body !== "none" && this.#exchange !== undefined && !this.#upstreamTakesMore());
    if (isFull === this.#paused) return;
    this.#paused = isFull;
    if (isFull) this.#socket.pause();
    else this.#socket.resume();
  }

  /** Whether more of the request body is wanted. As long as there is no upstream, one read of it is enough. */
  #upstreamTakesMore(): boolean {
    if (this.#upstream === undefined) return this.#gathering || !this.#requestBody.waits;
    if (!this.#exchange!.upstream!.socket.writableNeedDrain) return true;
    this.#upstream.onDrain = () => this.#flow();
    return false;
  }

  /** @returns where the bytes after the head begin; −1 if it is not whole or was not taken */
  #takeHead(bytes: Buffer, from: number): number {
    if (this.connection.state !== "idle") {
      // We said that we close: an answer could not be sent any more.
      this.#over = true;
      return -1;
    }
    let start = from;
    // RFC 9112 §2.2: empty lines before a request line are skipped; a few.
    while (bytes[start] === CR && bytes[start + 1] === LF && this.#emptyLines < MAX_EMPTY_LINES) {
      this.#emptyLines++;
      start += 2;
    }
    if (start === bytes.length) return -1;
    if (this.connection.exchanges === 0 && bytes[start] === P && this.#takeHttp2(bytes.subarray(start))) return -1;
    const end = bytes.indexOf(HEAD_END, start);
    const { limits } = this.#around.generation;
    const length = (end === -1 ? bytes.length : end + 4) - start;
    if (length > limits.headBytes) {
      const inTarget = bytes.subarray(start, start + limits.targetBytes).indexOf("\r\n") === -1;
      this.#refuse(
        inTarget
          ? new HoldfastError(
              "HF_TARGET_TOO_LONG",
              `request target longer than limits.target (${limits.targetBytes} bytes)`,
            )
          : new HoldfastError("HF_HEAD_TOO_LARGE", `head larger than limits.head (${limits.headBytes} bytes)`),
      );
      return -1;
    }
    if (end === -1) {
      const fault = earlyFault(bytes, start);
      if (fault !== undefined) this.#refuse(fault);
      else {
        this.#waiting = start === 0 ? bytes : bytes.subarray(start);
        this.connection.headSinceMs ??= lastClock();
      }
      return -1;
    }
    let head: WireHead;
    try {
      head = parseRequestHead(bytes, start, end + 4, limits, this.connection.secure);
    } catch (error) {
      this.#refuse(asHoldfastError(error));
      return -1;
    }
    if (head.form === "authority" || passesUpgrade(head)) {
      this.#leave();
      this.#host.handOver(this.connection, bytes.subarray(start), "http/1.1");
      return -1;
    }
    return this.#begin(head, bytes, end + 4, bytes.length);
  }

  /** @returns whether these bytes are not, or not yet, a request: they are the HTTP/2 preface, or may become it */
  #takeHttp2(bytes: Buffer): boolean {
    if (!this.#around.generation.http2 || this.connection.secure) return false;
    switch (findPreface(bytes)) {
      case "none":
        return false;
      case "part":
        this.#waiting = bytes;
        this.connection.headSinceMs ??= lastClock();
        return true;
      case "whole":
        this.#leave();
        this.#host.handOver(this.connection, bytes, "h2");
        return true;
    }
  }

  #begin(head: WireHead, bytes: Buffer, bodyStart: number, length: number): number {
    const { framing } = head;
    this.connection.protocol = head.version === "1.0" ? "http/1.0" : "http/1.1";
    const exchange = new ProxyExchange(this.#around, this.connection, head, "http");
    exchange.steps = this;
    this.#exchange = exchange;
    this.#head = head;
    this.method = head.method;
    this.#responseBegun = false;
    this.#continued = false;
    this.#requestBody.begin(hasRequestBody(head));
    this.#emptyLines = 0;
    let at = bodyStart;
    if (!hasRequestBody(head)) {
      exchange.requestComplete = true;
    } else {
      this.#body = framing.kind;
      this.#bodyRemaining = framing.kind === "length" ? framing.bytes : 0;
      this.#bodyChunks = framing.kind === "chunked" ? new ChunkedBody() : undefined;
      this.#isAdmitted = false;
      if (at < length) at = this.#takeBody(bytes, at);
    }
    this.#isAdmitted = true;
    exchange.admit();
    return at;
  }

  /** @returns where the bytes after the piece begin */
  #takeBody(bytes: Buffer, from: number): number {
    if (this.#body === "length") {
      const end = Math.min(bytes.length, from + this.#bodyRemaining);
      this.#bodyRemaining -= end - from;
      this.#piece(bytes.subarray(from, end), end - from, true);
      if (this.#bodyRemaining === 0) this.#requestComplete();
      return end;
    }
    const chunks = this.#bodyChunks!;
    const before = chunks.payloadBytes;
    chunks.feed(bytes, from, bytes.length);
    if (chunks.fault !== undefined) {
      const fault = new HoldfastError("HF_BAD_FRAMING", `the chunked request body is not valid: ${chunks.fault}`);
      this.#over = true;
      if (this.#exchange === undefined) closeBehindAnswer(this.#around, this.connection, fault);
      else if (this.#isAdmitted) this.abort(this.#exchange, fault);
      else this.#fault = fault;
      return bytes.length;
    }
    if (chunks.prefix !== "") this.#piece(Buffer.from(chunks.prefix, "latin1"), 0);
    if (chunks.end > chunks.start) {
      this.#piece(bytes.subarray(chunks.start, chunks.end), chunks.payloadBytes - before, true);
    }
    if (!chunks.done) return bytes.length;
    this.#piece(Buffer.from(lastChunk(chunks.trailer), "latin1"), 0);
    this.#requestComplete();
    return chunks.consumed;
  }

  #requestComplete(): void {
    this.#body = "none";
    this.#bodyChunks = undefined;
    if (this.#dropping) {
      this.#dropping = false;
      return;
    }
    this.#exchange!.requestComplete = true;
    this.#exchange!.progressAtMs = lastClock();
    if (this.#gathering) this.#gathered();
  }

  /**
   * A piece of the request body, framing included: to the upstream, or aside until there is one.
   *
   * @param isRead - it lies in what was read, and is not made by us
   */
  #piece(piece: Buffer, payloadBytes: number, isRead = false): void {
    if (this.#dropping) return;
    const exchange = this.#exchange!;
    exchange.requestBytes += payloadBytes;
    const upstream = this.#upstream === undefined ? undefined : exchange.upstream!.socket;
    if (upstream !== undefined) exchange.progressAtMs = lastClock();
    const onWritten = isRead ? this.#onWritten : undefined;
    if (isRead) this.#onWritten = undefined;
    this.#requestBody.add(piece, upstream, exchange.generation.limits.replayBytes, onWritten);
    if (this.#gathering && !this.#requestBody.isKept) this.#fail(exchange, lengthRequired(exchange));
  }

  // ---- steps of the exchange

  admitted(exchange: ProxyExchange, error: HoldfastError | undefined, reply: Reply | undefined): void {
    if (exchange !== this.#exchange) return;
    const failure = error ?? this.#fault;
    if (failure !== undefined) this.#fail(exchange, failure);
    else if (reply !== undefined) this.#reply(exchange, reply);
    else exchange.attempt(false);
  }

  gather(exchange: ProxyExchange): void {
    if (exchange !== this.#exchange) return;
    if (!this.#requestBody.isKept) {
      this.#fail(exchange, lengthRequired(exchange));
      return;
    }
    this.#gathering = true;
    this.#requestBody.gather();
    if (this.#body === "none") {
      this.#gathered();
      return;
    }
    if (this.#head!.expectsContinue) this.#continue();
    this.#flow();
  }

  #gathered(): void {
    this.#gathering = false;
    this.#exchange!.gathered(this.#requestBody.unchunk());
  }

  // One function for all: a lane that is idle should be small.
  readonly makeReader: () => SocketReader = makeUpstream;

  connected(exchange: ProxyExchange, error: HoldfastError | undefined, connection: ProxyConnection | undefined): void {
    if (exchange !== this.#exchange) {
      exchange.releaseUpstream(true);
      return;
    }
    if (error !== undefined || connection === undefined) {
      this.#fail(exchange, error ?? new HoldfastError("HF_INTERNAL", "no connection"));
      return;
    }
    const upstream = connection.reader as WireUpstream;
    this.#upstream = upstream;
    upstream.begin(this, exchange.generation.limits);
    const text = requestText(exchange, this.#head!, exchange.generation.forwarding);
    // Should it have closed between the pool's choice and now, nothing leaves, and `broken` follows.
    this.#requestBody.send(text, connection.socket);
    this.#flow();
    if (this.#head!.expectsContinue && this.#waitsToSend(exchange)) {
      // Set per exchange, but only for the few that expect it.
      this.#continueTimer ??= setTimeout(() => this.#continue(), CONTINUE_TIMEOUT_MS).unref();
    }
  }

  /** Nothing of the request body has come. */
  #waitsToSend(exchange: ProxyExchange): boolean {
    return this.#body !== "none" && exchange.requestBytes === 0;
  }

  /** The upstream says nothing about the body: the peer may send it all the same (RFC 9110 §10.1.1). */
  #continue(): void {
    if (this.#responseBegun || this.#continued || !this.#waitsToSend(this.#exchange!)) return;
    this.#continued = true;
    this.#socket.write("HTTP/1.1 100 Continue\r\n\r\n", "latin1");
  }

  abort(exchange: ProxyExchange, error: HoldfastError): void {
    if (exchange === this.#exchange) this.#fail(exchange, error);
  }

  // ---- the response

  interim(head: WireResponseHead): boolean {
    this.#exchange!.progressAtMs = lastClock();
    if (head.status === 100) {
      // Said already, because the upstream took its time.
      if (this.#continued) return true;
      this.#continued = true;
    }
    return this.#head!.version === "1.0" || this.#socket.write(interimText(head), "latin1");
  }

  head(head: WireResponseHead, body: string, complete: boolean): boolean {
    const exchange = this.#exchange!;
    const isOld = this.#head!.version === "1.0";
    const responseBody = this.#responseBody;
    responseBody.begin(head.ends, isOld);
    let text: string;
    // RFC 9110 §8.6: none may be said.
    if (head.status === 204) head.headers.remove("content-length");
    try {
      if (this.#body !== "none" && (complete || (this.#head!.expectsContinue && this.#waitsToSend(exchange)))) {
        // What is left of the body may come, or not: what follows cannot be told apart (RFC 9110 §10.1.1).
        this.connection.drain("aborted");
      }
      const closes = exchange.respond(head, head.hop, responseBody.delimited);
      text = responseText(head, this.connection, exchange.generation.forwarding, closes, responseBody.chunked);
    } catch (error) {
      this.#fail(exchange, asHoldfastError(error));
      return true;
    }
    this.#responseBegun = true;
    this.#requestBody.stopKeeping();
    exchange.progressAtMs = lastClock();
    exchange.responseBytes += body.length;
    // A body that follows in pieces is long enough to be worth its own way.
    if (!complete) return this.#socket.write(text + body, "latin1");
    const goOn = writeAtEndOfTurn(this.#socket, text + body);
    this.complete("");
    return goOn;
  }

  framing(text: string): void {
    this.#responseBody.framing(this.#exchange!, text);
  }

  body(bytes: Buffer, start: number, end: number): boolean {
    const exchange = this.#exchange!;
    exchange.progressAtMs = lastClock();
    return this.#responseBody.write(exchange, this.#upstream!, bytes, start, end);
  }

  complete(trailer: string): void {
    const exchange = this.#exchange!;
    this.#responseBody.end(trailer);
    this.#upstream!.detach();
    this.#upstream = undefined;
    if (this.#body === "none") {
      // One that answers without taking the whole request may never take the rest.
      exchange.releaseUpstream(exchange.upstream!.socket.writableLength === 0);
    } else {
      // The rest of the request is not worth carrying (RFC 9112 §9.5), and what follows it cannot be waited for.
      exchange.releaseUpstream(false);
      this.connection.drain("aborted");
      this.#over = true;
    }
    this.#end(exchange, undefined);
  }

  broken(error: HoldfastError | undefined, closedByPeer: boolean): void {
    const exchange = this.#exchange!;
    const upstream = this.#upstream!;
    this.#upstream = undefined;
    const connection = exchange.upstream!;
    const requestBytes = this.#requestBody.bytesSent(connection.socket);
    const failure = error ?? upstreamClosedError(exchange, connection.error, this.#responseBegun, requestBytes);
    if (error === undefined && !this.#responseBegun) {
      const retried = exchange.retryAfter(failure, {
        closedByPeer,
        requestBytes,
        responseBytes: upstream.responseBytes,
        bodyIsReplayable: this.#requestBody.isKept || !hasRequestBody(this.#head!),
      });
      exchange.releaseUpstream(false, closeReasonOf(failure));
      if (retried) {
        this.#requestBody.sendAgain();
        exchange.attempt(true);
        return;
      }
    } else if (error !== undefined) {
      connection.cut("protocol_error", error);
    }
    this.#fail(exchange, failure);
  }

  // ---- endings

  #reply(exchange: ProxyExchange, reply: Reply): void {
    let local: LocalResponse;
    try {
      local = exchange.respondWithReply(reply);
    } catch (error) {
      this.#fail(exchange, asHoldfastError(error));
      return;
    }
    this.#writeLocal(exchange, local);
    this.#dropRest();
    this.#end(exchange, undefined);
  }

  /** Ends the exchange with an error: as a response if none has begun, else by cutting the connection. */
  #fail(exchange: ProxyExchange, error: HoldfastError): void {
    this.#upstream?.detach();
    this.#upstream = undefined;
    exchange.releaseUpstream(false, closeReasonOf(error));
    if (this.#responseBegun || !this.#socket.writable) {
      if (this.#responseBody.delimited) this.connection.cut("aborted", error);
      else this.connection.reset("aborted", error);
    } else {
      try {
        this.#writeLocal(exchange, exchange.respondWithError(error));
      } catch {
        // A plugin with onError "fail" failed on the error's own response: nothing sensible is left to say.
        this.connection.cut("aborted", error);
      }
    }
    this.#dropRest();
    this.#end(exchange, error);
  }

  #writeLocal(exchange: ProxyExchange, local: LocalResponse): void {
    const text = localText(local, this.connection);
    if (!hasBody(this.method, local.head.status)) {
      this.#socket.write(text, "latin1");
      return;
    }
    exchange.responseBytes += Buffer.byteLength(local.body);
    this.#socket.cork();
    this.#socket.write(text, "latin1");
    this.#socket.write(local.body);
    this.#socket.uncork();
  }

  /** What is left of the request is read and dropped, so that the next one can follow. */
  #dropRest(): void {
    if (this.#body === "none") return;
    this.#dropping = true;
    this.#requestBody.drop();
  }

  #end(exchange: ProxyExchange, error: HoldfastError | undefined): void {
    clearTimeout(this.#continueTimer);
    this.#continueTimer = undefined;
    this.#exchange = undefined;
    this.#head = undefined;
    this.#gathering = false;
    this.#requestBody.drop();
    exchange.end(error);
    if (this.connection.state === "draining" || this.connection.state === "closed") this.#over = true;
    if (this.#over) return;
    // It stays where it is until it is taken: bytes that come before that belong behind it.
    if (this.#waiting !== undefined) queueMicrotask(() => this.#takeWaiting());
    this.#flow();
  }

  #refuse(failure: HoldfastError): void {
    this.#over = true;
    this.#host.refuse(this.connection, failure);
  }

  readonly #onDrain = (): void => {
    if (this.#exchange === undefined) this.#takeWaiting();
    else if (this.#upstream !== undefined) this.#exchange.upstream!.socket.resume();
  };

  /** The peer has no more to send. It may still wait for its responses. */
  readonly #onEnd = (): void => {
    readClock();
    this.#peerEnded = true;
    // What waits for its turn may be about to be taken.
    if (this.#exchange === undefined) this.#takeWaiting();
    this.#finishLast();
  };

  /** Nothing comes any more. Once all that came is taken, what runs is the last, and half a request is none. */
  #finishLast(): void {
    const isRunning = this.#exchange !== undefined;
    if (this.#waiting !== undefined && (isRunning || this.#socket.writableNeedDrain)) return;
    if (isRunning && this.#body !== "none") {
      this.connection.cut("aborted");
      return;
    }
    this.#over = true;
    this.connection.peerCloses();
    if (!isRunning) this.connection.closeTransport();
  }

  readonly #onClose = (): void => {
    this.#over = true;
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    readClock();
    this.#upstream?.detach();
    this.#upstream = undefined;
    exchange.releaseUpstream(false);
    this.#end(exchange, new HoldfastError("HF_DOWNSTREAM_ABORTED", "the downstream connection closed before the end"));
  };

  /** Lets go of the socket. */
  #leave(): void {
    this.#over = true;
    this.connection.noteBytesRead = true;
    this.connection.bytesReadWhenIdle = this.connection.bytesRead;
    this.#socket.pause();
    if (this.#onData !== undefined) this.#socket.off("data", this.#onData);
    if (this.connection.reads !== undefined) this.connection.reads.reader = undefined;
    this.#socket.off("drain", this.#onDrain);
    this.#socket.off("end", this.#onEnd);
    this.#socket.off("close", this.#onClose);
  }
}

function makeUpstream(): WireUpstream {
  return new WireUpstream();
}

/** Whether the bytes end as a head does. */
function endsHead(bytes: Buffer, length: number): boolean {
  return (
    length >= 4 &&
    bytes[length - 1] === LF &&
    bytes[length - 2] === CR &&
    bytes[length - 3] === LF &&
    bytes[length - 4] === CR
  );
}

/** Whether bytes of a body follow the head. */
function hasRequestBody({ framing }: WireHead): boolean {
  return framing.kind === "chunked" || (framing.kind === "length" && framing.bytes > 0);
}

/** Whether the request asks for an upgrade that is passed on; `h2c` is served as HTTP/1.1 instead (RFC 9110 §7.8). */
function passesUpgrade(head: WireHead): boolean {
  const { upgrade } = head.hop;
  if (upgrade === undefined || head.version !== "1.1") return false;
  if (hasRequestBody(head)) return false;
  return upgrade.split(",").some((protocol) => !/^\s*(?:h2c?(?:\/.*)?)?\s*$/i.test(protocol));
}

/**
 * What can be told of a head before it is whole, so that a peer that does not speak HTTP, or ends lines with a bare LF,
 * gets its answer at once.
 */
function earlyFault(bytes: Buffer, start: number): HoldfastError | undefined {
  if (bytes.length > start && METHOD[bytes[start]!] !== 1 && bytes[start] !== CR) {
    return new HoldfastError("HF_BAD_REQUEST", "the request line does not begin with a method");
  }
  for (let at = start; at < bytes.length; at++) {
    const code = bytes[at]!;
    if (VALUE[code] === 1) continue;
    const isLineEnd = code === CR && (at + 1 === bytes.length || bytes[at + 1] === LF);
    if (isLineEnd || (code === LF && at > start && bytes[at - 1] === CR)) continue;
    return new HoldfastError("HF_BAD_REQUEST", "the head holds control characters or a line that does not end in CRLF");
  }
  return undefined;
}

const P = 0x50;
const CR = 0x0d;
const LF = 0x0a;
