/**
 * Field lines that are still text. As long as no plugin changes them they are sent on as they came, without being
 * taken apart.
 *
 * @module
 */
import { FieldList } from "../headers.ts";

/** Four numbers per line: where its name begins and ends, where its value begins and ends. */
export type Offsets = number[];

/** A {@link FieldList} over the text of a head. Look-ups read the text; the first change takes it apart. */
export class WireFields extends FieldList {
  readonly #text: string;
  readonly #offsets: Offsets;
  /** Lines added at the end, each with its CRLF; the text before is untouched. */
  #added = "";
  #apart = false;

  constructor(text: string, offsets: Offsets) {
    super([]);
    this.#text = text;
    this.#offsets = offsets;
  }

  /** Every line with its CRLF, as it goes on the wire. */
  toText(): string {
    if (this.#apart) {
      let text = "";
      const flat = super.flat;
      for (let at = 0; at < flat.length; at += 2) text += `${flat[at]}: ${flat[at + 1]}\r\n`;
      return text;
    }
    const text = this.#text;
    const offsets = this.#offsets;
    let out = "";
    // Neighbouring lines go as one piece.
    for (let at = 0; at < offsets.length; ) {
      const start = offsets[at]!;
      let end = lineEnd(text, offsets[at + 3]!);
      at += 4;
      while (at < offsets.length && offsets[at] === end) {
        end = lineEnd(text, offsets[at + 3]!);
        at += 4;
      }
      out += text.slice(start, end);
    }
    return out + this.#added;
  }

  override get flat(): string[] {
    if (!this.#apart) this.#takeApart();
    return super.flat;
  }

  override get size(): number {
    return this.#apart || this.#added !== "" ? this.flat.length / 2 : this.#offsets.length / 4;
  }

  override get(name: string): string | undefined {
    if (this.#apart || this.#added !== "") return super.get(name);
    const at = this.#seek(name);
    return at === -1 ? undefined : this.#text.slice(this.#offsets[at + 2]!, this.#offsets[at + 3]!);
  }

  override has(name: string): boolean {
    if (this.#apart || this.#added !== "") return super.has(name);
    return this.#seek(name) !== -1;
  }

  override write(name: string, value: string): void {
    if (this.#apart || this.#added.length > 0 || this.#seek(name) !== -1) super.write(name, value);
    else this.#added += `${name}: ${value}\r\n`;
  }

  override remove(name: string): boolean {
    if (!this.#apart && this.#added === "" && this.#seek(name) === -1) return false;
    return super.remove(name);
  }

  #takeApart(): void {
    this.#apart = true;
    const flat = super.flat;
    const text = this.#text;
    const offsets = this.#offsets;
    for (let at = 0; at < offsets.length; at += 4) {
      flat.push(text.slice(offsets[at]!, offsets[at + 1]!), text.slice(offsets[at + 2]!, offsets[at + 3]!));
    }
    for (const line of this.#added.split("\r\n")) {
      const colon = line.indexOf(": ");
      if (colon !== -1) flat.push(line.slice(0, colon), line.slice(colon + 2));
    }
    this.#added = "";
  }

  /** Index of the first line with this name, −1 if there is none. */
  #seek(name: string): number {
    const { length } = name;
    const offsets = this.#offsets;
    const text = this.#text;
    for (let at = 0; at < offsets.length; at += 4) {
      const start = offsets[at]!;
      if (offsets[at + 1]! - start === length && sameName(text, start, name)) return at;
    }
    return -1;
  }
}

/** Compares letters without their case bit; what differs in it only by chance is told apart by the second look. */
function sameName(text: string, start: number, name: string): boolean {
  for (let at = 0; at < name.length; at++) {
    const a = text.charCodeAt(start + at);
    const b = name.charCodeAt(at);
    if (a === b) continue;
    if ((a | 0x20) !== (b | 0x20) || (a | 0x20) < 0x61 || (a | 0x20) > 0x7a) return false;
  }
  return true;
}

/** Where the line after the value ends: white space may stand between the value and CRLF. */
function lineEnd(text: string, valueEnd: number): number {
  return text.charCodeAt(valueEnd) === 0x0d ? valueEnd + 2 : text.indexOf("\r\n", valueEnd) + 2;
}
