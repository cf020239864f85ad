/**
 * Reads requests with no mercy, independent of every parser of Holdfast: whatever is not exactly RFC 9112 in what was
 * sent upstream is a fault.
 */

/** A request as an origin saw it. */
export interface Sighting {
  /** What Holdfast marked the exchange with; empty for a request that it does not know of. */
  readonly mark: string;
  readonly method: string;
  readonly target: string;
  /** Without framing. */
  readonly bodyBytes: number;
  /** Whether it came to its end. */
  readonly complete: boolean;
}

/** Field that the fuzzer has Holdfast mark every request with. */
export const MARK = "X-Exchange";

const HEAD =
  /^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP\/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n$/;
const CHUNK = /^([0-9a-fA-F]{1,14})((?:[ \t]*;[^\r\n]*)?)\r\n/;
const TRAILER = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*$/;

interface Open {
  readonly mark: string;
  readonly method: string;
  readonly target: string;
  bodyBytes: number;
  /** Bytes still to come, or the state of a chunked body. */
  remaining: number | "size" | "trailer";
  chunked: boolean;
}

/** Reads what came on one connection. */
export class StrictReader {
  #rest = "";
  #open: Open | undefined;
  /** What is not as it must be. */
  fault: string | undefined;

  /** @returns the requests that came to their end */
  feed(text: string): Sighting[] {
    this.#rest += text;
    const whole: Sighting[] = [];
    while (this.fault === undefined) {
      if (this.#open === undefined && !this.#readHead()) break;
      if (!this.#readBody(this.#open!)) break;
      whole.push(sighting(this.#open!, true));
      this.#open = undefined;
    }
    return whole;
  }

  /** Whether the head of the request that is being read asks for 100; asked once. */
  expectsContinue = false;

  /** @returns the request in the middle of which the connection ended */
  end(): Sighting | undefined {
    if (this.#open !== undefined) return sighting(this.#open, false);
    if (this.#rest !== "") this.fault ??= `ended in the middle of a head: ${JSON.stringify(this.#rest)}`;
    return undefined;
  }

  #readHead(): boolean {
    const end = this.#rest.indexOf("\r\n\r\n");
    if (end === -1) {
      // Whatever this may become, it is not the beginning of a request line.
      if (this.#rest !== "" && !/^[!#$%&'*+.^_`|~0-9A-Za-z-]/.test(this.#rest))
        this.#wrong("not a request", this.#rest);
      return false;
    }
    const text = this.#rest.slice(0, end + 4);
    const parts = HEAD.exec(text);
    if (parts === null) return this.#wrong("not a request head", text);
    this.#rest = this.#rest.slice(end + 4);
    const [, method = "", target = "", lines = ""] = parts;
    const values = (name: string): string[] =>
      lines
        .split("\r\n")
        .filter((line) => line.toLowerCase().startsWith(`${name}:`))
        .map((line) => line.slice(name.length + 1).trim());
    const lengths = values("content-length");
    const codings = values("transfer-encoding");
    if (values("host").length !== 1) return this.#wrong("not exactly one Host", text);
    if (lengths.length + codings.length > 1) return this.#wrong("more than one framing field", text);
    if (lengths.length === 1 && !/^\d+$/.test(lengths[0]!)) return this.#wrong("not a length", text);
    if (codings.length === 1 && codings[0]!.toLowerCase() !== "chunked") return this.#wrong("not chunked", text);
    if (!/^(?:\/|\*$)/.test(target)) return this.#wrong("not a path", text);
    this.expectsContinue = values("expect").length > 0;
    this.#open = {
      mark: values(MARK.toLowerCase()).join(","),
      method,
      target,
      bodyBytes: 0,
      remaining: codings.length === 1 ? "size" : Number(lengths[0] ?? 0),
      chunked: codings.length === 1,
    };
    return true;
  }

  /** @returns whether it is over */
  #readBody(open: Open): boolean {
    for (;;) {
      if (open.remaining === "size") {
        const parts = CHUNK.exec(this.#rest);
        if (parts === null) {
          return this.#rest.length > 70_000 || this.#rest.includes("\r\n")
            ? this.#wrong("not a chunk size", this.#rest)
            : false;
        }
        this.#rest = this.#rest.slice(parts[0].length);
        const size = Number.parseInt(parts[1]!, 16);
        open.remaining = size === 0 ? "trailer" : size;
      } else if (open.remaining === "trailer") {
        const end = this.#rest.indexOf("\r\n");
        if (end === -1) return false;
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 2);
        if (line === "") return true;
        if (!TRAILER.test(line)) return this.#wrong("not a trailer", line);
        if (/^(?:content-length|transfer-encoding|host|authorization|cookie):/i.test(line)) {
          return this.#wrong("a trailer that must not be one", line);
        }
      } else {
        const taken = Math.min(open.remaining, this.#rest.length);
        open.bodyBytes += taken;
        open.remaining -= taken;
        this.#rest = this.#rest.slice(taken);
        if (open.remaining > 0) return false;
        if (!open.chunked) return true;
        if (this.#rest.length < 2) return false;
        if (!this.#rest.startsWith("\r\n")) return this.#wrong("no line end after a chunk", this.#rest);
        this.#rest = this.#rest.slice(2);
        open.remaining = "size";
      }
    }
  }

  #wrong(what: string, text: string): false {
    this.fault ??= `${what}: ${JSON.stringify(text)}`;
    return false;
  }
}

function sighting({ mark, method, target, bodyBytes }: Open, complete: boolean): Sighting {
  return { mark, method, target, bodyBytes, complete };
}
