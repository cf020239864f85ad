/**
 * What a proxy must know of WebSocket (RFC 6455) to end one politely: where frames end, and what a close frame looks like.
 *
 * @module
 */
import { randomBytes } from "node:crypto";

const CLOSE = 0x8;
const GOING_AWAY = 1001;

/** Follows the frames that one peer sends, however their bytes are cut up. Nothing is kept but where it is. */
export class FrameTracker {
  /** Bytes of the mask and the payload that are still to come. */
  #left = 0;
  #step: "first" | "second" | "length" = "first";
  #length = 0;
  #lengthBytes = 0;
  #maskBytes = 0;
  #isClose = false;
  #closed = false;

  /** Whether the last byte ended a frame, or none has come yet. */
  get atBoundary(): boolean {
    return this.#step === "first" && this.#left === 0;
  }

  /** Whether a whole close frame has come: its peer sends no other after it (§5.5.1). */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether a close frame has come, or begun to. */
  get closing(): boolean {
    return this.#isClose || this.#closed;
  }

  /**
   * Takes the next bytes.
   *
   * @param toBoundary - stop where a frame ends, at once if that is here
   * @returns how many were taken
   */
  take(bytes: Uint8Array, toBoundary = false): number {
    let at = 0;
    for (;;) {
      if (toBoundary && this.atBoundary) return at;
      if (at === bytes.length) return at;
      if (this.#left === 0) {
        this.#takeHeader(bytes[at++]!);
      } else {
        const some = Math.min(this.#left, bytes.length - at);
        this.#left -= some;
        at += some;
      }
      if (this.#isClose && this.atBoundary) {
        this.#isClose = false;
        this.#closed = true;
      }
    }
  }

  #takeHeader(byte: number): void {
    switch (this.#step) {
      case "first":
        this.#isClose = (byte & 0x0f) === CLOSE;
        this.#step = "second";
        return;
      case "second": {
        const length = byte & 0x7f;
        this.#maskBytes = (byte & 0x80) === 0 ? 0 : 4;
        this.#lengthBytes = length === 126 ? 2 : length === 127 ? 8 : 0;
        this.#length = this.#lengthBytes === 0 ? length : 0;
        break;
      }
      case "length":
        this.#length = this.#length * 256 + byte;
        this.#lengthBytes--;
        break;
    }
    this.#step = this.#lengthBytes > 0 ? "length" : "first";
    // A length that cannot be counted is never over, and such a frame never has an end.
    if (this.#step === "first") {
      this.#left = this.#length > Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : this.#length + this.#maskBytes;
    }
  }
}

/**
 * A close frame that says 1001, "going away" (§7.4.1).
 *
 * @param masked - towards an upstream: what a client sends must be masked, what a server sends must not be (§5.1)
 */
export function goingAwayFrame(masked: boolean): Buffer {
  const code = Buffer.from([GOING_AWAY >> 8, GOING_AWAY & 0xff]);
  if (!masked) return Buffer.concat([Buffer.from([0x80 | CLOSE, code.length]), code]);
  const mask = randomBytes(4);
  const payload = code.map((byte, at) => byte ^ mask[at % 4]!);
  return Buffer.concat([Buffer.from([0x80 | CLOSE, 0x80 | code.length]), mask, payload]);
}
