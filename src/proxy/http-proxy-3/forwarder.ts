/**
 * The http-proxy-3 forwarder: node:http reads requests downstream, http-proxy-3 sends them upstream over our pool.
 *
 * @module
 */
import type Http from "node:http";
import type { Socket } from "node:net";
import type { Limits } from "../../config/sidecar-config.ts";
import { HoldfastError } from "../../errors.ts";
import { http } from "../../node-http.ts";
import { closeGently, type ProxyConnection } from "../connection.ts";
import { type ExchangeSurroundings, ProxyExchange } from "../exchange.ts";
import type { Forwarder } from "../forwarder.ts";
import { listElements } from "../headers.ts";
import { readPreface } from "../preface.ts";
import { closeBehindAnswer, refuseConnection } from "../refuse.ts";
import { type CheckedHead, checkRequestHead } from "../request-rules.ts";
import { Http1Answer } from "./answer.ts";
import { Carrier } from "./carrier.ts";
import { EarlyBytes } from "./early-bytes.ts";
import { runExchange } from "./exchange.ts";
import { type Http2Acceptor, http2Acceptor } from "./http2.ts";
import { messageBody } from "./request-body.ts";
import { RequestLines } from "./request-lines.ts";
import { runConnect } from "./tunnel.ts";

/** Room for the start line and for what node:http counts differently, above limits.head. */
const PARSER_SLACK_BYTES = 4096;

/** The most that one read of a socket gives. */
const READ_BYTES = 65_536;

/** Requests of one connection that may be parsed ahead before reading pauses. */
const MAX_PIPELINED = 16;

/** One downstream connection: its exchanges run one after the other, in the order of their requests. */
interface Lane {
  readonly connection: ProxyConnection;
  /** What waits for the exchange that runs now. */
  readonly waiting: (() => void)[];
  busy: boolean;
  /** The exchange that runs now. */
  exchange: ProxyExchange | undefined;
  /** Watches what node:http reads. */
  lines: RequestLines;
  stopReading: () => void;
  /** node:http has let go of the socket: an upgrade or CONNECT waits for its turn, or runs. */
  handedOver: boolean;
  /** A request whose upgrade was declined, until it is complete: node:http drops what follows it in the same read. */
  declined: Http.IncomingMessage | undefined;
  /** The request that the parser found last; its body may still be on its way. */
  last: Http.IncomingMessage | undefined;
  /** Its body turned out to be invalid before its turn came. */
  broken: { readonly request: Http.IncomingMessage; readonly failure: HoldfastError } | undefined;
  /** Something invalid came: nothing after it is read as a request. */
  refused: boolean;
}

/** What is made for certain limits. Connections stay with the parser that they began with. */
interface Bounds {
  readonly limits: Limits;
  readonly maxHeaderSize: number;
  readonly server: Http.Server;
  readonly carrier: Carrier;
  readonly http2: Http2Acceptor;
}

/** What node:http says of bytes that are no request. */
type ParserError = NodeJS.ErrnoException & {
  readonly reason?: string;
  /** The bytes that were being parsed, and how far that came. */
  readonly rawPacket?: Buffer;
  readonly bytesParsed?: number;
};

/** The forwarder, and its two halves for those who know already what is spoken on a connection. */
export interface HttpProxy3Forwarder extends Forwarder {
  /** Takes over a connection whose next bytes are a request of HTTP/1.x. */
  acceptHttp1(connection: ProxyConnection): void;
  /** Takes over a connection whose next bytes are the HTTP/2 client preface. */
  acceptHttp2(connection: ProxyConnection): void;
}

/** Makes the forwarder of one direction. */
export function httpProxy3Forwarder(around: ExchangeSurroundings): HttpProxy3Forwarder {
  const lanes = new WeakMap<Socket, Lane>();
  let bounds: Bounds | undefined;

  return {
    name: "http-proxy-3",
    accept(connection) {
      if (connection.protocol === "h2") {
        bounded().http2.accept(connection);
      } else if (connection.secure || !around.generation.http2) {
        read(addLane(connection));
      } else {
        // Whoever takes its time with its first bytes is refused as a slow request of HTTP/1.x.
        const lane = addLane(connection);
        readPreface(connection, (isHttp2) => {
          if (isHttp2) {
            lanes.delete(connection.socket);
            bounded().http2.accept(connection);
            return;
          }
          read(lane);
          connection.socket.resume();
        });
      }
    },
    acceptHttp1: (connection) => read(addLane(connection)),
    acceptHttp2: (connection) => bounded().http2.accept(connection),
    refuseSlowHead(connection) {
      const lane = lanes.get(connection.socket);
      if (lane === undefined) return;
      const { headMs } = connection.requestTimeouts;
      refuse(lane, new HoldfastError("HF_REQUEST_TIMEOUT", `the request head was not complete within ${headMs} ms`));
    },
  };

  /** What node sizes once, when it is made: for the limits that hold now. */
  function bounded(): Bounds {
    const { limits } = around.generation;
    if (bounds?.limits !== limits) bounds = makeBounds(limits);
    return bounds;
  }

  function makeBounds(limits: Limits): Bounds {
    const maxHeaderSize = limits.headBytes + limits.targetBytes + PARSER_SLACK_BYTES;
    const server = http.createServer({
      maxHeaderSize,
      // All of these are ours: idle limits, slow heads and Host are looked after in one place for every forwarder.
      requireHostHeader: false,
      keepAliveTimeout: 0,
      headersTimeout: 0,
      requestTimeout: 0,
      shouldUpgradeCallback(request) {
        if (upgradeProtocol(request) !== undefined) return true;
        lanes.get(request.socket)!.declined = request;
        return false;
      },
    });
    // Node would cut the list silently; checkRequestHead refuses with 431 instead.
    server.maxHeadersCount = 0;
    server.on("request", (request, response) => received(request, response));
    server.on("checkContinue", (request, response) => received(request, response));
    server.on("checkExpectation", (request, response) => received(request, response));
    server.on("upgrade", (request, socket, first) => takenOver(request, socket as Socket, first, "upgrade"));
    server.on("connect", (request, socket, first) => takenOver(request, socket as Socket, first, "tunnel"));
    server.on("clientError", (error, socket) => malformed(error, socket as Socket));
    const carrier = new Carrier(limits.headBytes);
    return { limits, maxHeaderSize, server, carrier, http2: http2Acceptor(around, limits, carrier) };
  }

  function addLane(connection: ProxyConnection): Lane {
    const lane: Lane = {
      connection,
      waiting: [],
      busy: false,
      exchange: undefined,
      lines: new RequestLines(0),
      stopReading: () => {},
      handedOver: false,
      declined: undefined,
      last: undefined,
      broken: undefined,
      refused: false,
    };
    lanes.set(connection.socket, lane);
    return lane;
  }

  /** Lets node:http read requests from the connection. */
  function read(lane: Lane): void {
    const { socket } = lane.connection;
    const { server, maxHeaderSize } = bounded();
    const lines = new RequestLines(maxHeaderSize + READ_BYTES);
    const afterParsing = (): void => {
      // Only now: node:http lets the socket flow again at the end of each request it parses.
      if (lane.waiting.length >= MAX_PIPELINED) socket.pause();
      // Behind a refusal nothing is followed any more: what is kept would begin with the declined request itself.
      if (lane.refused || lane.declined === undefined || !lane.declined.complete) return;
      lane.declined = undefined;
      const dropped = lines.takeRest();
      if (dropped.length > 0) socket.unshift(dropped);
    };
    // node:http calls it after a last response; destroying a socket that still receives would take that response along.
    socket.destroySoon = () => closeGently(socket);
    server.emit("connection", socket);
    // Before node's own listener: the bytes must be known when the parser tells what it found in them.
    socket.prependListener("data", lines.saw);
    socket.on("data", afterParsing);
    lane.lines = lines;
    lane.handedOver = false;
    lane.stopReading = () => {
      socket.removeListener("data", lines.saw);
      socket.removeListener("data", afterParsing);
    };
  }

  /** Runs now, or after what runs now: a pipelined request must not overtake, nor run when its answer cannot be sent. */
  function inTurn(lane: Lane, start: () => void): void {
    if (!lane.busy) {
      lane.busy = true;
      start();
      return;
    }
    lane.waiting.push(start);
  }

  function next(lane: Lane): void {
    lane.exchange = undefined;
    const start = lane.waiting.shift();
    if (!lane.handedOver && lane.waiting.length < MAX_PIPELINED) lane.connection.socket.resume();
    if (start === undefined) lane.busy = false;
    else start();
  }

  function received(request: Http.IncomingMessage, response: Http.ServerResponse): void {
    const lane = lanes.get(request.socket)!;
    if (lane.refused) return;
    lane.last = request;
    const exact = lane.lines.isExact(request);
    inTurn(lane, () => {
      if (isOver(lane)) return;
      const head = check(lane, request, exact, undefined);
      if (head === undefined) return;
      lane.connection.protocol = head.version === "1.0" ? "http/1.0" : "http/1.1";
      lane.exchange = new ProxyExchange(around, lane.connection, head, "http");
      const { carrier, limits } = bounded();
      const carriage = { carrier, replayBytes: limits.replayBytes, upgrade: undefined };
      const received = { request, body: messageBody(request) };
      runExchange(lane.exchange, received, new Http1Answer(response, lane.connection), carriage, () => next(lane));
    });
  }

  /** An upgrade or CONNECT: node:http has let go of the socket. */
  function takenOver(request: Http.IncomingMessage, socket: Socket, first: Buffer, kind: "upgrade" | "tunnel"): void {
    const lane = lanes.get(socket)!;
    if (lane.refused) return;
    // Nobody reads it until the exchange starts, or ends without a switch.
    socket.pause();
    lane.stopReading();
    lane.handedOver = true;
    lane.last = request;
    const exact = lane.lines.isExact(request);
    inTurn(lane, () => {
      if (isOver(lane)) return;
      const head = check(lane, request, exact, kind === "upgrade" ? upgradeProtocol(request) : undefined);
      if (head === undefined) return;
      const exchange = new ProxyExchange(around, lane.connection, head, kind);
      lane.exchange = exchange;
      const response = new http.ServerResponse(request);
      response.shouldKeepAlive = head.version === "1.1" && !head.hop.close;
      response.assignSocket(socket);
      const early =
        kind === "upgrade" ? new EarlyBytes(socket, first, () => lane.connection.cut("aborted")) : undefined;
      const over = (): void => {
        const bytes = early?.take() ?? first;
        next(lane);
        if (lane.connection.state !== "idle" || lane.connection.protocol === "tunnel") return;
        // The switch was refused: an ordinary connection again, and what came early is still to be read.
        response.detachSocket(socket);
        if (bytes.length > 0) socket.unshift(bytes);
        read(lane);
        socket.resume();
      };
      if (kind === "tunnel") runConnect(exchange, response, socket, first, over);
      else {
        const detach = (): void => void response.detachSocket(socket);
        const { carrier, limits } = bounded();
        const carriage = {
          carrier,
          replayBytes: limits.replayBytes,
          upgrade: early && { socket, early, detach },
        };
        const received = { request, body: messageBody(request) };
        runExchange(exchange, received, new Http1Answer(response, lane.connection), carriage, over);
      }
    });
  }

  /** A connection that closes after the response before has nobody to answer. */
  function isOver(lane: Lane): boolean {
    const over = lane.refused || lane.connection.state === "draining" || lane.connection.state === "closed";
    if (over) lane.waiting.length = 0;
    return over;
  }

  /** @param exact - whether the request line stood there as the parser shows it */
  function check(
    lane: Lane,
    request: Http.IncomingMessage,
    exact: boolean,
    upgrade: string | undefined,
  ): CheckedHead | undefined {
    try {
      if (lane.broken?.request === request) throw lane.broken.failure;
      const head = checkRequestHead(
        {
          method: request.method!,
          target: request.url!,
          version: request.httpVersion,
          fields: request.rawHeaders,
          secure: lane.connection.secure,
        },
        around.generation.limits,
      );
      if (!exact) throw new HoldfastError("HF_BAD_REQUEST", "the request line is not method, target and version");
      if (head.hop.upgrade === upgrade) return head;
      return Object.assign(head, { hop: { ...head.hop, upgrade } });
    } catch (error) {
      refuse(lane, error as HoldfastError);
      return undefined;
    }
  }

  function malformed(error: ParserError, socket: Socket): void {
    const lane = lanes.get(socket);
    if (lane === undefined || lane.refused) return;
    if (error.code === undefined || !error.code.startsWith("HPE_")) {
      // Not a fault of the message: the connection broke, and its own handlers know.
      socket.destroy();
      return;
    }
    if (error.code === "HPE_INVALID_EOF_STATE") {
      // The peer ended its side in the middle of a request.
      lane.connection.cut(lane.busy ? "aborted" : "peer_closed");
      return;
    }
    const { exchange, last } = lane;
    const inBody = last !== undefined && !last.complete;
    const failure = parserFailure(error, !inBody && !lane.lines.hasLine());
    if (inBody && lane.waiting.length > 0) {
      lane.broken = { request: last, failure };
      return;
    }
    if (inBody && exchange !== undefined) {
      lane.refused = true;
      exchange.steps.abort(exchange, failure);
      return;
    }
    if (inBody) {
      lane.refused = true;
      closeBehindAnswer(around, lane.connection, failure);
      return;
    }
    inTurn(lane, () => {
      if (!isOver(lane)) refuse(lane, failure);
    });
  }

  /** Answers what is not a request, and closes. There is no exchange: nothing of it can be trusted. */
  function refuse(lane: Lane, failure: HoldfastError): void {
    lane.refused = true;
    lane.waiting.length = 0;
    refuseConnection(around, lane.connection, failure);
  }
}

/**
 * The protocol an upgrade asks for, without those we serve as HTTP/1.1 instead: `h2c` may be ignored (RFC 9110 §7.8),
 * and Java's HttpClient sends it by default on its first request. A request with a body is not upgraded either.
 */
function upgradeProtocol(request: Http.IncomingMessage): string | undefined {
  const { headers } = request;
  if (headers.upgrade === undefined || !listElements(headers.connection ?? "").includes("upgrade")) return undefined;
  if (headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) !== 0) return undefined;
  const protocols = headers.upgrade.split(",").map((protocol) => protocol.trim());
  const wanted = protocols.filter((protocol) => protocol !== "" && !/^h2c?(?:\/|$)/i.test(protocol));
  return wanted.length === 0 || request.httpVersion !== "1.1" ? undefined : wanted.join(", ");
}

/** What came from the beginning of the head in which the parser failed. */
function textFromHead({ rawPacket, bytesParsed }: ParserError): string {
  const text = rawPacket?.toString("latin1") ?? "";
  const before = text.lastIndexOf("\r\n\r\n", bytesParsed);
  return before === -1 ? text : text.slice(before + 4);
}

/** What an error of node's parser means. */
function parserFailure(error: ParserError, inRequestLine: boolean): HoldfastError {
  const cause = { cause: error };
  switch (error.code) {
    case "HPE_HEADER_OVERFLOW":
      return inRequestLine
        ? new HoldfastError("HF_TARGET_TOO_LONG", "request target longer than limits.target", cause)
        : new HoldfastError("HF_HEAD_TOO_LARGE", "head (or trailer section) larger than limits.head", cause);
    case "HPE_INVALID_VERSION":
      // Node says so of every end of a request line that it does not like, a bare LF among them.
      if (!/ HTTP\/\d+\.\d+\r\n/.test(textFromHead(error))) {
        return new HoldfastError("HF_BAD_REQUEST", "the request line does not end in an HTTP version and CRLF", cause);
      }
      return new HoldfastError("HF_VERSION_NOT_SUPPORTED", "not HTTP/1.0 or HTTP/1.1", cause);
    case "HPE_PAUSED_H2_UPGRADE":
      return new HoldfastError("HF_VERSION_NOT_SUPPORTED", "not HTTP/1.0 or HTTP/1.1", cause);
    case "HPE_INVALID_CONTENT_LENGTH":
      if (error.reason === "Content-Length overflow") {
        return new HoldfastError("HF_BODY_TOO_LARGE", "Content-Length is larger than can be counted", cause);
      }
      return new HoldfastError("HF_BAD_FRAMING", `the end of the request cannot be told (${error.code})`, cause);
    case "HPE_INVALID_TRANSFER_ENCODING":
    case "HPE_UNEXPECTED_CONTENT_LENGTH":
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
    case "HPE_INVALID_CHUNK_SIZE":
      return new HoldfastError("HF_BAD_FRAMING", `the end of the request cannot be told (${error.code})`, cause);
    default:
      return new HoldfastError("HF_BAD_REQUEST", `not a valid request (${error.code})`, cause);
  }
}
