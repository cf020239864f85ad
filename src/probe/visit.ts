/**
 * One connection of a probe: opening it, one request after another, and how it ends.
 *
 * @module
 */
import type { Socket } from "node:net";
import type { SecureContext } from "node:tls";
import { asHoldfastError, HoldfastError } from "../errors.ts";
import type { ConnectionSetup, KeepAliveHint } from "../plugin/api.ts";
import { connect, type TlsOrigin } from "../proxy/connect.ts";
import { ChunkedBody } from "../proxy/grammar/chunked-body.ts";
import { parseResponseHead, type WireResponseHead } from "../proxy/wire/response-parser.ts";
import { hostField, type Peer, type ProbeMethod, serverName } from "./peer.ts";

/** Longest response head. */
const MAX_HEAD_BYTES = 65_536;
const MAX_FIELDS = 500;
/** Longest response body: what is measured are connections, not throughput. */
const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** How connections to a peer are opened. */
export interface Approach {
  readonly peer: Peer;
  readonly method: ProbeMethod;
  /** What to trust; `undefined` where the peer is not reached by TLS. */
  readonly context: SecureContext | undefined;
  /** For DNS, TCP and TLS together, and for each response. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** How a request asks for its connection. */
export interface Ask {
  readonly version: "1.0" | "1.1";
  /** Value of `Connection`; `undefined`: there is none. */
  readonly connection: "close" | "keep-alive" | undefined;
}

/** A response, read to its end. */
export interface Answer {
  readonly status: number;
  readonly version: "1.0" | "1.1";
  /** Whether the response says, or its framing means, that the connection ends with it. */
  readonly ends: boolean;
  readonly hint: KeepAliveHint | undefined;
  /** From sending the request to the first byte of the response. */
  readonly firstByteMs: number;
  /** When its last byte came, on the clock of `performance.now()`. */
  readonly endedAtMs: number;
}

/** How a connection ended. */
export interface End {
  /** On the clock of `performance.now()`. */
  readonly atMs: number;
  /** `fin`: orderly. `reset`: by RST. `failed`: by another error of the socket. */
  readonly by: "fin" | "reset" | "failed";
  /** First line of what came without being asked for, such as `HTTP/1.1 408 Request Time-out`. */
  readonly said: string | undefined;
}

const ORDINARY: Ask = { version: "1.1", connection: undefined };

/** A new {@link TlsOrigin} without a session to resume. */
export function withoutSession({ context, peer }: Approach): TlsOrigin | undefined {
  return context === undefined ? undefined : { context, serverName: serverName(peer), session: undefined };
}

/** An open connection to the peer. */
export class Visit {
  readonly setup: ConnectionSetup;
  readonly address: string | undefined;
  /** When it was open, on the clock of `performance.now()`. */
  readonly openedAtMs: number;
  /** Resolves when the peer, or the way to it, ended the connection; never after {@link close}. */
  readonly ended: Promise<End>;
  /** Whether it has ended. */
  isOver = false;

  readonly #approach: Approach;
  readonly #socket: Socket;
  readonly #end = Promise.withResolvers<End>();
  #pending: Reading | undefined;
  #unasked = "";

  private constructor(approach: Approach, socket: Socket, setup: ConnectionSetup) {
    this.#approach = approach;
    this.#socket = socket;
    this.setup = setup;
    this.address = socket.remoteAddress;
    this.openedAtMs = performance.now();
    this.ended = this.#end.promise;
    let failure: NodeJS.ErrnoException | undefined;
    socket.on("data", (bytes: Buffer) => this.#read(bytes));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      failure = error;
    });
    socket.on("end", () => this.#over("fin"));
    socket.on("close", () => {
      const isReset = failure === undefined || failure.code === "ECONNRESET" || failure.code === "EPIPE";
      this.#over(isReset ? "reset" : "failed");
    });
  }

  /**
   * Opens a connection.
   *
   * @param security - with the session to resume, if there is one; filled with the one that the peer gives
   * @throws HoldfastError that says how far it came
   */
  static open(approach: Approach, security = withoutSession(approach)): Promise<Visit> {
    const { peer, timeoutMs, signal } = approach;
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      let visit: Visit | undefined;
      const onAbort = (): void => {
        visit?.close();
        reject(signal.reason);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const forget = (): void => signal.removeEventListener("abort", onAbort);
      connect({ origin: peer.origin, security, timeoutMs, reader: undefined }, (failure, opened) => {
        if (opened === undefined) {
          forget();
          return reject(failure!.error);
        }
        visit = new Visit(approach, opened.socket, opened.setup);
        opened.socket.once("close", forget);
        if (signal.aborted) visit.close();
        resolve(visit);
      });
    });
  }

  /**
   * Sends a request and reads its response to the end.
   *
   * @throws HoldfastError when the connection ends first, the response is not valid or takes too long; the connection
   *   is then closed
   */
  async request(ask: Ask = ORDINARY): Promise<Answer> {
    const { peer, method, timeoutMs, signal } = this.#approach;
    signal.throwIfAborted();
    if (this.isOver) throw closed("was closed before the request");
    if (this.#unasked !== "") {
      this.close();
      throw new HoldfastError(
        "HF_UPSTREAM_BAD_RESPONSE",
        `the peer spoke before it was asked: ${quoted(this.#unasked)}`,
      );
    }
    const reading = new Reading(method);
    this.#pending = reading;
    const connection = ask.connection === undefined ? "" : `Connection: ${ask.connection}\r\n`;
    const sentAtMs = performance.now();
    this.#socket.write(
      `${method} ${peer.path} HTTP/${ask.version}\r\nHost: ${hostField(peer)}\r\nUser-Agent: holdfast-probe\r\nAccept: */*\r\n${connection}\r\n`,
      "latin1",
    );
    const timer = setTimeout(() => {
      reading.fail(new HoldfastError("HF_UPSTREAM_TIMEOUT", `no whole response within ${timeoutMs} ms`));
    }, timeoutMs);
    const onAbort = (): void => reading.fail(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const { head, firstByteAtMs, endedAtMs } = await reading.done;
      return {
        status: head.status,
        version: head.version,
        ends: !isKept(ask, head),
        hint: head.hop.hint,
        firstByteMs: firstByteAtMs - sentAtMs,
        endedAtMs,
      };
    } catch (error) {
      this.close();
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      this.#pending = undefined;
    }
  }

  /** Ends the connection from our side. */
  close(): void {
    this.isOver = true;
    this.#socket.destroy();
  }

  #read(bytes: Buffer): void {
    if (this.#pending !== undefined) this.#pending.read(bytes);
    else if (this.#unasked.length < MAX_HEAD_BYTES) this.#unasked += bytes.toString("latin1");
  }

  #over(by: End["by"]): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#pending?.end(by);
    const line = firstLine(this.#unasked);
    this.#end.resolve({ atMs: performance.now(), by, said: line === "" ? undefined : printable(line) });
  }
}

/** Whether the connection outlives a response (RFC 9112 §9.3). Who asked in 1.0 is kept only when told so. */
function isKept(ask: Ask, { ends, version, hop }: WireResponseHead): boolean {
  if (ends === "close" || hop.close) return false;
  return hop.keepAlive || (ask.version === "1.1" && version === "1.1");
}

/** What a terminal may show of a peer's words. */
function printable(text: string): string {
  return text.slice(0, 100).replace(/[^\x20-\x7e]/g, "?");
}

function firstLine(text: string): string {
  return text.split(/\r?\n/, 1)[0]!;
}

function quoted(text: string): string {
  return `"${printable(firstLine(text))}"`;
}

/** How every response begins. */
const BEGINNING = "HTTP/";
/** Types of TLS records, and the first byte of their version (RFC 8446 §5.1). */
const TLS_ALERT = 21;
const TLS_HANDSHAKE = 22;
const TLS_MAJOR = 3;
/** Type of the frame with which an HTTP/2 server begins (RFC 9113 §3.4). */
const H2_SETTINGS = 4;

/** What a peer speaks, by the first bytes of what should be a response; `undefined`: HTTP/1, so far. */
function otherProtocol(text: string): string | undefined {
  if (BEGINNING.startsWith(text.slice(0, BEGINNING.length))) return undefined;
  // An alert or a handshake record: it expected a ClientHello.
  const isRecord = text.charCodeAt(0) === TLS_ALERT || text.charCodeAt(0) === TLS_HANDSHAKE;
  if (isRecord && text.charCodeAt(1) === TLS_MAJOR) return "the peer speaks TLS: use https://";
  // The type of a frame is its fourth byte: a server begins with SETTINGS.
  if (text.charCodeAt(0) === 0 && text.charCodeAt(3) === H2_SETTINGS) return "the peer speaks HTTP/2 and no HTTP/1.1";
  return `the peer does not speak HTTP: it says ${quoted(text)}`;
}

function closed(how: string): HoldfastError {
  return new HoldfastError("HF_UPSTREAM_CLOSED", `the connection ${how}`);
}

function tooLong(): HoldfastError {
  return new HoldfastError("HF_UPSTREAM_BAD_RESPONSE", "the peer sends more than its response");
}

interface Read {
  readonly head: WireResponseHead;
  readonly firstByteAtMs: number;
  readonly endedAtMs: number;
}

/** One response on its way in. */
class Reading {
  readonly done: Promise<Read>;
  readonly #method: ProbeMethod;
  readonly #settle = Promise.withResolvers<Read>();
  #text = "";
  #head: WireResponseHead | undefined;
  #body: ChunkedBody | undefined;
  #bodyBytes = 0;
  #firstByteAtMs: number | undefined;

  constructor(method: ProbeMethod) {
    this.#method = method;
    this.done = this.#settle.promise;
  }

  read(bytes: Buffer): void {
    this.#firstByteAtMs ??= performance.now();
    try {
      if (this.#head === undefined) this.#readHead(bytes);
      else this.#readBody(this.#head, bytes);
    } catch (error) {
      this.fail(asHoldfastError(error));
    }
  }

  /** The connection has ended. */
  end(by: End["by"]): void {
    if (by === "fin" && this.#head?.ends === "close") this.#finish(this.#head);
    else {
      const part = this.#head === undefined && this.#text === "" ? "before the response" : "within the response";
      this.fail(closed(`was ${by === "fin" ? "closed" : "reset"} ${part}`));
    }
  }

  fail(error: unknown): void {
    this.#settle.reject(error);
  }

  #readHead(bytes: Buffer): void {
    this.#text += bytes.toString("latin1");
    const other = otherProtocol(this.#text);
    if (other !== undefined) throw new HoldfastError("HF_UPSTREAM_BAD_RESPONSE", other);
    for (let end = this.#text.indexOf("\r\n\r\n"); end !== -1; end = this.#text.indexOf("\r\n\r\n")) {
      const head = parseResponseHead(Buffer.from(this.#text, "latin1"), 0, end + 4, this.#method, MAX_FIELDS);
      const rest = this.#text.slice(end + 4);
      this.#text = rest;
      // Interim responses come before the one that was asked for (RFC 9110 §15.2).
      if (head.status < 200) continue;
      this.#head = head;
      this.#text = "";
      if (head.ends === "chunked") this.#body = new ChunkedBody();
      this.#readBody(head, Buffer.from(rest, "latin1"));
      return;
    }
    if (this.#text.length > MAX_HEAD_BYTES) {
      throw new HoldfastError("HF_UPSTREAM_HEAD_TOO_LARGE", `the response head is above ${MAX_HEAD_BYTES} bytes`);
    }
  }

  #readBody(head: WireResponseHead, bytes: Buffer): void {
    this.#bodyBytes += bytes.length;
    if (this.#bodyBytes > MAX_BODY_BYTES) {
      throw new HoldfastError("HF_UPSTREAM_INCOMPLETE", "the response is above 16 MiB; use --method HEAD");
    }
    switch (head.ends) {
      case "none":
        if (bytes.length > 0) throw tooLong();
        this.#finish(head);
        return;
      case "length":
        if (this.#bodyBytes > head.bodyBytes) throw tooLong();
        if (this.#bodyBytes === head.bodyBytes) this.#finish(head);
        return;
      case "chunked": {
        const body = this.#body!;
        body.feed(bytes, 0, bytes.length);
        if (body.fault !== undefined) throw new HoldfastError("HF_UPSTREAM_BAD_RESPONSE", body.fault);
        if (!body.done) return;
        if (body.consumed < bytes.length) throw tooLong();
        this.#finish(head);
        return;
      }
      case "close":
        return;
    }
  }

  #finish(head: WireResponseHead): void {
    const endedAtMs = performance.now();
    this.#settle.resolve({ head, firstByteAtMs: this.#firstByteAtMs ?? endedAtMs, endedAtMs });
  }
}
