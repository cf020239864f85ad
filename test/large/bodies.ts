/**
 * Bodies of any size through a sidecar in a process of its own, to readers that are slower than the senders: what
 * arrives, and how much memory the sidecar takes meanwhile.
 */
import { execFileSync, spawn } from "node:child_process";
import { createHash, type Hash } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http, { type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { Random } from "../proxy/wire/random.ts";

const ROOT = path.join(import.meta.dirname, "..", "..");
const MIB = 1024 * 1024;
/** Written at once. */
const BLOCK_BYTES = MIB;
/** A reader takes this much, then waits until its sender cannot go on. */
const BURST_BYTES = 32 * MIB;
/**
 * The sidecar takes less, whatever it carries. http-proxy-3 works on node:http's streams, which read each 64 KiB into
 * memory of its own; V8 collects none of it before there are some 64 MB.
 */
export function mostBytes(forwarder: ForwarderName, telemetry: boolean): number {
  if (forwarder === "http-proxy-3") return 220e6;
  // Of the OpenTelemetry SDK alone there are 16 MB before the first body.
  return telemetry ? 110e6 : 100e6;
}
/** A sender that has not got on for this long is held up. */
const HELD_UP_MS = 20;

const SIZES = { length: (bytes: number) => ({ "content-length": bytes }), chunked: () => ({}) };

/** Which way a body goes. */
export type Way = "upload" | "download";
/** How it is delimited. */
export type Framing = keyof typeof SIZES;

/** One body that was carried. */
export interface Carried {
  readonly way: Way;
  readonly framing: Framing;
  readonly bytes: number;
  /** SHA-256 of what was sent, and of what arrived. */
  readonly sent: string;
  readonly arrived: string;
  /** The most that was sent and not yet read, in the sidecar and in the kernel; both ends included. */
  readonly mostUnreadBytes: number;
  readonly ms: number;
  /** The most memory that the sidecar had meanwhile (`VmHWM`). */
  readonly peakBytes: number;
}

/** What a sidecar carried. */
export interface Run {
  /** Resident before the first body. */
  readonly idleBytes: number;
  readonly carried: readonly Carried[];
}

/** What to run. */
export interface RunOptions {
  /** The sidecar's main.js; see {@link build}. */
  readonly main: string;
  readonly forwarder: ForwarderName;
  /** Whether there are metrics, and traces of every request. */
  readonly telemetry: boolean;
  /** Of each body. */
  readonly bytes: number;
}

/** Builds the sidecar into a folder that is this one's own, because under Node.js source takes memory that it does not in use. */
export function build(): string {
  const folder = path.join(ROOT, ".cache", "large");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(path.join(ROOT, "package.json"), path.join(folder, "package.json"));
  const compiler = path.join(ROOT, "node_modules", "typescript", "bin", "tsc");
  const args = ["-p", path.join(ROOT, "tsconfig.build.json"), "--outDir", path.join(folder, "dist")];
  execFileSync(process.execPath, [compiler, ...args], { stdio: ["ignore", "inherit", "inherit"] });
  return path.join(folder, "dist", "src", "main.js");
}

/** Carries a body each way with each framing through one sidecar, one after the other. */
export async function run({ main, forwarder, telemetry, bytes }: RunOptions): Promise<Run> {
  const origin = new Origin();
  const collector = await listening((request, response) => {
    request.resume();
    request.on("end", () => {
      response.end();
      collected.resolve();
    });
  });
  const collected = Promise.withResolvers<void>();
  const upstream = await listening((request, response) => void origin.answer(request, response));
  const sidecar = await startSidecar(main, {
    forwarder,
    inbound: { upstream: upstream.url },
    telemetry: telemetry
      ? { traces: { ratio: 1 }, otlp: { endpoint: collector.url } }
      : { traces: { exporters: ["none"] }, metrics: { prometheus: false } },
  });
  try {
    const agent = new http.Agent({ keepAlive: true });
    await smallGet(sidecar.inbound, agent);
    // The span of that one: from here on the whole of telemetry is loaded and at work.
    if (telemetry) await collected.promise;
    const idleBytes = sidecar.peakBytes();
    const carried: Carried[] = [];
    for (const way of ["upload", "download"] as const) {
      for (const framing of ["length", "chunked"] as const) {
        sidecar.forgetPeak();
        const startedAtMs = performance.now();
        const found = await origin.carry(sidecar.inbound, agent, { way, framing, bytes });
        carried.push({
          ...found,
          way,
          framing,
          bytes,
          ms: performance.now() - startedAtMs,
          peakBytes: sidecar.peakBytes(),
        });
      }
    }
    agent.destroy();
    return { idleBytes, carried };
  } finally {
    await sidecar.stop();
    await upstream.close();
    await collector.close();
  }
}

/** One body on its way. */
interface Body {
  readonly way: Way;
  readonly framing: Framing;
  readonly bytes: number;
}

/** Reads uploads and sends downloads. */
class Origin {
  #sender: Sender | undefined;
  #reader = Promise.withResolvers<string>();

  async answer(request: IncomingMessage, response: http.ServerResponse): Promise<void> {
    const sender = this.#sender;
    if (sender === undefined) {
      response.end("ok");
    } else if (request.method === "POST") {
      this.#reader.resolve(readSlowly(request, sender));
      await this.#reader.promise;
      response.end("ok");
    } else {
      response.writeHead(200, SIZES[sender.body.framing](sender.body.bytes));
      await sender.send(response);
    }
  }

  async carry(
    url: string,
    agent: http.Agent,
    body: Body,
  ): Promise<Pick<Carried, "sent" | "arrived" | "mostUnreadBytes">> {
    const sender = new Sender(body);
    this.#sender = sender;
    this.#reader = Promise.withResolvers();
    const isUpload = body.way === "upload";
    const request = http.request(url, {
      agent,
      method: isUpload ? "POST" : "GET",
      headers: isUpload ? SIZES[body.framing](body.bytes) : {},
    });
    const answered = once(request, "response") as Promise<[IncomingMessage]>;
    if (isUpload) await sender.send(request);
    else request.end();
    const [response] = await answered;
    if (response.statusCode !== 200) throw new Error(`answered ${response.statusCode}`);
    if (!isUpload) this.#reader.resolve(readSlowly(response, sender));
    else for await (const _ of response);
    const arrived = await this.#reader.promise;
    return { sent: sender.digest, arrived, mostUnreadBytes: sender.mostUnreadBytes };
  }
}

/** Sends as fast as it may. No two blocks are the same. */
class Sender {
  readonly body: Body;
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  readonly #hash: Hash = createHash("sha256");
  #writtenBytes = 0;
  /** What has been read of it. */
  readBytes = 0;
  mostUnreadBytes = 0;
  digest = "";

  constructor(body: Body) {
    this.body = body;
    const random = new Random(1);
    for (let at = 0; at < BLOCK_BYTES; at += 4) this.#block.writeUInt32LE(random.below(2 ** 32), at);
  }

  async send(stream: Writable): Promise<void> {
    const { bytes } = this.body;
    for (let block = 0; this.#writtenBytes < bytes; block++) {
      this.#block.writeUInt32LE(block, 0);
      const piece = this.#block.subarray(0, bytes - this.#writtenBytes);
      this.#hash.update(piece);
      // The block is used again: not before the kernel has taken it.
      await new Promise<void>((resolve, reject) => {
        stream.write(piece, (error) => (error ? reject(error) : resolve()));
      });
      this.#writtenBytes += piece.length;
      this.mostUnreadBytes = Math.max(this.mostUnreadBytes, this.#writtenBytes - this.readBytes);
    }
    this.digest = this.#hash.digest("hex");
    stream.end();
  }

  /** Resolves when it does not get on because nobody reads, or has sent all. */
  async heldUp(): Promise<void> {
    for (let before = -1; before !== this.#writtenBytes && this.digest === ""; ) {
      before = this.#writtenBytes;
      await sleep(HELD_UP_MS);
    }
  }
}

/** Reads in bursts; between them nothing, until the sender is held up. Resolves with the digest of all. */
async function readSlowly(stream: Readable, sender: Sender): Promise<string> {
  const hash = createHash("sha256");
  let burstEndsAt = BURST_BYTES;
  stream.on("data", (piece: Buffer) => {
    hash.update(piece);
    sender.readBytes += piece.length;
    if (sender.readBytes < burstEndsAt) return;
    burstEndsAt = sender.readBytes + BURST_BYTES;
    stream.pause();
    void sender.heldUp().then(() => stream.resume());
  });
  await once(stream, "end");
  return hash.digest("hex");
}

async function smallGet(url: string, agent: http.Agent): Promise<void> {
  const [response] = (await once(http.get(url, { agent }), "response")) as [IncomingMessage];
  for await (const _ of response);
}

interface Listening {
  readonly url: string;
  close(): Promise<void>;
}

async function listening(listener: http.RequestListener): Promise<Listening> {
  const server = http.createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

interface SidecarProcess {
  readonly inbound: string;
  /** The most memory that it had since {@link forgetPeak}, resident. */
  peakBytes(): number;
  forgetPeak(): void;
  stop(): Promise<void>;
}

async function startSidecar(
  main: string,
  config: { readonly inbound: object; readonly [key: string]: unknown },
): Promise<SidecarProcess> {
  const folder = mkdtempSync(path.join(ROOT, ".cache", "large", "run-"));
  const listen = "127.0.0.1:0";
  const file = path.join(folder, "sidecar.json");
  const builtIns = ["keep-alive", "tcp-keepalive", "idle-timeout", "connection-limits"].map((use) => ({ use }));
  writeFileSync(
    file,
    JSON.stringify({
      service: "large",
      admin: { listen },
      plugins: builtIns,
      drain: { idleGrace: "0s", deadline: "5s" },
      ...config,
      inbound: { listen, ...config.inbound },
    }),
  );
  const child = spawn(process.execPath, [main, "run", "-c", file], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env["PATH"], OTEL_BSP_SCHEDULE_DELAY: "100" },
  });
  const ended = once(child, "exit");
  const ready = Promise.withResolvers<{ host: string; port: number }>();
  createInterface(child.stdout).on("line", (line) => {
    const { msg, addresses, level } = JSON.parse(line);
    if (msg === "large: ready") ready.resolve(addresses.inbound);
    else if (level !== "info") process.stderr.write(`${line}\n`);
  });
  const started = await Promise.race([ready.promise, ended]);
  if (Array.isArray(started)) throw new Error(`the sidecar ended with ${started}`);
  return {
    inbound: `http://${started.host}:${started.port}/`,
    peakBytes: () => Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${child.pid}/status`, "latin1"))![1]) * 1024,
    // proc(5): 5 sets the peak to what is resident now.
    forgetPeak: () => writeFileSync(`/proc/${child.pid}/clear_refs`, "5"),
    async stop() {
      child.kill("SIGTERM");
      await ended;
      rmSync(folder, { recursive: true });
    },
  };
}
