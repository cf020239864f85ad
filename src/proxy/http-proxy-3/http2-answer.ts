/**
 * The downstream end of an exchange that came over HTTP/2: one stream among others of its connection.
 *
 * @module
 */
import type http from "node:http";
import type { Http2ServerRequest, Http2ServerResponse, ServerHttp2Stream } from "node:http2";
import { HoldfastError } from "../../errors.ts";
import type { Answer, AnswerHead } from "./answer.ts";
import type { BodySource } from "./request-body.ts";

/** NO_ERROR (RFC 9113 §7). */
export const NO_ERROR = 0;

/** Statuses whose responses node:http2 ends with their head. */
const ENDS_WITH_HEAD: ReadonlySet<number> = new Set([204, 205, 304]);

/** HTTP/2: whatever goes wrong in one exchange is told by resetting its stream; the others go on. */
export class Http2Answer implements Answer {
  readonly #compatible: Http2ServerResponse;
  readonly #stream: ServerHttp2Stream;
  #ended = false;
  #waitsForTrailers = false;

  /** @param compatible - what node:http2 shows in the form of node:http */
  constructor(compatible: Http2ServerResponse) {
    this.#compatible = compatible;
    this.#stream = compatible.stream;
    // Told by `close`, with its code.
    this.#stream.on("error", () => {});
  }

  get response(): http.ServerResponse {
    return this.#compatible as unknown as http.ServerResponse;
  }

  get begun(): boolean {
    return this.#stream.headersSent;
  }

  get gone(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }

  get backlog(): number {
    return this.#stream.writableLength;
  }

  onOver(over: (whole: boolean) => void): void {
    const stream = this.#stream;
    // A stream that is reset finishes too.
    stream.on("finish", () => {
      if (this.#ended && !stream.aborted) over(true);
    });
    stream.on("close", () => over(this.#ended && !stream.aborted && stream.writableFinished));
  }

  onDrain(drained: () => void): void {
    this.#stream.on("drain", drained);
  }

  sendContinue(): void {
    this.inform(100, []);
  }

  inform(status: number, flat: string[]): void {
    this.#stream.additionalHeaders({ ":status": status, ...grouped(flat) });
  }

  writeHead({ status, headers }: AnswerHead, mayHaveTrailers: boolean): void {
    if (status > 599) {
      throw new HoldfastError("HF_UPSTREAM_BAD_RESPONSE", `status ${status} cannot be passed on over HTTP/2`);
    }
    this.#waitsForTrailers = mayHaveTrailers && !ENDS_WITH_HEAD.has(status);
    this.#stream.respond([":status", String(status), ...headers.flat], { waitForTrailers: this.#waitsForTrailers });
  }

  flushHead(): void {
    // node:http2 has sent it.
  }

  write(chunk: Buffer): boolean {
    return this.#stream.writableEnded || this.#stream.write(chunk);
  }

  end(body?: string | Uint8Array, trailers: readonly string[] = []): void {
    const stream = this.#stream;
    this.#ended = true;
    // node:http2 sends them once it wants some; a stream that is closed by then must not be asked to.
    if (trailers.length > 0) this.#compatible.addTrailers(grouped(trailers));
    if (this.#waitsForTrailers) stream.once("wantTrailers", () => setImmediate(() => this.#stopRequest()));
    if (!stream.writableEnded) stream.end(body);
    if (!this.#waitsForTrailers) this.#stopRequest();
  }

  abandonRequest(): void {
    // Until the response is whole, the peer may go on; see `end`.
  }

  /** RFC 9113 §8.1: after a whole response, NO_ERROR asks the peer to send no more of its request. */
  #stopRequest(): void {
    if (!this.gone && this.#stream.state.remoteClose !== 1) this.#stream.close(NO_ERROR);
  }

  breakOff(error: HoldfastError | undefined): void {
    // `close` would end it first, with END_STREAM, and the peer would take what it has for the whole. `destroy` resets
    // it with INTERNAL_ERROR.
    if (!this.#stream.destroyed) this.#stream.destroy(error);
  }
}

/** Reads the request body of a stream. */
export function streamBody(request: Http2ServerRequest): BodySource {
  const { stream } = request;
  let ended = false;
  let told = (): void => {};
  // From now on: where there is nothing to read, it ends before anybody reads.
  stream.on("end", () => {
    // A stream that is reset ends too, and must not look like a whole request.
    if (stream.closed) return;
    ended = true;
    told();
  });
  return {
    onData: (data) => void stream.on("data", data),
    onEnd(end) {
      told = end;
      if (ended) process.nextTick(end);
    },
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    get rawTrailers() {
      return request.rawTrailers;
    },
  };
}

/** Names and values in turn → values by name, in their order. */
function grouped(flat: readonly string[]): Record<string, string[]> {
  const fields: Record<string, string[]> = Object.create(null);
  for (let at = 0; at < flat.length; at += 2) {
    const name = flat[at]!.toLowerCase();
    fields[name] ??= [];
    fields[name].push(flat[at + 1]!);
  }
  return fields;
}
