/**
 * The request body on its way upstream: back-pressure, `Expect: 100-continue`, trailers, and the copy kept for a retry.
 *
 * @module
 */
import type http from "node:http";
import { Stream } from "node:stream";
import { allowedTrailers } from "../headers.ts";
import { CONTINUE_TIMEOUT_MS } from "../request-rules.ts";

/** What a body reports as it moves. */
export interface BodyWatch {
  moved(bytes: number): void;
  /** All of it was read from downstream. */
  complete(): void;
  /** The peer may send its body now. */
  sendContinue(): void;
}

/** Where a request body is read from. */
export interface BodySource {
  onData(data: (chunk: Buffer) => void): void;
  /** Calls once, when all of it has come; never when it was cut. */
  onEnd(end: () => void): void;
  pause(): void;
  resume(): void;
  /** Names and values in turn; known at the end. */
  readonly rawTrailers: readonly string[];
}

/** Reads the request body of a message of node:http. */
export function messageBody(message: http.IncomingMessage): BodySource {
  return {
    onData: (data) => void message.on("data", data),
    onEnd: (end) => void message.on("end", end),
    pause: () => void message.pause(),
    resume: () => void message.resume(),
    get rawTrailers() {
      return message.rawTrailers;
    },
  };
}

/**
 * http-proxy-3 pipes this into its outgoing request (its `buffer` option), which is how we come by that request
 * before anything is sent. One body serves every attempt of an exchange.
 */
export class RequestBody extends Stream {
  readonly #source: BodySource | undefined;
  readonly #watch: BodyWatch;
  readonly #expectsContinue: boolean;
  readonly #replayBytes: number;
  #kept: Buffer[] | undefined = [];
  #keptBytes = 0;
  #outgoing: http.ClientRequest | undefined;
  #reading = false;
  #ended = false;
  #continueTimer: NodeJS.Timeout | undefined;
  /** Called once, when all of it is kept, with its length, or can no longer be. */
  #gathered: ((bytes: number | undefined) => void) | undefined;
  /** Called with the outgoing request of each attempt, before anything is sent. */
  onOutgoing: (outgoing: http.ClientRequest) => void = () => {};

  /**
   * @param source - where the body is read from; `undefined` when there is none
   * @param replayBytes - how much is kept for a retry
   */
  constructor(source: BodySource | undefined, expectsContinue: boolean, replayBytes: number, watch: BodyWatch) {
    super();
    this.#source = source;
    this.#expectsContinue = expectsContinue;
    this.#replayBytes = replayBytes;
    this.#watch = watch;
    if (source === undefined) this.#ended = true;
  }

  /** Whether everything read so far is still at hand. */
  get replayable(): boolean {
    return this.#kept !== undefined;
  }

  /** Whether all of it was given to the current attempt, and by that to the kernel. */
  get sent(): boolean {
    return this.#ended && this.#outgoing?.writableFinished !== false;
  }

  /** Whether reading has begun; before that a peer that waits for 100 has sent nothing. */
  get begun(): boolean {
    return this.#reading || this.#source === undefined;
  }

  // http-proxy-3 calls this with its ClientRequest; nothing else pipes a RequestBody.
  override pipe<T extends NodeJS.WritableStream>(destination: T): T {
    const outgoing = destination as unknown as http.ClientRequest;
    this.#outgoing = outgoing;
    this.onOutgoing(outgoing);
    outgoing.on("drain", () => {
      if (this.#outgoing === outgoing) this.#source?.resume();
    });
    if (this.#ended && !this.#reading) {
      outgoing.end();
      return destination;
    }
    // node:http holds a head back for the first bytes of its body; those may depend on what the upstream says.
    setImmediate(() => {
      // Not flushHeaders(): that writes a head without a body as UTF-8, and obs-text becomes something else.
      if (this.#outgoing === outgoing && !outgoing.writableEnded) outgoing.write("", "latin1");
    });
    if (this.#reading) this.#replay(outgoing);
    else if (this.#expectsContinue) this.#awaitContinue(outgoing);
    else this.#read();
    return destination;
  }

  /** The attempt failed and another follows: what came is kept, and nothing more is read until then. */
  hold(): void {
    this.#outgoing = undefined;
    if (this.#reading) this.#source?.pause();
  }

  /**
   * Reads all of it before any of it is sent.
   *
   * @param done - gets its length; `undefined`: it is more than is kept
   */
  gather(done: (bytes: number | undefined) => void): void {
    this.#gathered = done;
    if (this.#ended || this.#kept === undefined) this.#gatheredSoFar();
    else if (this.#reading) this.#source?.resume();
    else {
      if (this.#expectsContinue) this.#watch.sendContinue();
      this.#read();
    }
  }

  #gatheredSoFar(): void {
    if (!this.#ended && this.#kept !== undefined) return;
    const done = this.#gathered;
    this.#gathered = undefined;
    done?.(this.#kept === undefined ? undefined : this.#keptBytes);
  }

  /** Nothing more is wanted of it. */
  stop(): void {
    clearTimeout(this.#continueTimer);
    this.#gathered = undefined;
    this.#outgoing = undefined;
    this.#kept = undefined;
    if (this.#reading) this.#source?.resume();
  }

  #awaitContinue(outgoing: http.ClientRequest): void {
    const go = (): void => {
      clearTimeout(this.#continueTimer);
      if (this.#reading || this.#outgoing !== outgoing) return;
      this.#watch.sendContinue();
      this.#read();
    };
    outgoing.once("continue", go);
    // Set per exchange, but only for the few that expect it.
    this.#continueTimer = setTimeout(go, CONTINUE_TIMEOUT_MS).unref();
  }

  #read(): void {
    const source = this.#source!;
    this.#reading = true;
    source.onData((chunk) => {
      this.#watch.moved(chunk.length);
      this.#keep(chunk);
      this.#gatheredSoFar();
      if (this.#outgoing !== undefined && !this.#outgoing.write(chunk)) source.pause();
    });
    source.onEnd(() => {
      this.#ended = true;
      this.#watch.complete();
      this.#gatheredSoFar();
      if (this.#outgoing !== undefined) this.#finish(this.#outgoing);
    });
  }

  #keep(chunk: Buffer): void {
    if (this.#kept === undefined) return;
    this.#keptBytes += chunk.length;
    if (this.#keptBytes > this.#replayBytes) this.#kept = undefined;
    else this.#kept.push(chunk);
  }

  #replay(outgoing: http.ClientRequest): void {
    for (const chunk of this.#kept ?? []) outgoing.write(chunk);
    if (this.#ended) this.#finish(outgoing);
    else this.#source?.resume();
  }

  #finish(outgoing: http.ClientRequest): void {
    const trailers = allowedTrailers(this.#source?.rawTrailers ?? []);
    if (trailers.length > 0 && outgoing.chunkedEncoding) outgoing.addTrailers(pairs(trailers));
    outgoing.end();
  }
}

/** Name and value in turn → pairs, as addTrailers takes them. */
export function pairs(flat: readonly string[]): [string, string][] {
  const result: [string, string][] = [];
  for (let at = 0; at < flat.length; at += 2) result.push([flat[at]!, flat[at + 1]!]);
  return result;
}
