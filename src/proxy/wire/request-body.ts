/**
 * What there is of a request: pieces of its body that wait for a connection, and those kept for a retry.
 *
 * @module
 */
import type { Socket } from "node:net";
import { ChunkedBody } from "../grammar/chunked-body.ts";
import { isHeld, writeAtEndOfTurn } from "./end-of-turn.ts";

/** Kept pieces that are put together: tiny ones cost far more than their bytes. */
const MAX_KEPT_PIECES = 128;
/** Up to here a body goes into one write with its head. */
const SMALL_BYTES = 16_384;
const NONE: readonly Buffer[] = [];

/** The body of one request after the other. */
export class RequestBody {
  /** Pieces that wait for a connection; nearly always none. */
  #unsent = NONE;
  /** Every piece so far, for a retry; `undefined` once it is too much or a response has begun. */
  #kept: Buffer[] | undefined;
  #keptBytes = 0;
  /** All of it is to be here before any of it is sent. */
  #gathers = false;
  /** Bytes of the request, head included, that were given to the upstream's socket in this attempt. */
  #written = 0;

  /** Bytes of the request, head included, that may have left in this attempt. @param upstream - where to */
  bytesSent(upstream: Socket): number {
    return isHeld(upstream) ? 0 : this.#written;
  }

  /** A request begins that has a body if `isKept`. */
  begin(isKept: boolean): void {
    this.#written = 0;
    this.#kept = isKept ? [] : undefined;
    this.#keptBytes = 0;
    this.#gathers = false;
  }

  /** Whether pieces wait for a connection. */
  get waits(): boolean {
    return this.#unsent !== NONE;
  }

  /** Whether all of it so far is kept. */
  get isKept(): boolean {
    return this.#kept !== undefined;
  }

  /**
   * A piece came, framing included.
   *
   * @param upstream - where it goes; `undefined`: there is no connection yet
   * @param maxKeptBytes - beyond it there is no retry
   * @param onWritten - called when the upstream's socket is done with it; only for what is not kept
   */
  add(
    piece: Buffer,
    upstream: Socket | undefined,
    maxKeptBytes: number,
    onWritten?: (error: Error | null | undefined) => void,
  ): void {
    if (this.#kept !== undefined) {
      this.#keptBytes += piece.length;
      if (this.#keptBytes > maxKeptBytes) this.#kept = undefined;
      else if (this.#kept.push(piece) === MAX_KEPT_PIECES) this.#kept = [Buffer.concat(this.#kept)];
    }
    if (this.#gathers) return;
    if (upstream === undefined) {
      this.#unsent = [...this.#unsent, piece];
      return;
    }
    this.#written += piece.length;
    upstream.write(piece, onWritten);
  }

  /** Sends the head and what waits. */
  send(head: string, upstream: Socket): void {
    const pieces = this.#unsent;
    if (!upstream.writable) {
      // It closed between the pool's choice and now: nothing of the request leaves.
      this.#written = 0;
    } else if (pieces.length === 0) {
      this.#written = head.length;
      writeAtEndOfTurn(upstream, head);
    } else if (pieces.length === 1 && pieces[0]!.length <= SMALL_BYTES) {
      this.#written = head.length + pieces[0]!.length;
      writeAtEndOfTurn(upstream, head + pieces[0]!.toString("latin1"));
    } else {
      this.#written = head.length;
      upstream.cork();
      upstream.write(head, "latin1");
      for (const piece of pieces) {
        this.#written += piece.length;
        upstream.write(piece);
      }
      upstream.uncork();
    }
    this.#unsent = NONE;
  }

  /** All of it again, and then what comes meanwhile, which may be more than is kept. */
  sendAgain(): void {
    this.#unsent = this.#kept === undefined || this.#kept.length === 0 ? NONE : [...this.#kept];
  }

  /** From now on it is only kept, until all of it is here. */
  gather(): void {
    this.#gathers = true;
    this.#unsent = NONE;
  }

  /** All of a chunked body was gathered: it goes on without its chunks. @returns how long it is */
  unchunk(): number {
    const whole = Buffer.concat(this.#kept ?? []);
    const pieces: Buffer[] = [];
    const chunks = new ChunkedBody();
    chunks.onPayload = (start, end) => pieces.push(whole.subarray(start, end));
    chunks.feed(whole, 0, whole.length);
    const payload = Buffer.concat(pieces);
    this.#gathers = false;
    this.#keptBytes = payload.length;
    this.#kept = payload.length === 0 ? [] : [payload];
    this.#unsent = payload.length === 0 ? NONE : [payload];
    return payload.length;
  }

  /** There will be no retry. */
  stopKeeping(): void {
    this.#kept = undefined;
  }

  /** Nobody wants it any more. */
  drop(): void {
    this.#gathers = false;
    this.#kept = undefined;
    this.#unsent = NONE;
  }
}
