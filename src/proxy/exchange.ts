/**
 * One exchange from its request head to its end, the same for every forwarder: admit (filters, route), attempt
 * (pool), response head, end. A forwarder moves the bytes.
 *
 * @module
 */
import type { Limits } from "../config/sidecar-config.ts";
import { asHoldfastError, errorResponse, HoldfastError } from "../errors.ts";
import type {
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
import { type Chain, ExchangeRun } from "../plugin/chain.ts";
import type { ProxyConnection } from "./connection.ts";
import { addDownstreamFields, addVia, type ForwardingFields, upstreamFields } from "./forwarding.ts";
import { FieldList, listElements, splitHopByHop } from "./headers.ts";
import type { Ticket } from "./pool.ts";
import type { Pools } from "./pools.ts";
import type { CheckedHead } from "./request-rules.ts";
import { judgeFailedAttempt } from "./retry.ts";
import type { Router } from "./route.ts";

let lastId = 0;

/** What every exchange of a direction shares. */
export interface ExchangeSurroundings {
  readonly name: Direction;
  readonly service: string;
  readonly chain: Chain;
  readonly router: Router;
  readonly pools: Pools;
  readonly limits: Limits;
  readonly forwarding: ForwardingFields;
  readonly exchanges: Set<ProxyExchange>;
  readonly responseTimeoutMs: number;
  readonly tunnelIdleTimeoutMs: number;
  /** Something that is not a request was refused before it became an exchange. */
  onRefused(connection: ProxyConnection, failure: HoldfastError): void;
  /** Whether responses must say `Connection: close`, because this process is going away. */
  readonly draining: boolean;
}

/** A final response head on its way downstream. */
export interface OutgoingHead extends ResponseHead {
  readonly headers: FieldList;
  /** Whether the downstream connection closes after it. */
  readonly closes: boolean;
  /** Names that `Trailer` announced upstream. */
  readonly trailer: readonly string[];
}

/** A final response head as it came from the upstream. */
export interface IncomingResponse {
  readonly status: number;
  readonly reason: string;
  readonly version: "1.0" | "1.1";
  /** Names and values in turn, as received. */
  readonly fields: readonly string[];
}

/** An exchange as core sees it; plugins see the `Exchange` part. */
export class ProxyExchange implements Exchange {
  readonly id: number = ++lastId;
  readonly direction: Direction;
  readonly kind: "http" | "tunnel" | "upgrade";
  readonly downstream: ProxyConnection;
  readonly downstreamIndex: number;
  readonly downstreamIdleMs: number;
  readonly request: CheckedHead;
  readonly startedAtMs: number = performance.now();
  route: Route | undefined;
  upstream: ProxyConnection | undefined;
  upstreamIndex = 0;
  upstreamIdleMs = 0;
  queuedMs = 0;
  attempts = 0;
  attemptStartedAtEpochMs = 0;
  status: number | undefined;
  trace: TraceContext | undefined;

  requestBytes = 0;
  responseBytes = 0;
  stale: StaleResult | undefined;
  /** Whether the whole request was received from downstream. */
  requestComplete = false;
  /** `performance.now()` of the last byte that moved. */
  progressAtMs: number = this.startedAtMs;
  /** Set by the forwarder: stop now, with this error. */
  abort: (error: HoldfastError) => void = () => {};

  readonly #around: ExchangeSurroundings;
  #run: ExchangeRun = new ExchangeRun(undefined, undefined);
  #ticket: Ticket | undefined;
  #answeredBy: Outcome["answeredBy"] = "none";
  #ended = false;
  #upstreamBytesRead = 0;
  #upstreamBytesWritten = 0;

  constructor(
    around: ExchangeSurroundings,
    downstream: ProxyConnection,
    request: CheckedHead,
    kind: "http" | "tunnel" | "upgrade",
  ) {
    this.#around = around;
    this.direction = around.name;
    this.downstream = downstream;
    this.downstreamIdleMs = downstream.exchanges === 0 ? 0 : downstream.idleMs;
    this.downstreamIndex = downstream.exchanges + 1;
    this.request = request;
    this.kind = kind;
    if (request.hop.hint !== undefined) downstream.hint = request.hop.hint;
    around.exchanges.add(this);
    downstream.begin(this);
  }

  get startedAtEpochMs(): number {
    return performance.timeOrigin + this.startedAtMs;
  }

  get elapsedMs(): number {
    return performance.now() - this.startedAtMs;
  }

  /** Whether it is over. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether any byte of a response came on the current upstream connection. */
  get upstreamAnswered(): boolean {
    return this.upstream !== undefined && this.upstream.bytesRead > this.#upstreamBytesRead;
  }

  /**
   * Filters and route.
   *
   * @param done - called once: with an error, with a plugin's reply, or with neither: go on
   */
  admit(done: (error: HoldfastError | undefined, reply: Reply | undefined) => void): void {
    let pending: Reply | undefined | Promise<Reply | undefined>;
    try {
      this.#run = this.#around.chain.exchange(this);
      if (this.#run.openingFailure !== undefined) throw this.#run.openingFailure;
      const { failedBy } = this.downstream;
      if (failedBy !== undefined)
        throw new HoldfastError("HF_PLUGIN_FAILED", `plugin ${failedBy} failed in connection`);
      this.#refuseLoop();
      this.route = this.#around.router.route(this.request);
      pending = this.#run.request(this.request);
    } catch (error) {
      done(asHoldfastError(error), undefined);
      return;
    }
    if (!(pending instanceof Promise)) {
      done(undefined, pending);
      return;
    }
    pending.then(
      (reply) => {
        if (!this.#ended) done(undefined, reply);
      },
      (error: unknown) => {
        if (!this.#ended) done(asHoldfastError(error), undefined);
      },
    );
  }

  /**
   * Takes a connection for one attempt.
   *
   * @param fresh - only one that was never used
   * @param done - called once, unless the exchange ends before
   */
  attempt(
    fresh: boolean,
    done: (error: HoldfastError | undefined, upstream: ProxyConnection | undefined) => void,
  ): void {
    this.attempts++;
    this.attemptStartedAtEpochMs = performance.timeOrigin + performance.now();
    const pool = this.#around.pools.of(this.route!);
    const asker = { owner: this.downstream, first: this.downstreamIndex === 1, fresh, tunnel: this.kind === "tunnel" };
    this.#ticket = pool.acquire(asker, (error, acquired) => {
      this.#ticket = undefined;
      if (acquired === undefined) {
        done(error, undefined);
        return;
      }
      const { connection } = acquired;
      this.upstream = connection;
      this.upstreamIdleMs = acquired.idleMs;
      this.queuedMs = acquired.queuedMs;
      this.#upstreamBytesRead = connection.bytesRead;
      this.#upstreamBytesWritten = connection.bytesWritten;
      connection.begin(this);
      this.upstreamIndex = connection.exchanges;
      this.progressAtMs = performance.now();
      try {
        this.#run.upstreamConnected(connection);
      } catch (thrown) {
        this.releaseUpstream(true);
        done(asHoldfastError(thrown), undefined);
        return;
      }
      done(undefined, connection);
    });
  }

  /** Field lines of the request for the current attempt. */
  upstreamFields(): string[] {
    const reason = this.upstream!.reasonToClose();
    if (reason !== undefined) this.upstream!.drain(reason);
    const upgrade = this.kind === "upgrade" ? this.request.hop.upgrade : undefined;
    return upstreamFields(this.request, this.downstream, this.upstream!, this.#around.forwarding, upgrade);
  }

  /**
   * Decides whether a failed attempt is followed by another, and counts it.
   *
   * @param closedByPeer - it failed by FIN, RST or EPIPE
   * @returns true: call {@link attempt} again, with `fresh`
   */
  retryAfter(error: HoldfastError, closedByPeer: boolean, bodyIsReplayable: boolean): boolean {
    const { upstream } = this;
    if (upstream === undefined || this.#ended) return false;
    const verdict = judgeFailedAttempt({
      reused: this.upstreamIndex > 1,
      closedByPeer,
      responseBytes: upstream.bytesRead - this.#upstreamBytesRead,
      requestBytes: upstream.bytesWritten - this.#upstreamBytesWritten,
      method: this.request.method,
      hasIdempotencyKey: this.request.headers.has("idempotency-key"),
      bodyIsReplayable,
      attempts: this.attempts,
    });
    if (verdict === undefined) return false;
    this.stale = verdict;
    if (verdict === "refused") return false;
    this.#run.retry(error);
    return true;
  }

  /**
   * The final response head came from the upstream: runs the filters and writes the fields of this hop.
   *
   * @param delimited - whether its end can be told without closing the downstream connection
   * @throws HoldfastError when a plugin with `onError: "fail"` failed
   */
  respond(incoming: IncomingResponse, delimited: boolean): OutgoingHead {
    const { end, hop } = splitHopByHop(incoming.fields);
    const upstream = this.upstream!;
    if (hop.hint !== undefined) upstream.hint = hop.hint;
    if (hop.close || (incoming.version === "1.0" && !hop.keepAlive)) upstream.peerCloses();
    this.#answeredBy = "upstream";
    return this.#outgoing(incoming.status, incoming.reason, incoming.version, end, delimited, hop.trailer);
  }

  /** Turns a plugin's reply into a response head; its body is the reply's. */
  respondWithReply(reply: Reply): OutgoingHead {
    this.#answeredBy = "plugin";
    return this.#local(reply.status, reply.headers ?? [], byteLength(reply.body));
  }

  /** Turns a failure into a response head and a body. The connection closes after it if the failure makes it doubtful. */
  respondWithError(error: HoldfastError): { head: OutgoingHead; body: string } {
    this.#answeredBy = "holdfast";
    const { status, fields, body } = errorResponse(error, this.#around.service);
    if (this.#leavesDoubt(error)) {
      this.downstream.drain(error.code === "HF_REQUEST_TIMEOUT" ? "request_timeout" : "protocol_error");
    }
    return { head: this.#local(status, fields, body.length), body };
  }

  /** A tunnel was opened: there is no response head of the usual kind. */
  answered(by: Outcome["answeredBy"]): void {
    this.#answeredBy = by;
  }

  /** The upstream connection carries nothing of this exchange any more. */
  releaseUpstream(reusable: boolean): void {
    const { upstream } = this;
    if (upstream === undefined || upstream.activeExchanges === 0) return;
    if (!reusable) upstream.cut("aborted");
    upstream.finish();
  }

  /** Over. Runs once; later calls do nothing. */
  end(error: HoldfastError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#ticket?.cancel();
    this.#around.exchanges.delete(this);
    this.#run.end({
      status: this.status,
      answeredBy: this.#answeredBy,
      error,
      durationMs: this.elapsedMs,
      requestBytes: this.requestBytes,
      responseBytes: this.responseBytes,
      stale: this.stale,
    });
    this.downstream.finish();
  }

  /** Looks at the time limits of this exchange. */
  sweep(nowMs: number): void {
    if (!this.requestComplete && nowMs - this.startedAtMs >= this.downstream.requestTimeouts.requestMs) {
      this.abort(
        new HoldfastError(
          "HF_REQUEST_TIMEOUT",
          `the request body was not complete within ${this.downstream.requestTimeouts.requestMs} ms`,
        ),
      );
      return;
    }
    const limitMs = this.kind === "http" ? this.#around.responseTimeoutMs : this.#around.tunnelIdleTimeoutMs;
    if (!this.requestComplete || this.upstream === undefined || nowMs - this.progressAtMs < limitMs) return;
    const where = this.route?.name ?? "the upstream";
    this.abort(new HoldfastError("HF_UPSTREAM_TIMEOUT", `${where} sent nothing for ${limitMs} ms`));
  }

  #local(status: number, fields: readonly HeaderField[], bodyBytes: number): OutgoingHead {
    const headers = new FieldList(fields.flat());
    if (status !== 204 && status !== 304) headers.write("Content-Length", String(bodyBytes));
    headers.write("Date", new Date().toUTCString());
    return this.#outgoing(status, "", "1.1", headers, true, []);
  }

  #outgoing(
    status: number,
    reason: string,
    version: "1.0" | "1.1",
    headers: FieldList,
    delimited: boolean,
    trailer: readonly string[],
  ): OutgoingHead {
    const head: ResponseHead = { status, reason, version, headers };
    this.#run.response(head);
    const { via } = this.#around.forwarding;
    if (via !== undefined && this.#answeredBy === "upstream") addVia(headers, version, via);
    const closes = this.#closesAfter(delimited);
    addDownstreamFields(headers.flat, this.downstream, closes);
    this.status = status;
    return { status, reason, version, headers, closes, trailer };
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
    const { via } = this.#around.forwarding;
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

function byteLength(body: string | Uint8Array | undefined): number {
  if (body === undefined) return 0;
  return typeof body === "string" ? Buffer.byteLength(body) : body.byteLength;
}
