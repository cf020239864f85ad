/**
 * Bytes both ways between two sockets, once they are no longer HTTP: CONNECT and upgrades.
 *
 * @module
 */
import { closeGently, type ProxyConnection } from "./connection.ts";
import type { ProxyExchange } from "./exchange.ts";
import { FrameTracker, goingAwayFrame } from "./websocket.ts";

/**
 * Makes a tunnel of the exchange's two connections and runs it to its end. Back-pressure and half-closed sides pass
 * through; when one side breaks, so does the other. A tunnel that is silent for too long is closed; that is no error.
 *
 * @param downstreamFirst - bytes already read from downstream, sent before the rest
 * @param upstreamFirst - bytes already read from upstream
 * @param over - called once, when both sides are closed
 * @param isWebSocket - both peers are told by a close frame when this process goes away
 */
export function runTunnel(
  exchange: ProxyExchange,
  downstreamFirst: Buffer,
  upstreamFirst: Buffer,
  over: () => void,
  isWebSocket = false,
): void {
  const { downstream } = exchange;
  const upstream = exchange.upstream!;
  let open = 2;
  for (const connection of [downstream, upstream]) {
    connection.protocol = "tunnel";
    connection.socket.allowHalfOpen = true;
    connection.socket.setNoDelay(true);
  }
  const up = new Flow(downstream, upstream, isWebSocket, (bytes) => {
    exchange.requestBytes += bytes;
    exchange.progressAtMs = performance.now();
  });
  const down = new Flow(upstream, downstream, isWebSocket, (bytes) => {
    exchange.responseBytes += bytes;
    exchange.progressAtMs = performance.now();
  });
  up.reverse = down;
  down.reverse = up;
  exchange.steps = {
    admitted() {},
    connected() {},
    abort() {
      downstream.cut("idle_timeout");
      upstream.cut("idle_timeout");
    },
    goAway() {
      // A peer that closes by itself is answered by the other: they need no word of ours.
      if (!isWebSocket || up.isClosing || down.isClosing) return;
      up.endWithClose();
      down.endWithClose();
    },
  };
  const closed = (): void => {
    open--;
    if (open > 0) return;
    exchange.releaseUpstream(true);
    over();
  };
  up.run(downstreamFirst, closed);
  down.run(upstreamFirst, closed);
}

/** The bytes of one peer on their way to the other. */
class Flow {
  readonly #from: ProxyConnection;
  readonly #to: ProxyConnection;
  readonly #count: (bytes: number) => void;
  readonly #frames: FrameTracker | undefined;
  /** What goes to this one's peer. */
  reverse: Flow | undefined;
  /**
   * `passing`: all that comes is passed on. `ending`: up to the end of the frame. `ended`: the other peer has a close
   * frame, after which it gets nothing more (RFC 6455 §5.5.1); what comes is only looked at for the answer.
   */
  #state: "passing" | "ending" | "ended" = "passing";

  constructor(from: ProxyConnection, to: ProxyConnection, isWebSocket: boolean, count: (bytes: number) => void) {
    this.#from = from;
    this.#to = to;
    this.#count = count;
    this.#frames = isWebSocket ? new FrameTracker() : undefined;
  }

  /** Whether its peer has begun to close the WebSocket, or we have. */
  get isClosing(): boolean {
    return this.#state !== "passing" || this.#frames?.closing === true;
  }

  /** @param closed - called once, when the peer's socket is closed */
  run(first: Buffer, closed: () => void): void {
    const from = this.#from.socket;
    const to = this.#to.socket;
    if (first.length > 0) this.#take(first);
    from.on("data", (bytes: Buffer) => this.#take(bytes));
    to.on("drain", () => from.resume());
    from.on("end", () => {
      if (this.#state === "ended") closeGently(from);
      else to.end();
    });
    from.once("close", () => {
      // Both peers have been told, and each closes by itself.
      if (this.#state !== "ended") {
        // A clean end has been passed on; anything else must not look like one.
        if (from.readableEnded) to.destroySoon();
        else this.#to.reset("aborted");
      }
      closed();
    });
    from.resume();
  }

  /** Sends the other peer a close frame where the frame that is on its way ends. */
  endWithClose(): void {
    if (this.#state !== "passing") return;
    this.#state = "ending";
    this.#endAtBoundary();
  }

  #take(bytes: Buffer): void {
    this.#count(bytes.length);
    switch (this.#state) {
      case "passing":
        this.#frames?.take(bytes);
        if (!this.#to.socket.write(bytes)) this.#from.socket.pause();
        return;
      case "ending": {
        const taken = this.#frames!.take(bytes, true);
        if (!this.#to.socket.write(bytes.subarray(0, taken))) this.#from.socket.pause();
        this.#endAtBoundary();
        this.#frames!.take(bytes.subarray(taken));
        this.#endAnswered();
        return;
      }
      case "ended":
        this.#frames!.take(bytes);
        this.#endAnswered();
        return;
    }
  }

  #endAtBoundary(): void {
    if (!this.#frames!.atBoundary) return;
    this.#state = "ended";
    const to = this.#to.socket;
    if (!this.#frames!.closed && to.writable) to.write(goingAwayFrame(this.#to.side === "upstream"));
    // Whatever the other peer does not take: this one's answer must be read.
    this.#from.socket.resume();
    this.reverse!.#endAnswered();
  }

  /** Once this one's peer has sent a close frame and has one: nothing more comes, and nothing more is sent to it. */
  #endAnswered(): void {
    if (this.#frames!.closed && this.reverse!.#state === "ended") closeGently(this.#from.socket);
  }
}
