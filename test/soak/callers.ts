/** Callers that come and go, in every way there is. */
import net from "node:net";
import type { Random } from "../proxy/wire/random.ts";
import { TARGETS } from "./origin.ts";

const NAMES = Object.keys(TARGETS);
/** When an answer has failed to come, in milliseconds. */
const STUCK_MS = 60_000;
const BODY = "b".repeat(2000);

/** What callers found. */
export interface Tally {
  /** Requests that were sent. */
  requests: number;
  /** Requests that they left without waiting for the answer. */
  left: number;
  /** POSTs on a connection that the origin was closing: 502, because they may not be sent twice. */
  raced: number;
  readonly wrong: string[];
}

/** Sends so many requests from so many connections at a time, each living as long as it happens to. */
export async function call(url: string, requests: number, lanes: number, random: Random): Promise<Tally> {
  const tally: Tally = { requests: 0, left: 0, raced: 0, wrong: [] };
  const port = Number(new URL(url).port);
  const lane = async (): Promise<void> => {
    while (tally.requests < requests) {
      const caller = new Caller(port);
      let stays = random.below(100);
      while (tally.requests < requests && stays-- > 0 && (await caller.ask(random, tally)));
      // FIN, RST, or whatever the sidecar did first.
      if (random.oneIn(3)) caller.socket.resetAndDestroy();
      else caller.socket.destroy();
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return tally;
}

class Caller {
  readonly socket: net.Socket;
  #received = "";
  #moved: () => void = () => {};

  constructor(port: number) {
    this.socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
    this.socket.on("data", (bytes: Buffer) => {
      this.#received += bytes.toString("latin1");
      this.#moved();
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => this.#moved());
  }

  /** @returns whether the connection can carry another */
  async ask(random: Random, tally: Tally): Promise<boolean> {
    tally.requests++;
    // Most of what is asked is ordinary.
    const target = random.oneIn(5) ? random.pick(NAMES) : "/small";
    const isPost = random.oneIn(5);
    this.#received = "";
    if (random.oneIn(200)) {
      // Leaves in the middle of its request.
      const part = `POST ${target} HTTP/1.1\r\nHost: soak\r\nContent-Length: 9999\r\n\r\nsome`;
      await new Promise((resolve) => this.socket.write(part, resolve));
      tally.left++;
      return false;
    }
    this.socket.write(
      isPost
        ? `POST ${target} HTTP/1.1\r\nHost: soak\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`
        : `GET ${target} HTTP/1.1\r\nHost: soak\r\n\r\n`,
    );
    if (random.oneIn(200)) {
      // Leaves without waiting for the answer.
      await new Promise((resolve) => this.socket.write("", resolve));
      tally.left++;
      return false;
    }
    const limit = setTimeout(() => {
      tally.wrong.push(`${target}: no answer`);
      this.socket.destroy();
    }, STUCK_MS);
    const expected = TARGETS[target]!;
    while (!isWhole(this.#received) && !this.socket.destroyed) {
      await new Promise<void>((resolve) => {
        this.#moved = resolve;
      });
    }
    clearTimeout(limit);
    const whole = isWhole(this.#received);
    const status = Number(this.#received.slice(9, 12));
    const isRaced = isPost && status === 502 && this.#received.includes('details="HF_UPSTREAM_CLOSED"');
    if (isRaced && expected !== 502 && expected !== "cut") tally.raced++;
    else if (expected === "cut" ? whole && status !== 502 : !whole || status !== expected) {
      tally.wrong.push(`${isPost ? "POST" : "GET"} ${target}: ${JSON.stringify(this.#received.slice(0, 300))}`);
    }
    return whole && !this.socket.destroyed && !/^connection: close\r$/im.test(this.#received);
  }
}

function isWhole(text: string): boolean {
  const head = text.indexOf("\r\n\r\n");
  if (head === -1) return false;
  const length = /\r\nContent-Length: (\d+)\r\n/i.exec(text.slice(0, head + 2));
  if (length !== null) return text.length >= head + 4 + Number(length[1]);
  return text.endsWith("\r\n0\r\n\r\n");
}
