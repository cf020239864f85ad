/**
 * A sidecar in a process of its own under callers that come and go, an origin that errs, and reloads:
 * `npm run soak -- --requests 2000000`. After each half the callers leave, and memory and file descriptors of the
 * process are read: the second half must not have cost any (RSS within 5 %, as many descriptors).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { Random } from "../proxy/wire/random.ts";
import { call } from "./callers.ts";
import { soakOrigin } from "./origin.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
/** Connections of callers at one time. */
const LANES = 64;
/** Requests before anything is read, for code to be compiled and buffers to be made. */
const WARM_UP = 0.02;
/** How long memory is watched once all is quiet, in milliseconds; the least counts. */
const SETTLE_MS = 6000;
/** When descriptors have failed to be given back, in milliseconds. */
const QUIET_LIMIT_MS = 60_000;

/** What is read of the process when all is quiet. */
export interface Reading {
  readonly requests: number;
  readonly rssMiB: number;
  readonly descriptors: number;
}

/** What a run came to. */
export interface SoakResult {
  readonly requests: number;
  readonly left: number;
  /** See the callers' tally; more than one in 1,000 is too much. */
  readonly raced: number;
  readonly wrong: readonly string[];
  readonly reloads: number;
  /** After the warm-up, after the first half, after the second. */
  readonly readings: readonly Reading[];
  /** Lines of the log at level error, and standard error. */
  readonly errors: readonly string[];
  readonly exitCode: number | null;
}

/** What to run. */
export interface SoakOptions {
  readonly forwarder: ForwarderName;
  readonly requests: number;
  readonly seed: number;
  /** Requests between two reloads. */
  readonly reloadEvery: number;
  /** Default {@link SETTLE_MS}. */
  readonly settleMs?: number;
  readonly report?: (line: string) => void;
}

/** Runs it. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const { forwarder, requests, seed, reloadEvery, settleMs = SETTLE_MS, report = () => {} } = options;
  const random = new Random(seed);
  const origin = await soakOrigin();
  const sidecar = await Sidecar.start(forwarder, origin.url);
  const readings: Reading[] = [];
  const wrong: string[] = [];
  let sent = 0;
  let left = 0;
  let raced = 0;
  let reloads = 0;
  try {
    const warmUp = Math.ceil(requests * WARM_UP);
    for (const until of [warmUp, warmUp + requests / 2, warmUp + requests]) {
      while (sent < until) {
        const calling = call(sidecar.inbound, Math.min(reloadEvery, until - sent), LANES, random);
        // In the middle of it.
        await sidecar.reload();
        reloads++;
        const tally = await calling;
        sent += tally.requests;
        left += tally.left;
        raced += tally.raced;
        wrong.push(...tally.wrong);
        if (wrong.length > 100) throw new Error(`too much is wrong: ${wrong.slice(0, 5).join("\n")}`);
      }
      await sidecar.quiet();
      const reading = { requests: sent, ...(await sidecar.read(settleMs)) };
      readings.push(reading);
      report(`${reading.requests} requests: ${reading.rssMiB.toFixed(1)} MiB, ${reading.descriptors} descriptors`);
    }
    const exitCode = await sidecar.stop();
    return { requests: sent, left, raced, wrong, reloads, readings, errors: sidecar.errors, exitCode };
  } finally {
    sidecar.kill();
    origin.close();
  }
}

class Sidecar {
  static async start(forwarder: ForwarderName, upstream: string): Promise<Sidecar> {
    const folder = mkdtempSync(path.join(tmpdir(), "holdfast-soak-"));
    const file = path.join(folder, "sidecar.json");
    writeFileSync(file, configuration(forwarder, upstream, 0));
    const child = spawn(process.execPath, [MAIN, "run", "-c", file], {
      env: { PATH: process.env["PATH"], OTEL_TRACES_EXPORTER: "none" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const errors: string[] = [];
    createInterface(child.stderr!).on("line", (line) => errors.push(line));
    const ready = Promise.withResolvers<Record<string, { host: string; port: number }>>();
    createInterface(child.stdout!).on("line", (line) => {
      const entry = JSON.parse(line);
      if (entry.level === "error" || entry.level === "fatal") errors.push(line);
      if (String(entry.msg).endsWith(": ready")) ready.resolve(entry.addresses);
    });
    child.once("exit", () => ready.reject(new Error(`the sidecar ended: ${errors.join("\n")}`)));
    const { inbound, admin } = await ready.promise;
    return new Sidecar(child, folder, errors, {
      inbound: `http://${inbound!.host}:${inbound!.port}`,
      admin: `http://${admin!.host}:${admin!.port}`,
      rewrite: (count) => writeFileSync(file, configuration(forwarder, upstream, count)),
    });
  }

  readonly inbound: string;
  readonly errors: string[];
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #admin: string;
  readonly #rewrite: (count: number) => void;
  #reloads = 0;

  private constructor(
    child: ChildProcess,
    folder: string,
    errors: string[],
    { inbound, admin, rewrite }: { inbound: string; admin: string; rewrite: (count: number) => void },
  ) {
    this.#child = child;
    this.#folder = folder;
    this.errors = errors;
    this.inbound = inbound;
    this.#admin = admin;
    this.#rewrite = rewrite;
  }

  /** Changes the configuration, tells the process, by signal and by its API in turn, and waits until it holds. */
  async reload(): Promise<void> {
    this.#rewrite(++this.#reloads);
    const applied = `holdfast_config_reloads_total{result="applied"} ${this.#reloads}`;
    if (this.#reloads % 2 === 1) this.#child.kill("SIGHUP");
    else await this.#ask("POST", "/reload");
    for (let waitedMs = 0; !(await this.#ask("GET", "/metrics")).includes(applied); waitedMs += 10) {
      if (waitedMs > QUIET_LIMIT_MS) throw new Error(`reload ${this.#reloads} was not applied`);
      await sleep(10);
    }
  }

  /** Waits until no connection of a caller, or to the origin, is open. */
  async quiet(): Promise<void> {
    for (let waitedMs = 0; ; waitedMs += 50) {
      const { total } = JSON.parse(await this.#ask("GET", "/connections?limit=1"));
      if (total === 0) return;
      if (waitedMs > QUIET_LIMIT_MS) throw new Error(`${total} connections stay open`);
      await sleep(50);
    }
  }

  /** Descriptors, and the least memory that is seen in a while; Linux alone tells them. */
  async read(settleMs: number): Promise<{ rssMiB: number; descriptors: number }> {
    const { pid } = this.#child;
    let rssMiB = Number.POSITIVE_INFINITY;
    for (let waitedMs = 0; waitedMs <= settleMs; waitedMs += 200) {
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      rssMiB = Math.min(rssMiB, Number(/^VmRSS:\s+(\d+) kB/m.exec(status)![1]) / 1024);
      await sleep(200);
    }
    return { rssMiB, descriptors: readdirSync(`/proc/${pid}/fd`).length };
  }

  /** @returns the exit code */
  async stop(): Promise<number | null> {
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    const [code] = await ended;
    return code;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #ask(method: string, target: string): Promise<string> {
    // No connection of ours may stay and be counted.
    const answer = await fetch(this.#admin + target, { method, headers: { Connection: "close" } });
    return await answer.text();
  }
}

/** Every second one has other limits, every third other plugins. */
function configuration(forwarder: ForwarderName, upstream: string, count: number): string {
  return JSON.stringify({
    service: "soak",
    forwarder,
    inbound: { listen: "127.0.0.1:0", upstream },
    admin: { listen: "127.0.0.1:0" },
    limits: { fields: count % 2 === 0 ? 100 : 110 },
    plugins: [
      { use: "keep-alive" },
      { use: "idle-timeout", config: { upstream: "1s" } },
      { use: "connection-limits", config: { upstream: { maxConnections: 48 + (count % 3) } } },
    ],
    log: { level: "info", access: false },
    reload: { watch: false },
    drain: { idleGrace: "0s" },
  });
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      requests: { type: "string", default: "2000000" },
      forwarder: { type: "string", default: "wire" },
      seed: { type: "string" },
    },
  });
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 30));
  console.log(`seed ${seed}`);
  const { readings, ...rest } = await soak({
    forwarder: values.forwarder as ForwarderName,
    requests: Number(values.requests),
    seed,
    reloadEvery: 10_000,
    report: console.log,
  });
  console.log(JSON.stringify(rest, null, 2));
  const [, first, second] = readings as [Reading, Reading, Reading];
  const growth = second.rssMiB / first.rssMiB - 1;
  console.log(`RSS ${(growth * 100).toFixed(1)} % after the second half against after the first`);
  const isSound =
    growth <= 0.05 &&
    second.descriptors <= first.descriptors &&
    rest.wrong.length === 0 &&
    rest.raced <= rest.requests / 1000 &&
    rest.errors.length === 0 &&
    rest.exitCode === 0;
  process.exitCode = isSound ? 0 : 1;
}
