/**
 * Runs one exchange between node:http or node:http2 downstream and http-proxy-3 upstream.
 *
 * @module
 */
import type http from "node:http";
import type { Socket } from "node:net";
import { asHoldfastError, HoldfastError } from "../../errors.ts";
import type { ProxyConnection } from "../connection.ts";
import {
  closeReasonOf,
  type LocalResponse,
  lengthRequired,
  type ProxyExchange,
  upstreamClosedError,
} from "../exchange.ts";
import { allowedTrailers, splitHopByHop } from "../headers.ts";
import { checkResponseHead, hasBody, INTERIM_ROOM } from "../response-rules.ts";
import { runTunnel } from "../tunnel.ts";
import type { Answer } from "./answer.ts";
import type { Carrier } from "./carrier.ts";
import type { EarlyBytes } from "./early-bytes.ts";
import { type BodySource, RequestBody } from "./request-body.ts";

/** A status line without its reason, and the empty line. */
const LINE_OVERHEAD_BYTES = 17;

/** What an exchange needs besides itself. */
export interface Carriage {
  readonly carrier: Carrier;
  readonly replayBytes: number;
  /** For an upgrade: the downstream socket, what comes after the request head, and what frees the socket. */
  readonly upgrade: { readonly socket: Socket; readonly early: EarlyBytes; readonly detach: () => void } | undefined;
}

/** A request as it is read. */
export interface Received {
  /** The object that http-proxy-3 takes for the request. */
  readonly request: http.IncomingMessage;
  readonly body: BodySource;
}

/**
 * Runs the exchange to its end.
 *
 * @param over - called once, when the response is written or the downstream connection is gone
 */
export function runExchange(
  exchange: ProxyExchange,
  received: Received,
  answer: Answer,
  carriage: Carriage,
  over: () => void,
): void {
  const { framing, expectsContinue, method, version } = exchange.request;
  const hasRequestBody = framing.kind === "chunked" || (framing.kind === "length" && framing.bytes > 0);
  exchange.requestComplete = !hasRequestBody;
  const body = new RequestBody(hasRequestBody ? received.body : undefined, expectsContinue, carriage.replayBytes, {
    moved(bytes) {
      exchange.requestBytes += bytes;
      exchange.progressAtMs = performance.now();
    },
    complete() {
      exchange.requestComplete = true;
    },
    sendContinue() {
      if (version !== "1.0" && !answer.begun && !answer.gone) answer.sendContinue();
    },
  });
  let failure: HoldfastError | undefined;
  let upgraded = false;
  /** Whether the peer can tell a response that was cut from a whole one. */
  let delimited = true;
  let finished = false;
  /** Size of the 1xx heads so far. */
  let interimBytes = 0;

  answer.onOver((whole) => {
    if (upgraded || finished) return;
    if (!whole) {
      const what = version === "2" ? "stream was reset" : "connection closed";
      failure ??= new HoldfastError("HF_DOWNSTREAM_ABORTED", `the downstream ${what} before the end`);
      answer.breakOff(undefined, true);
    }
    finish();
  });
  // node:http reports a request that was cut as an error of the request; the end of the answer follows.
  received.request.on("error", () => {});

  exchange.steps = {
    admitted(_exchange, error, reply) {
      if (finished) return;
      if (error !== undefined) fail(error);
      else if (reply !== undefined) guarded(() => sendLocal(exchange.respondWithReply(reply)));
      else exchange.attempt(exchange.kind === "upgrade");
    },
    gather() {
      body.gather((bytes) => {
        if (finished || failure !== undefined) return;
        if (bytes === undefined) fail(lengthRequired(exchange));
        else guarded(() => exchange.gathered(bytes));
      });
    },
    connected(_exchange, error, upstream) {
      if (error !== undefined) fail(error);
      else if (finished || upstream === undefined) exchange.releaseUpstream(true);
      else send(upstream);
    },
    abort: (_exchange, error) => fail(error),
    backlog: () => answer.backlog,
  };
  exchange.admit();

  function send(upstream: ProxyConnection): void {
    const writtenBefore = upstream.bytesWritten;
    const readBefore = upstream.bytesRead;
    let incomingAnswer: http.IncomingMessage | undefined;
    carriage.carrier.send({
      request: received.request,
      response: answer.response,
      connection: upstream,
      target: exchange.request.target,
      fields: exchange.upstreamFields(),
      body,
      events: {
        response(incoming) {
          incomingAnswer = incoming;
          incoming.on("error", () => truncated());
          // Not before node's parser is through with what has arrived: what it finds wrong there can still be a 502.
          process.nextTick(() => guarded(() => respond(incoming)));
        },
        information: (status, fields) => guarded(() => inform(status, fields)),
        upgraded: (incoming, first) => guarded(() => switchProtocols(incoming, first)),
        failed(cause) {
          // Of an attempt that was given up, or of an exchange that is answered already.
          if (exchange.upstream !== upstream || finished || failure !== undefined || upgraded) return;
          // What is wrong came after the response: that concerns the connection, not the exchange.
          if (incomingAnswer?.complete) return;
          if (incomingAnswer !== undefined && isClosedByPeer(cause)) return truncated();
          const requestBytes = upstream.bytesWritten - writtenBefore;
          const error = upstreamError(exchange, cause, requestBytes);
          const retried = exchange.retryAfter(error, {
            closedByPeer: isClosedByPeer(cause),
            requestBytes,
            responseBytes: upstream.bytesRead - readBefore,
            bodyIsReplayable: body.replayable,
          });
          exchange.releaseUpstream(false, closeReasonOf(error));
          if (retried) {
            body.hold();
            exchange.attempt(true);
          } else fail(error);
        },
        released(clean) {
          if (exchange.upstream !== upstream || upgraded) return;
          // Whoever closed it said why; otherwise it is because of what came after the response.
          exchange.releaseUpstream(clean, "protocol_error");
        },
      },
    });
  }

  /** Relays a response of the upstream. */
  function respond(incoming: http.IncomingMessage): void {
    if (finished || failure !== undefined) {
      incoming.destroy();
      return;
    }
    const status = incoming.statusCode!;
    const { fields } = exchange.generation.limits;
    if (incoming.rawHeaders.length / 2 > fields) {
      throw new HoldfastError("HF_UPSTREAM_HEAD_TOO_LARGE", `more response fields than limits.fields (${fields})`);
    }
    const ends = checkResponseHead(method, status, incoming.rawHeaders, incoming.httpVersion);
    if (!body.begun) answer.abandonRequest();
    delimited = ends === "none" || ends === "length" || version !== "1.0";
    const { end: headers, hop } = splitHopByHop(incoming.rawHeaders);
    // RFC 9110 §8.6: none may be said.
    if (status === 204) headers.remove("content-length");
    const head = {
      status,
      reason: incoming.statusMessage ?? "",
      version: incoming.httpVersion === "1.0" ? "1.0" : "1.1",
      headers,
    } as const;
    const closes = exchange.respond(head, hop, delimited);
    const mayHaveTrailers = ends === "chunked" && version !== "1.0";
    if (hop.trailer.length > 0 && mayHaveTrailers) headers.flat.push("Trailer", hop.trailer.join(", "));
    writeHead(head, closes, mayHaveTrailers);
    exchange.progressAtMs = performance.now();

    incoming.on("data", (chunk: Buffer) => {
      exchange.responseBytes += chunk.length;
      exchange.progressAtMs = performance.now();
      if (!answer.write(chunk)) incoming.pause();
    });
    answer.onDrain(() => {
      exchange.progressAtMs = performance.now();
      incoming.resume();
    });
    incoming.on("end", () => {
      if (!body.sent) abandonUpload();
      answer.end(undefined, mayHaveTrailers ? allowedTrailers(incoming.rawTrailers) : []);
    });
    // A head whose body takes its time is not held back; with a body at hand both go as one.
    process.nextTick(() => {
      if (exchange.responseBytes === 0 && !incoming.complete && failure === undefined && !finished) answer.flushHead();
    });
  }

  /** The response is complete and the request is not: what is left of it is not worth carrying (RFC 9112 §9.5). */
  function abandonUpload(): void {
    body.stop();
    exchange.releaseUpstream(false);
    answer.abandonRequest();
  }

  function truncated(): void {
    if (finished) return;
    // No last chunk and no further byte: the peer must see that the response is not whole (RFC 9112 §8).
    failure ??= new HoldfastError(
      "HF_UPSTREAM_INCOMPLETE",
      `${exchange.route!.name} closed in the middle of a response`,
    );
    exchange.releaseUpstream(false, closeReasonOf(failure));
    answer.breakOff(failure, delimited);
  }

  function inform(status: number, fields: string[]): void {
    if (finished || failure !== undefined) return;
    interimBytes += LINE_OVERHEAD_BYTES;
    for (const text of fields) interimBytes += text.length + 2;
    const { headBytes } = carriage.carrier;
    if (interimBytes > headBytes * INTERIM_ROOM) {
      const what = `interim responses are together larger than ${INTERIM_ROOM} times limits.head (${headBytes} bytes)`;
      fail(new HoldfastError("HF_UPSTREAM_HEAD_TOO_LARGE", what));
      return;
    }
    exchange.progressAtMs = performance.now();
    if (version === "1.0" || answer.begun || answer.gone || status === 101) return;
    // The peer's own 100 is written when its body may come; see RequestBody.
    if (status === 100 && expectsContinue) return;
    const { end: headers } = splitHopByHop(fields);
    // It has no body, so nothing in it may tell of one (RFC 9110 §8.6).
    headers.remove("content-length");
    answer.inform(status, headers.flat);
  }

  /** 101: bytes both ways from here on. */
  function switchProtocols(incoming: http.IncomingMessage, first: Buffer): void {
    const { upgrade } = carriage;
    if (upgrade === undefined || exchange.kind !== "upgrade" || finished) {
      fail(new HoldfastError("HF_UPSTREAM_BAD_RESPONSE", `${exchange.route!.name} switched protocols unasked`));
      return;
    }
    const { end: headers, hop } = splitHopByHop(incoming.rawHeaders);
    const head = { status: 101, reason: incoming.statusMessage ?? "", version: "1.1", headers } as const;
    exchange.respond(head, hop, true);
    upgraded = true;
    const protocol = incoming.headers.upgrade ?? exchange.request.hop.upgrade!;
    upgrade.detach();
    upgrade.socket.write(switchingHead(head, protocol), "latin1");
    runTunnel(exchange, upgrade.early.take(), first, finish, protocol.toLowerCase() === "websocket");
  }

  function sendLocal(local: LocalResponse): void {
    body.stop();
    writeHead(local.head, local.closes, false);
    if (hasBody(method, local.head.status)) exchange.responseBytes += Buffer.byteLength(local.body);
    answer.end(local.body);
  }

  /** Ends the exchange with an error: as a response if none has begun, else by cutting the connection. */
  function fail(error: HoldfastError): void {
    if (finished || failure !== undefined) return;
    failure = error;
    body.stop();
    exchange.releaseUpstream(false, closeReasonOf(error));
    if (answer.begun || answer.gone) {
      answer.breakOff(error, delimited);
      return;
    }
    try {
      sendLocal(exchange.respondWithError(error));
    } catch {
      // A plugin with onError "fail" failed on the error's own response: nothing sensible is left to say.
      answer.breakOff(error, true);
    }
  }

  function guarded(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      fail(asHoldfastError(thrown));
    }
  }

  function writeHead(head: LocalResponse["head"], closes: boolean, mayHaveTrailers: boolean): void {
    exchange.addDownstreamFields(head.headers, head.version, closes);
    answer.writeHead(head, mayHaveTrailers);
  }

  function finish(): void {
    if (finished) return;
    finished = true;
    if (!upgraded && !exchange.requestComplete) body.stop();
    exchange.end(failure);
    over();
  }
}

function switchingHead(head: LocalResponse["head"], protocol: string): string {
  const lines = [`HTTP/1.1 101 ${head.reason === "" ? "Switching Protocols" : head.reason}`];
  for (const [name, value] of head.headers) lines.push(`${name}: ${value}`);
  lines.push("Connection: Upgrade", `Upgrade: ${protocol}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}

function isClosedByPeer(error: NodeJS.ErrnoException): boolean {
  return error.code === "ECONNRESET" || error.code === "EPIPE";
}

function upstreamError(exchange: ProxyExchange, cause: NodeJS.ErrnoException, requestBytes: number): HoldfastError {
  const name = exchange.route?.name ?? "the upstream";
  const code = cause.code ?? "";
  if (code === "HPE_HEADER_OVERFLOW") {
    return new HoldfastError("HF_UPSTREAM_HEAD_TOO_LARGE", `response head of ${name} is larger than limits.head`, {
      cause,
    });
  }
  if (code.startsWith("HPE_")) {
    return new HoldfastError("HF_UPSTREAM_BAD_RESPONSE", `${name} sent what is not HTTP/1.1 (${code})`, { cause });
  }
  return upstreamClosedError(exchange, cause, false, requestBytes);
}
