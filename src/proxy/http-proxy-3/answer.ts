/**
 * The downstream end of one exchange, where its response is written: a response of node:http, or a stream of node:http2.
 *
 * @module
 */
import type http from "node:http";
import type { HoldfastError } from "../../errors.ts";
import type { ProxyConnection } from "../connection.ts";
import type { FieldList } from "../headers.ts";
import { pairs } from "./request-body.ts";

/** A response head as it is to be written, the fields of this hop included. */
export interface AnswerHead {
  readonly status: number;
  readonly reason: string;
  readonly headers: FieldList;
}

/** Writes the response of one exchange. */
export interface Answer {
  /** The object that http-proxy-3 takes for the response. It only listens to it. */
  readonly response: http.ServerResponse;
  /** Whether a head was written. */
  readonly begun: boolean;
  /** Whether the peer is gone, so that nothing can be written any more. */
  readonly gone: boolean;
  /** Response bytes that the peer has not taken yet. */
  readonly backlog: number;
  /**
   * Calls once, when all of the response has been written, or when it no longer can be.
   *
   * @param over - told whether it is whole
   */
  onOver(over: (whole: boolean) => void): void;
  /** Calls whenever the peer takes more, after {@link write} returned false. */
  onDrain(drained: () => void): void;
  /** 100. */
  sendContinue(): void;
  /** Another 1xx, names and values in turn. */
  inform(status: number, flat: string[]): void;
  /** @param mayHaveTrailers - whether {@link end} may have some to send */
  writeHead(head: AnswerHead, mayHaveTrailers: boolean): void;
  /** Sends a head whose body takes its time. */
  flushHead(): void;
  /** @returns false to wait for {@link onDrain} */
  write(chunk: Buffer): boolean;
  /** @param trailers - names and values in turn */
  end(body?: string | Uint8Array, trailers?: readonly string[]): void;
  /** What the peer still sends of its request is not wanted. */
  abandonRequest(): void;
  /**
   * Makes the peer see that the response is not whole, if it can still see anything.
   *
   * @param delimited - whether its end can be told from that of its connection
   */
  breakOff(error: HoldfastError | undefined, delimited: boolean): void;
}

/** HTTP/1.x: one exchange at a time has the connection, and what cannot be told to the peer is told by closing it. */
export class Http1Answer implements Answer {
  readonly response: http.ServerResponse;
  readonly #downstream: ProxyConnection;

  constructor(response: http.ServerResponse, downstream: ProxyConnection) {
    this.response = response;
    this.#downstream = downstream;
  }

  get begun(): boolean {
    return this.response.headersSent;
  }

  get gone(): boolean {
    return this.response.destroyed;
  }

  get backlog(): number {
    return this.#downstream.socket.writableLength;
  }

  onOver(over: (whole: boolean) => void): void {
    this.response.on("finish", () => over(true));
    this.response.on("close", () => {
      if (!this.response.writableFinished) over(false);
    });
  }

  onDrain(drained: () => void): void {
    this.response.on("drain", drained);
  }

  sendContinue(): void {
    this.response.writeContinue();
  }

  inform(status: number, flat: string[]): void {
    this.response.writeInformation(status, flat);
  }

  writeHead(head: AnswerHead): void {
    this.response.writeHead(head.status, head.reason, head.headers.flat);
  }

  flushHead(): void {
    // Not flushHeaders(): that writes a head without a body as UTF-8, and obs-text becomes something else.
    this.response.write("", "latin1");
  }

  write(chunk: Buffer): boolean {
    return this.response.write(chunk);
  }

  end(body?: string | Uint8Array, trailers: readonly string[] = []): void {
    if (trailers.length > 0 && this.response.chunkedEncoding) this.response.addTrailers(pairs(trailers));
    this.response.end(body);
  }

  abandonRequest(): void {
    this.#downstream.drain("aborted");
  }

  breakOff(error: HoldfastError | undefined, delimited: boolean): void {
    if (delimited) this.#downstream.cut("aborted", error);
    else this.#downstream.reset("aborted", error);
  }
}
