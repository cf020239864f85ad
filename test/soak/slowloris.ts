/**
 * Callers that open connections and send heads byte by byte, and what that costs one that does not:
 * `npm run slowloris -- --slow 1000 --requests 5000`. Prints the latencies of the ordinary caller without and with
 * them, in turns.
 */

import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { startTestSidecar } from "../../src/testing.ts";
import { FORWARDERS } from "../support/peers.ts";
import { soakOrigin } from "./origin.ts";

/** Time between two bytes of a slow caller, in milliseconds. */
const TRICKLE_MS = 100;
const GROUPS = 20;
const HEAD = `GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ${"x".repeat(4000)}`;

/** Slow callers, all connected. */
export class SlowCallers {
  readonly #sockets: net.Socket[] = [];
  readonly #received: string[];
  readonly #trickle: NodeJS.Timeout;
  #sent = 20;

  private constructor(port: number, count: number) {
    this.#received = new Array<string>(count).fill("");
    for (let index = 0; index < count; index++) {
      const socket = net.connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.on("data", (bytes: Buffer) => {
        this.#received[index] += bytes.toString("latin1");
      });
      socket.write(HEAD.slice(0, this.#sent));
      this.#sockets.push(socket);
    }
    // Not all at one moment.
    let group = 0;
    this.#trickle = setInterval(() => {
      for (let index = group; index < count; index += GROUPS) {
        const socket = this.#sockets[index]!;
        if (socket.writable) socket.write(HEAD[this.#sent]!);
      }
      group = (group + 1) % GROUPS;
      if (group === 0) this.#sent++;
    }, TRICKLE_MS / GROUPS);
  }

  /** Resolves once all are connected and have sent the beginning of a head. */
  static async start(url: string, count: number): Promise<SlowCallers> {
    const callers = new SlowCallers(Number(new URL(url).port), count);
    await Promise.all(
      callers.#sockets.map((socket) => new Promise<void>((resolve) => socket.write("", () => resolve()))),
    );
    return callers;
  }

  get open(): number {
    return this.#sockets.filter((socket) => !socket.destroyed).length;
  }

  /** Resolves, once every one of them was closed by the other side, with what each got. */
  async closed(): Promise<string[]> {
    const closed = this.#sockets.map((socket) =>
      socket.destroyed ? undefined : new Promise((resolve) => socket.once("close", resolve)),
    );
    await Promise.all(closed);
    this.stop();
    return this.#received;
  }

  stop(): void {
    clearInterval(this.#trickle);
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Sends requests one after the other on one connection; the time of each in milliseconds. */
export async function latencies(url: string, requests: number): Promise<number[]> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const found: number[] = [];
  for (let sent = 0; sent < requests; sent++) {
    const startedMs = performance.now();
    await new Promise<void>((resolve, reject) => {
      http
        .get(`${url}/small`, { agent }, (response) => {
          if (response.statusCode !== 200) reject(new Error(`answered ${response.statusCode}`));
          response.resume();
          response.on("end", resolve);
        })
        .on("error", reject);
    });
    found.push(performance.now() - startedMs);
  }
  agent.destroy();
  return found;
}

function percentile(values: readonly number[], part: number): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length * part)]!;
}

if (!isMainThread && parentPort !== null && workerData?.slow !== undefined) {
  const callers = await SlowCallers.start(workerData.url, workerData.slow);
  parentPort.postMessage("connected");
  await once(parentPort, "message");
  parentPort.postMessage(callers.open);
  callers.stop();
} else if (import.meta.main) {
  const { values } = parseArgs({
    options: { slow: { type: "string", default: "1000" }, requests: { type: "string", default: "5000" } },
  });
  const requests = Number(values.requests);
  const origin = await soakOrigin();
  for (const forwarder of FORWARDERS) await measure(forwarder, origin.url, Number(values.slow), requests);
  origin.close();
}

async function measure(forwarder: ForwarderName, upstream: string, slow: number, requests: number): Promise<void> {
  const sidecar = await startTestSidecar({ upstream, config: { forwarder, log: { level: "error" } } });
  await latencies(sidecar.inbound, requests);
  const alone: number[] = [];
  const among: number[] = [];
  for (let round = 0; round < 5; round++) {
    alone.push(...(await latencies(sidecar.inbound, requests / 5)));
    // In a thread of their own: what they cost themselves is not the question.
    const callers = new Worker(new URL(import.meta.url), { workerData: { url: sidecar.inbound, slow } });
    await once(callers, "message");
    among.push(...(await latencies(sidecar.inbound, requests / 5)));
    callers.postMessage("stop");
    const [open] = await once(callers, "message");
    if (open !== slow) throw new Error(`${slow - open} slow callers have gone`);
    await once(callers, "exit");
  }
  for (const [what, found] of [
    ["alone", alone],
    [`among ${slow} slow callers`, among],
  ] as const) {
    const [p50, p99] = [percentile(found, 0.5), percentile(found, 0.99)];
    console.log(`${forwarder}, ${what}: p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`);
  }
  console.log(`${forwarder}: p99 × ${(percentile(among, 0.99) / percentile(alone, 0.99)).toFixed(2)}`);
  await sidecar.stop();
}
