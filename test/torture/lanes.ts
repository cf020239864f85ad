/**
 * The callers of the torture: lanes that all send a request, wait for all the answers, and send the next ones near the
 * instant at which the origin closes the connections that the last ones were on.
 *
 * @module
 */
import net, { type Socket } from "node:net";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../proxy/wire/random.ts";

/** What the lanes do. */
export interface LanesOptions {
  readonly port: number;
  readonly lanes: number;
  /** Requests of each method, over all lanes. */
  readonly requests: number;
  /** How long connections are idle before the next requests, in milliseconds, give or take {@link spreadMs}. */
  readonly pauseMs: number;
  readonly spreadMs: number;
  readonly random: Random;
}

/** One request as its caller saw it. */
export interface Answered {
  readonly id: number;
  readonly method: "GET" | "POST";
  /** `undefined` when the connection ended without an answer. */
  readonly status: number | undefined;
}

/** What a request needs through the proxy to the origin, and its answer back, about, in milliseconds. */
const WAY_MS = 1;

/** How long a lane waits for an answer, in milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Sends every request once and returns what became of each, in the order they were sent. */
export async function runLanes({
  port,
  lanes,
  requests,
  pauseMs,
  spreadMs,
  random,
}: LanesOptions): Promise<Answered[]> {
  const plan: ("GET" | "POST")[] = [];
  for (let at = 0; at < requests; at++) plan.push("GET", "POST");
  for (let at = plan.length - 1; at > 0; at--) {
    const other = random.below(at + 1);
    [plan[at], plan[other]] = [plan[other]!, plan[at]!];
  }
  const all = Array.from({ length: lanes }, () => new Lane(port));
  const answered: Answered[] = [];
  try {
    for (let id = 0; id < plan.length; id += lanes) {
      const answeredAtMs = all.reduce((sum, lane) => sum + lane.answeredAtMs, 0) / lanes;
      const round = plan.slice(id, id + lanes).map(async (method, at) => {
        const lane = all[at]!;
        // Half of what two of them may be apart; most are close to the instant itself.
        const offset = (random.below(1001) + random.below(1001) + random.below(1001)) / 1500 - 1;
        if (id > 0) await until(answeredAtMs + pauseMs - WAY_MS + (offset * spreadMs) / 2);
        return { id: id + at, method, status: await lane.send(method, id + at) };
      });
      answered.push(...(await Promise.all(round)));
    }
  } finally {
    for (const lane of all) lane.close();
  }
  return answered;
}

/** Finer than a timer: which part of a millisecond it is decides who meets whom. */
async function until(dueAtMs: number): Promise<void> {
  const leftMs = dueAtMs - performance.now();
  if (leftMs > 1.5) await sleep(leftMs - 1.5);
  while (performance.now() < dueAtMs) await nextTurn();
}

/** One caller with a connection that it keeps. */
class Lane {
  answeredAtMs = performance.now();
  readonly #port: number;
  #socket: Socket | undefined;
  #received = "";
  #settle: ((status: number | undefined) => void) | undefined;

  constructor(port: number) {
    this.#port = port;
  }

  async send(method: "GET" | "POST", id: number): Promise<number | undefined> {
    this.#socket ??= this.#open();
    const body = method === "POST" ? "Content-Length: 4\r\n\r\nbody" : "\r\n";
    this.#received = "";
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    this.#settle = resolve;
    const timer = setTimeout(() => this.#socket?.destroy(), ANSWER_TIMEOUT_MS);
    this.#socket.write(`${method} /${id} HTTP/1.1\r\nHost: torture.internal\r\n${body}`);
    const status = await promise;
    clearTimeout(timer);
    this.answeredAtMs = performance.now();
    return status;
  }

  close(): void {
    this.#socket?.destroy();
  }

  #open(): Socket {
    const socket = net.connect({ port: this.#port, host: "127.0.0.1", noDelay: true });
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      this.#received += bytes.toString("latin1");
      const match = /^HTTP\/1\.1 (\d{3}) [\s\S]*?\r\n\r\n/.exec(this.#received);
      if (match === null) return;
      const length = Number(/^content-length: *(\d+)/im.exec(match[0])?.[1] ?? 0);
      if (this.#received.length < match[0].length + length) return;
      this.#answer(Number(match[1]));
    });
    socket.on("close", () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      this.#answer(undefined);
    });
    return socket;
  }

  #answer(status: number | undefined): void {
    const settle = this.#settle;
    this.#settle = undefined;
    settle?.(status);
  }
}
