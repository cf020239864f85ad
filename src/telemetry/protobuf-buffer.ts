/**
 * Protobuf written straight into bytes that grow.
 *
 * @module
 */

/** What a number with its tag takes at most, and some more. */
const ROOM = 32;

/** Bytes being written. Messages inside messages begin with {@link open} and end with {@link close}. */
export class ProtobufBuffer {
  bytes: Buffer;
  #view: DataView;
  /** Where the next byte goes. */
  at = 0;

  /** @param size - bytes to begin with */
  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
    this.#view = viewOf(this.bytes);
  }

  /** Goes on in other bytes, from their beginning. */
  renew(bytes: Buffer): void {
    this.bytes = bytes;
    this.#view = viewOf(bytes);
    this.at = 0;
  }

  /** Makes sure that this many bytes can be written. */
  reserve(count: number): void {
    if (this.at + count > this.bytes.length) this.#grow(count);
  }

  #grow(count: number): void {
    let size = this.bytes.length * 2;
    while (size < this.at + count) size *= 2;
    const { bytes, at } = this;
    this.renew(Buffer.allocUnsafeSlow(size));
    bytes.copy(this.bytes, 0, 0, at);
    this.at = at;
  }

  byte(value: number): void {
    this.reserve(ROOM);
    this.bytes[this.at++] = value;
  }

  /** A whole number below 2⁶³, negative ones in two's complement of 64 bits. */
  varint(value: number): void {
    this.reserve(ROOM);
    const { bytes } = this;
    let { at } = this;
    if (value >= 0 && value < 0x8000_0000) {
      let rest = value;
      while (rest > 0x7f) {
        bytes[at++] = (rest & 0x7f) | 0x80;
        rest >>>= 7;
      }
      bytes[at++] = rest;
    } else if (value >= 0) {
      let rest = value;
      while (rest > 0x7f) {
        bytes[at++] = (rest % 0x80) | 0x80;
        rest = Math.floor(rest / 0x80);
      }
      bytes[at++] = rest;
    } else {
      let rest = BigInt.asUintN(64, BigInt(value));
      while (rest > 0x7fn) {
        bytes[at++] = Number(rest & 0x7fn) | 0x80;
        rest >>= 7n;
      }
      bytes[at++] = Number(rest);
    }
    this.at = at;
  }

  double(value: number): void {
    this.reserve(ROOM);
    this.#view.setFloat64(this.at, value, true);
    this.at += 8;
  }

  fixed32(value: number): void {
    this.reserve(ROOM);
    this.#view.setUint32(this.at, value, true);
    this.at += 4;
  }

  fixed64(low: number, high: number): void {
    this.reserve(ROOM);
    this.#view.setUint32(this.at, low, true);
    this.#view.setUint32(this.at + 4, high, true);
    this.at += 8;
  }

  /** Bytes as they are, without a length. */
  raw(source: Uint8Array): void {
    this.reserve(source.length);
    this.bytes.set(source, this.at);
    this.at += source.length;
  }

  /** Length and bytes of what these hexadecimal digits stand for. @returns where the bytes begin */
  hex(digits: string): number {
    this.reserve(ROOM);
    const length = digits.length >>> 1;
    this.bytes[this.at++] = length;
    const start = this.at;
    this.at += this.bytes.write(digits, start, length, "hex");
    return start;
  }

  /** Length and bytes that stand somewhere before. */
  repeat(start: number, length: number): void {
    this.reserve(ROOM);
    const { bytes } = this;
    let { at } = this;
    bytes[at++] = length;
    for (let index = 0; index < length; index++) bytes[at++] = bytes[start + index]!;
    this.at = at;
  }

  /** Length and UTF-8 of a text. */
  text(text: string): void {
    const most = text.length * 3;
    this.reserve(most + ROOM);
    const start = this.open();
    this.at += this.bytes.write(text, start, most);
    this.close(start);
  }

  /** Begins a message of which hardly any is longer than 127 bytes. @returns what {@link close} takes */
  open(): number {
    this.reserve(ROOM);
    this.at++;
    return this.at;
  }

  /** Ends a message: its length is put before it. @param start - what {@link open} returned */
  close(start: number): void {
    const length = this.at - start;
    if (length < 0x80) this.bytes[start - 1] = length;
    else this.#closeLong(start, length, 1);
  }

  /** As {@link open}, for a message that is hardly ever shorter than 128 or longer than 16,383 bytes. */
  openLong(): number {
    this.reserve(ROOM);
    this.at += 2;
    return this.at;
  }

  /** Ends what {@link openLong} began. @returns whether the message had to move */
  closeLong(start: number): boolean {
    const length = this.at - start;
    if (length < 0x80 || length >= 0x4000) {
      this.#closeLong(start, length, 2);
      return true;
    }
    this.bytes[start - 2] = (length & 0x7f) | 0x80;
    this.bytes[start - 1] = length >>> 7;
    return false;
  }

  /** The length takes another number of bytes than were left free for it: the message moves. */
  #closeLong(start: number, length: number, free: number): void {
    const needed = varintSize(length);
    this.reserve(ROOM);
    this.bytes.copyWithin(start - free + needed, start, this.at);
    this.at = start - free;
    this.varint(length);
    this.at += length;
  }
}

/** Bytes that a length takes. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 0x7f; rest = Math.floor(rest / 0x80)) size++;
  return size;
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
