/**
 * One connection of the load generator: sends a request, checks its response byte by byte, says when it has it.
 *
 * @module
 */
import net from "node:net";
import { type Exchange, requestHead } from "./job.ts";

/** Read into by every connection in turn: what arrives is looked at before the next read. */
const BUFFER = Buffer.allocUnsafe(256 * 1024);

/** Told by a connection. */
export interface LoadEvents {
  /** The response is complete and right. The connection can be used again, unless the exchange closes it. */
  done(connection: LoadConnection): void;
  /** It is of no further use. Does not come after {@link LoadConnection.close}. */
  lost(connection: LoadConnection, reason: string): void;
}

/** Sends one exchange at a time. Opens at once; what is sent before it is open waits. */
export class LoadConnection {
  /** For whoever drives it: when its exchange began, as `performance.now()` counts. */
  startedAt = 0;
  readonly #socket: net.Socket;
  readonly #request: Buffer;
  readonly #expected: Uint8Array;
  readonly #events: LoadEvents;
  /** What has come of the head; `undefined` once it is complete. */
  #head: string | undefined = "";
  /** Body bytes that have come. */
  #at = 0;
  #isBusy = false;
  #isClosed = false;

  constructor(exchange: Exchange, events: LoadEvents) {
    this.#request = Buffer.concat([Buffer.from(requestHead(exchange), "latin1"), exchange.body]);
    this.#expected = exchange.expected;
    this.#events = events;
    this.#socket = net.connect({
      port: exchange.port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: BUFFER,
        callback: (length) => {
          this.#read(length);
          return true;
        },
      },
    });
    this.#socket.on("error", (error: NodeJS.ErrnoException) => this.#fail(error.code ?? error.message));
    this.#socket.on("close", () => this.#fail(this.#isBusy ? "closed during an exchange" : "closed while idle"));
  }

  send(): void {
    this.#head = "";
    this.#at = 0;
    this.#isBusy = true;
    this.#socket.write(this.#request);
  }

  close(): void {
    this.#isClosed = true;
    this.#socket.destroy();
  }

  #fail(reason: string): void {
    if (this.#isClosed) return;
    this.close();
    this.#events.lost(this, reason);
  }

  #read(length: number): void {
    if (this.#isClosed) return;
    const fault = this.#isBusy ? this.#take(length) : "bytes without a request";
    if (fault !== undefined) this.#fail(fault);
    else if (this.#head === undefined && this.#at === this.#expected.length) this.#finish();
  }

  /** Takes what arrived; returns what is wrong with it. */
  #take(length: number): string | undefined {
    let from = 0;
    if (this.#head !== undefined) {
      const before = this.#head.length;
      this.#head += BUFFER.toString("latin1", 0, length);
      const end = this.#head.indexOf("\r\n\r\n");
      if (end === -1) return undefined;
      const fault = headFault(this.#head.slice(0, end), this.#expected.length);
      if (fault !== undefined) return fault;
      this.#head = undefined;
      from = end + 4 - before;
    }
    const next = this.#at + length - from;
    if (next > this.#expected.length) return "bytes after the response";
    if (BUFFER.compare(this.#expected, this.#at, next, from, length) !== 0) return "wrong body";
    this.#at = next;
    return undefined;
  }

  #finish(): void {
    this.#isBusy = false;
    this.#events.done(this);
  }
}

/** What is wrong with a response head. */
function headFault(head: string, bodyLength: number): string | undefined {
  if (!head.startsWith("HTTP/1.1 200 ")) return `answered ${head.slice(9, 12)}`;
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  return Number(length) === bodyLength ? undefined : `Content-Length is ${length ?? "missing"}`;
}
