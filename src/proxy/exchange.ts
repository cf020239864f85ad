/**
 * One exchange from its request head to its end, the same for every forwarder: admit (filters, route), attempt
 * (pool), response head, end. A forwarder moves the bytes.
 *
 * @module
 */

import { asHoldfastError, errorResponse, HoldfastError } from "../errors.ts";
import { http } from "../node-http.ts";
import type {
  CloseReason,
  Direction,
  Exchange,
  HeaderField,
  Outcome,
  Reply,
  ResponseHead,
  Route,
  StaleResult,
  TraceContext,
} from "../plugin/api.ts";
import { type ExchangeRun, NO_EXCHANGE_HOOKS } from "../plugin/exchange-run.ts";
import { lastClock, readClock } from "./clock.ts";
import type { SocketReader } from "./connect.ts";
import type { ProxyConnection } from "./connection.ts";
import { authenticatesConnection, challengesConnection } from "./connection-authentication.ts";
import { addDownstreamFields, addVia, dropUntrusted, upstreamFields } from "./forwarding.ts";
import type { Generation } from "./generation.ts";
import { FieldList, type HopFields, listElements } from "./headers.ts";
import { announcedClose, raced } from "./observe.ts";
import type { Asker, OriginPool, Ticket } from "./pool.ts";
import type { Pools } from "./pools.ts";
import type { CheckedHead } from "./request-rules.ts";
import { isRepeatable, judgeFailedAttempt } from "./retry.ts";
import type { RunningExchanges } from "./running-exchanges.ts";

/** Asked for once: telemetry wants times of day several times per exchange, and this is a getter on a getter. */
const TIME_ORIGIN_EPOCH_MS = performance.timeOrigin;

let lastId = 0;

/** What every exchange of a direction shares. */
export interface ExchangeSurroundings {
  readonly name: Direction;
  readonly service: string;
  /** What holds for an exchange, or a connection, that begins now; a reload puts another here. */
  readonly generation: Generation;
  readonly pools: Pools;
  readonly exchanges: RunningExchanges;
  /** Something that is not a request was refused before it became an exchange. */
  onRefused(connection: ProxyConnection, failure: HoldfastError): void;
  /** Whether responses must say `Connection: close`, because this process is going away. */
  readonly draining: boolean;
}

/** What a forwarder does in the steps of an exchange. */
export interface Steps {
  /** Filters and route are done: answer with the error or the reply, or, with neither, begin an attempt. */
  admitted(exchange: ProxyExchange, error: HoldfastError | undefined, reply: Reply | undefined): void;
  /**
   * The origin takes no chunked body: read all of it, then call {@link ProxyExchange.gathered}; where it is longer than
   * `limits.replay`, fail with {@link lengthRequired}. `undefined`: there is never a body.
   */
  readonly gather?: (exchange: ProxyExchange) => void;
  /** The attempt has its connection, or there is none to be had. */
  connected(exchange: ProxyExchange, error: HoldfastError | undefined, upstream: ProxyConnection | undefined): void;
  /** Makes what reads a fresh upstream connection; `undefined`: it is read as a stream. */
  readonly makeReader?: () => SocketReader;
  /** Response bytes that the peer has not taken. Default: what waits in its socket. */
  readonly backlog?: () => number;
  /** Stop now, with this error: as a response if none has begun, else by cutting the connection. */
  abort(exchange: ProxyExchange, error: HoldfastError): void;
  /** This process goes away: what can be told so in the middle is told so. May be called again. */
  readonly goAway?: () => void;
}

const NO_STEPS: Steps = { admitted() {}, connected() {}, abort() {} };

/** What a chunked body fails with that is too long to be made one with a length. */
export function lengthRequired(exchange: ProxyExchange): HoldfastError {
  const { name } = exchange.route!;
  const { replayBytes } = exchange.generation.limits;
  return new HoldfastError(
    "HF_LENGTH_REQUIRED",
    `${name} speaks HTTP/1.0, which has no chunked bodies, and this one is longer than limits.replay (${replayBytes} bytes)`,
  );
}

/** A response that Holdfast writes itself: a plugin's reply or a failure. */
export interface LocalResponse {
  readonly head: ResponseHead & { readonly headers: FieldList };
  readonly body: string | Uint8Array;
  /** Whether the downstream connection closes after it. */
  readonly closes: boolean;
}

/** How far an attempt had come when it failed. */
export interface AttemptProgress {
  /** It failed by FIN, RST or EPIPE. */
  readonly closedByPeer: boolean;
  /** Request bytes given to the socket. */
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly bodyIsReplayable: boolean;
}

/** An exchange as core sees it; plugins see the `Exchange` part. */
export class ProxyExchange implements Exchange, Asker {
  readonly id: number = ++lastId;
  readonly direction: Direction;
  readonly kind: "http" | "tunnel" | "upgrade";
  readonly downstream: ProxyConnection;
  readonly downstreamIndex: number;
  readonly downstreamIdleMs: number;
  readonly request: CheckedHead;
  /** The configuration that holds for it, from its beginning to its end. */
  readonly generation: Generation;
  readonly startedAtMs: number;
  route: Route | undefined;
  upstream: ProxyConnection | undefined;
  upstreamIndex = 0;
  upstreamIdleMs = 0;
  queuedMs = 0;
  attempts = 0;
  status: number | undefined;
  trace: TraceContext | undefined;

  requestBytes = 0;
  responseBytes = 0;
  stale: StaleResult | undefined;
  /** Whether the whole request was received from downstream. */
  requestComplete = false;
  /** `performance.now()` of the last byte that moved. */
  progressAtMs: number;
  /** Set when we cut its connections ourselves: the forwarder only sees them close. */
  cutBecause: HoldfastError | undefined;
  /** Whether the current attempt must have a connection that was never used. */
  fresh = false;

  /** Neighbours in {@link RunningExchanges}. */
  previousRunning: ProxyExchange | undefined;
  nextRunning: ProxyExchange | undefined;

  /** What the forwarder does; set by it before {@link admit}. */
  steps: Steps = NO_STEPS;

  readonly #around: ExchangeSurroundings;
  #run: ExchangeRun = NO_EXCHANGE_HOOKS;
  #ticket: Ticket | undefined;
  /** Where the connection of the current attempt comes from. */
  #pool: OriginPool | undefined;
  #answeredBy: Outcome["answeredBy"] = "none";
  #ended = false;
  /** Whether {@link upstream} carries this exchange: once released, it may carry another. */
  #holdsUpstream = false;
  #attemptStartedAtMs = 0;
  #clientAddress: string | undefined;

  constructor(
    around: ExchangeSurroundings,
    downstream: ProxyConnection,
    request: CheckedHead,
    kind: "http" | "tunnel" | "upgrade",
  ) {
    this.#around = around;
    this.generation = around.generation;
    this.direction = around.name;
    this.downstream = downstream;
    this.startedAtMs = downstream.readsClock ? lastClock() : readClock();
    this.progressAtMs = this.startedAtMs;
    const wasIdle = downstream.exchanges > 0 && downstream.activeExchanges === 0;
    this.downstreamIdleMs = wasIdle ? this.startedAtMs - downstream.idleSinceMs : 0;
    this.downstreamIndex = downstream.exchanges + 1;
    this.request = request;
    this.kind = kind;
    if (request.hop.hint !== undefined) downstream.hint = request.hop.hint;
    around.exchanges.add(this);
    downstream.begin(this);
  }

  get startedAtEpochMs(): number {
    return TIME_ORIGIN_EPOCH_MS + this.startedAtMs;
  }

  get attemptStartedAtEpochMs(): number {
    return TIME_ORIGIN_EPOCH_MS + this.#attemptStartedAtMs;
  }

  get elapsedMs(): number {
    return performance.now() - this.startedAtMs;
  }

  get clientAddress(): string {
    const { remoteAddress } = this.downstream;
    const { trusted } = this.generation.forwarding;
    if (trusted === undefined || this.request.plain) return remoteAddress;
    // Plugins may write the field; what it said when it was first asked for stays.
    this.#clientAddress ??= trusted.clientOf(remoteAddress, this.request.headers.getAll("x-forwarded-for"));
    return this.#clientAddress;
  }

  /** Whether it is over. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Runs the filters and finds the route; {@link Steps.admitted} follows, at once unless a plugin takes its time. */
  admit(): void {
    let pending: Reply | undefined | Promise<Reply | undefined>;
    try {
      dropUntrusted(this.request, this.downstream, this.generation.forwarding);
      this.#run = this.generation.chain.exchange(this);
      const pluginFailure = this.downstream.pluginFailure ?? this.#run.failure;
      if (pluginFailure !== undefined) throw pluginFailure;
      this.#refuseLoop();
      this.route = this.generation.router.route(this.request);
      pending = this.#run.request(this.request);
    } catch (error) {
      this.steps.admitted(this, asHoldfastError(error), undefined);
      return;
    }
    if (!(pending instanceof Promise)) {
      this.steps.admitted(this, undefined, pending);
      return;
    }
    pending.then(
      (reply) => {
        readClock();
        if (!this.#ended) this.steps.admitted(this, undefined, reply);
      },
      (error: unknown) => {
        if (!this.#ended) this.steps.admitted(this, asHoldfastError(error), undefined);
      },
    );
  }

  /**
   * Begins an attempt: asks for a connection; {@link Steps.connected} follows, at once if there is an idle one.
   *
   * @param fresh - only one that was never used
   */
  attempt(fresh: boolean): void {
    this.fresh = fresh;
    let pool: OriginPool;
    try {
      pool = this.#around.pools.of(this.route!);
    } catch (thrown) {
      this.#beginAttempt();
      this.notAcquired(asHoldfastError(thrown));
      return;
    }
    if (pool.speaksHttp10 && this.request.framing.kind === "chunked" && this.steps.gather !== undefined) {
      this.steps.gather(this);
      return;
    }
    this.#beginAttempt();
    this.#pool = pool;
    this.#ticket = pool.acquire(this);
  }

  #beginAttempt(): void {
    this.attempts++;
    this.#attemptStartedAtMs = lastClock();
  }

  /**
   * All of the body is there, without its chunks: begins the attempt that waited for it.
   *
   * @param bytes - how long it is
   */
  gathered(bytes: number): void {
    const { request } = this;
    request.framing = { kind: "length", bytes };
    request.headers.write("Content-Length", String(bytes));
    // Nobody waits to be told to send it any more, and HTTP/1.0 does not know of it.
    request.headers.remove("expect");
    this.attempt(this.fresh);
  }

  /** For the pool: on whose behalf a connection is asked for. */
  get owner(): ProxyConnection {
    return this.downstream;
  }

  get first(): boolean {
    return this.downstreamIndex === 1;
  }

  get makeReader(): (() => SocketReader) | undefined {
    return this.steps.makeReader;
  }

  get tunnel(): boolean {
    return this.kind === "tunnel";
  }

  get repeatable(): boolean {
    const { method, headers, framing } = this.request;
    if (
      framing.kind === "chunked" ||
      (framing.kind === "length" && framing.bytes > this.generation.limits.replayBytes)
    ) {
      return false;
    }
    // Asked for every exchange: most need no look at their fields.
    return isRepeatable(method, false) || isRepeatable(method, headers.has("idempotency-key"));
  }

  /** From the pool. */
  acquired(connection: ProxyConnection, idleMs: number, queuedMs: number): void {
    this.#ticket = undefined;
    // Filters must have been shown a connection that their exchange uses, and a reload may have come between.
    connection.join(this.generation.chain);
    this.upstream = connection;
    this.upstreamIdleMs = idleMs;
    this.queuedMs = queuedMs;
    this.#holdsUpstream = true;
    connection.begin(this);
    this.upstreamIndex = connection.exchanges;
    this.progressAtMs = lastClock();
    if (connection.pluginFailure !== undefined) {
      // What failed on it would fail the next exchange too.
      this.releaseUpstream(false);
      this.steps.connected(this, connection.pluginFailure, undefined);
      return;
    }
    try {
      this.#run.upstreamConnected(connection);
    } catch (thrown) {
      this.releaseUpstream(true);
      this.steps.connected(this, asHoldfastError(thrown), undefined);
      return;
    }
    if (!this.tunnel && authenticatesConnection(this.request.headers)) this.#bindUpstream(connection);
    // This may be its last request: the head must say so.
    const reason = connection.reasonToClose();
    if (reason !== undefined) connection.drain(reason);
    this.steps.connected(this, undefined, connection);
  }

  /** From the pool. */
  notAcquired(error: HoldfastError): void {
    this.#ticket = undefined;
    this.steps.connected(this, error, undefined);
  }

  /** Field lines of the request for the current attempt. */
  upstreamFields(): string[] {
    const upgrade = this.kind === "upgrade" ? this.request.hop.upgrade : undefined;
    return upstreamFields(this.request, this.downstream, this.upstream!, this.generation.forwarding, upgrade);
  }

  /**
   * Decides whether a failed attempt is followed by another, and counts it.
   *
   * @returns true: call {@link attempt} again, with `fresh`
   */
  retryAfter(error: HoldfastError, progress: AttemptProgress): boolean {
    if (this.upstream === undefined || this.#ended) return false;
    const verdict = judgeFailedAttempt({
      ...progress,
      reused: this.upstreamIndex > 1,
      method: this.request.method,
      hasIdempotencyKey: this.request.headers.has("idempotency-key"),
      attempts: this.attempts,
    });
    if (verdict === undefined) return false;
    this.stale = verdict;
    raced(this.upstream, this.upstreamIdleMs, performance.now() - this.#attemptStartedAtMs);
    if (verdict === "refused") return false;
    this.#run.retry(error);
    return true;
  }

  /**
   * The final response head came from the upstream: runs the filters and decides whether the downstream connection
   * closes after it. The fields of this hop are the forwarder's to write.
   *
   * @param hop - what the upstream said for this hop
   * @param delimited - whether its end can be told without closing the downstream connection
   * @returns whether the downstream connection closes after it
   * @throws HoldfastError when a plugin with `onError: "fail"` failed
   */
  respond(head: ResponseHead, hop: HopFields, delimited: boolean): boolean {
    const upstream = this.upstream!;
    if (hop.hint !== undefined) upstream.hint = hop.hint;
    const isOld = head.version === "1.0";
    if (this.#pool!.speaksHttp10 !== isOld) this.#pool!.speaksHttp10 = isOld;
    if (this.upstreamIndex > 1) upstream.peer?.survived(this.upstreamIdleMs, lastClock());
    if (hop.close || (isOld && !hop.keepAlive)) {
      if (upstream.closeReason === undefined) announcedClose(upstream);
      upstream.peerCloses();
    }
    if (challengesConnection(head.status, head.headers)) this.#bindUpstream(upstream);
    this.#answeredBy = "upstream";
    this.#run.response(head);
    this.status = head.status;
    return this.#closesAfter(delimited);
  }

  /** Turns a plugin's reply into a response. */
  respondWithReply(reply: Reply): LocalResponse {
    this.#answeredBy = "plugin";
    return this.#local(reply.status, reply.headers ?? [], reply.body ?? "");
  }

  /** Turns a failure into a response. The connection closes after it if the failure makes it doubtful. */
  respondWithError(error: HoldfastError): LocalResponse {
    this.#answeredBy = "holdfast";
    const { status, fields, body } = errorResponse(error, this.#around.service);
    // HTTP/2 has frames: nothing that is wrong with one request makes the next one doubtful.
    if (this.request.version !== "2" && this.#leavesDoubt(error)) {
      this.downstream.drain(error.code === "HF_REQUEST_TIMEOUT" ? "request_timeout" : "protocol_error");
    }
    return this.#local(status, fields, body);
  }

  /** Adds the fields of this hop to a response that goes downstream. */
  addDownstreamFields(headers: FieldList, version: "1.0" | "1.1", closes: boolean): void {
    const { via } = this.generation.forwarding;
    if (via !== undefined && this.#answeredBy === "upstream") addVia(headers, version, via);
    addDownstreamFields(headers.flat, this.downstream, closes);
  }

  /** A tunnel was opened: there is no response head of the usual kind. */
  answered(by: Outcome["answeredBy"]): void {
    this.#answeredBy = by;
  }

  /**
   * The upstream connection carries nothing of this exchange any more. Later calls do nothing until the next attempt.
   *
   * @param reusable - whether it may carry another; otherwise it is cut
   * @param reason - why it is cut
   */
  releaseUpstream(reusable: boolean, reason: CloseReason = "aborted"): void {
    if (!this.#holdsUpstream) return;
    this.#holdsUpstream = false;
    const upstream = this.upstream!;
    if (!reusable) upstream.cut(reason);
    upstream.finish();
  }

  /** Over. Runs once; later calls do nothing. */
  end(failure: HoldfastError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    const error = this.cutBecause ?? failure;
    this.#ticket?.cancel();
    // What a failed exchange left on its upstream connection is nobody's.
    if (error !== undefined) this.releaseUpstream(false, closeReasonOf(error));
    this.#around.exchanges.delete(this);
    this.#run.end({
      status: this.status,
      answeredBy: this.#answeredBy,
      error,
      durationMs: (this.upstream?.readsClock ? lastClock() : readClock()) - this.startedAtMs,
      requestBytes: this.requestBytes,
      responseBytes: this.responseBytes,
      stale: this.stale,
    });
    this.downstream.finish();
  }

  /** Looks at the time limits of this exchange. */
  sweep(nowMs: number): void {
    if (!this.requestComplete && nowMs - this.startedAtMs >= this.downstream.requestTimeouts.requestMs) {
      this.steps.abort(
        this,
        new HoldfastError(
          "HF_REQUEST_TIMEOUT",
          `the request body was not complete within ${this.downstream.requestTimeouts.requestMs} ms`,
        ),
      );
      return;
    }
    const isTunnel = this.downstream.protocol === "tunnel";
    const limitMs = isTunnel ? this.generation.tunnelIdleTimeoutMs : this.generation.responseTimeoutMs;
    const { upstream } = this;
    if (upstream === undefined || nowMs - this.progressAtMs < limitMs) return;
    const backlog = this.steps.backlog?.() ?? this.downstream.socket.writableLength;
    if (!isTunnel && backlog > 0) {
      this.steps.abort(
        this,
        new HoldfastError("HF_DOWNSTREAM_ABORTED", `the peer took nothing of the response for ${limitMs} ms`),
      );
    } else if (this.requestComplete || upstream.socket.writableLength > 0) {
      this.steps.abort(
        this,
        new HoldfastError("HF_UPSTREAM_TIMEOUT", `${this.route!.name} neither took nor sent a byte for ${limitMs} ms`),
      );
    }
  }

  /** It is authenticated, or about to be: nobody else may use it. */
  #bindUpstream(connection: ProxyConnection): void {
    this.#pool!.bind(connection, this.downstream);
  }

  #local(status: number, fields: readonly HeaderField[], body: string | Uint8Array): LocalResponse {
    // A peer that waits for 100 may send its body after all, or not: what follows cannot be told apart (RFC 9110 §10.1.1).
    if (this.request.expectsContinue && !this.requestComplete && this.requestBytes === 0) {
      this.downstream.drain("aborted");
    }
    const headers = new FieldList(fields.flat());
    if (status !== 204 && status !== 304) headers.write("Content-Length", String(byteLength(body)));
    headers.write("Date", new Date().toUTCString());
    const head = { status, reason: http.STATUS_CODES[status] ?? "", version: "1.1" as const, headers };
    this.#run.response(head, this.#answeredBy === "holdfast");
    this.status = status;
    return { head, body, closes: this.#closesAfter(true) };
  }

  /** Whether the downstream connection closes after this response; says so to the connection too. */
  #closesAfter(delimited: boolean): boolean {
    const { downstream, request } = this;
    if (request.hop.close || (request.version === "1.0" && !request.hop.keepAlive)) downstream.peerCloses();
    else if (!delimited) downstream.drain("max_requests");
    else if (this.#around.draining) downstream.drain("drain");
    const reason = downstream.reasonToClose();
    if (reason === undefined) return false;
    downstream.drain(reason);
    return true;
  }

  /** Whether what follows on the downstream connection cannot be trusted, or is not worth reading. */
  #leavesDoubt(error: HoldfastError): boolean {
    switch (error.code) {
      case "HF_NO_ROUTE":
      case "HF_METHOD_NOT_ALLOWED":
      case "HF_EXPECTATION_FAILED":
      case "HF_LOOP":
        return false;
      default:
        return error.source === "downstream" || (!this.requestComplete && this.request.framing.kind !== "none");
    }
  }

  /** Our own element in `Via` means that the request came back to where it was. */
  #refuseLoop(): void {
    const { via } = this.generation.forwarding;
    if (via === undefined) return;
    for (const value of this.request.headers.getAll("via")) {
      if (listElements(value).some((element) => element.split(" ")[1] === via)) {
        throw new HoldfastError(
          "HF_LOOP",
          "the request came back to this sidecar; check outbound.routes and unmatched",
        );
      }
    }
  }
}

/** Why a connection that a failed exchange leaves behind is closed. What its socket said already goes first. */
export function closeReasonOf(error: HoldfastError): CloseReason {
  switch (error.code) {
    case "HF_UPSTREAM_BAD_RESPONSE":
    case "HF_UPSTREAM_HEAD_TOO_LARGE":
      return "protocol_error";
    case "HF_UPSTREAM_CLOSED":
    case "HF_UPSTREAM_INCOMPLETE":
      return "peer_closed";
    case "HF_UPSTREAM_TIMEOUT":
    case "HF_REQUEST_TIMEOUT":
      return "request_timeout";
    default:
      return "aborted";
  }
}

function byteLength(body: string | Uint8Array): number {
  return typeof body === "string" ? Buffer.byteLength(body) : body.byteLength;
}

/**
 * What an upstream connection that closed or broke in an exchange means. Names the origin, how long the connection had
 * been idle and what was sent on it: all that is needed to recognise a race.
 *
 * @param cause - error of the socket; `undefined` when the upstream ended its side
 * @param begun - whether the response had begun
 * @param requestBytes - bytes of the request given to the socket
 */
export function upstreamClosedError(
  exchange: ProxyExchange,
  cause: Error | undefined,
  begun: boolean,
  requestBytes: number,
): HoldfastError {
  const name = exchange.route?.name ?? "the upstream";
  if (begun) {
    return new HoldfastError("HF_UPSTREAM_INCOMPLETE", `${name} closed in the middle of a response`, { cause });
  }
  const idle = exchange.upstreamIndex > 1 ? ` after ${Math.round(exchange.upstreamIdleMs)} ms idle` : "";
  const how = (cause as NodeJS.ErrnoException | undefined)?.code ?? "FIN";
  const what = `${name} closed the connection before a response${idle}, with ${requestBytes} bytes of the request sent`;
  return new HoldfastError("HF_UPSTREAM_CLOSED", `${what} (${how})`, { cause });
}
