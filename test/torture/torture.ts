/**
 * One run of the torture: an origin, a proxy before it, and callers whose requests arrive as the origin closes.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../bench/ports.ts";
import { Random } from "../proxy/wire/random.ts";
import { type Answered, runLanes } from "./lanes.ts";
import type { OriginBehaviour, OriginReport } from "./origin-process.ts";
import type { Subject } from "./subjects.ts";

const ORIGIN = fileURLToPath(new URL("./origin-process.ts", import.meta.url));

/** How long the origin takes to answer, in milliseconds: longer than lanes are apart, so that each has its own connection. */
const ANSWER_MS = 10;
/** On the loopback interface a close shows too soon for many to meet it. */
const WAY_MS = 1;
/** Requests in which a proxy may still be learning. */
const LEARNING_REQUESTS = 200;
const START_TIMEOUT_MS = 20_000;

/** What to run. */
export interface TortureOptions {
  readonly subject: Subject;
  readonly close: "FIN" | "RST";
  readonly hint: string;
  readonly originIdleMs: number;
  readonly lanes: number;
  /** Of each method. */
  readonly requests: number;
  readonly seed: number;
}

/** What came of it. */
export interface TortureResult {
  readonly getsFailed: number;
  readonly getsTwice: number;
  readonly postsFailed: number;
  /** Of {@link postsFailed}, those after the first 200 requests, and how many POSTs there were. */
  readonly postsFailedLater: number;
  readonly postsLater: number;
  readonly postsTwice: number;
  /** Share of requests that the origin got on a connection that had carried one, of those after each lane's first. */
  readonly reuse: number;
  /** What the proxy logged of each failure, where it is Holdfast. */
  readonly failureLines: readonly string[];
  /** Failures that were not answered with 502. */
  readonly otherFailures: number;
}

/** Near this idle time requests arrive, in milliseconds, and within this of it. */
export const EDGE_MS = 50;
export const SPREAD_MS = 3;

/** Runs it. */
export async function torture(options: TortureOptions): Promise<TortureResult> {
  const { subject, close, hint, originIdleMs, lanes, requests, seed } = options;
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-torture-"));
  const behaviour: OriginBehaviour = { idleMs: originIdleMs, close, hint, answerMs: ANSWER_MS, wayMs: WAY_MS };
  const origin = spawn(process.execPath, [ORIGIN, JSON.stringify(behaviour)], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  let proxy: ChildProcess | undefined;
  try {
    const [originPort] = (await once(origin, "message")) as [number];
    const port = await freePort();
    const [program = "", ...args] = subject.prepare(folder, port, originPort);
    const log = openSync(path.join(folder, "log"), "w");
    const env = { PATH: `${process.env["PATH"]}:/usr/sbin`, OTEL_SDK_DISABLED: "true" };
    proxy = spawn(program, args, { stdio: ["ignore", log, log], env });
    closeSync(log);
    await listening(port, proxy);
    const random = new Random(seed);
    const answered = await runLanes({ port, lanes, requests, pauseMs: EDGE_MS, spreadMs: SPREAD_MS, random });
    if (proxy.exitCode !== null) throw new Error(`the proxy ended: ${readFileSync(path.join(folder, "log"), "utf8")}`);
    origin.send("report");
    const [report] = (await once(origin, "message")) as [OriginReport];
    // Not at once: what it has to log is to be read.
    await stop(proxy, "SIGTERM");
    return judge(answered, report, lanes, readFileSync(path.join(folder, "log"), "utf8"));
  } finally {
    await Promise.all([stop(origin), proxy === undefined ? undefined : stop(proxy)]);
    rmSync(folder, { recursive: true, force: true });
  }
}

function judge(answered: readonly Answered[], report: OriginReport, lanes: number, log: string): TortureResult {
  const isFailure = ({ status }: Answered): boolean => status !== 200;
  const posts = answered.filter(({ method }) => method === "POST");
  const later = posts.filter(({ id }) => id >= LEARNING_REQUESTS);
  const served = report.served.reduce((sum, [, times]) => sum + times, 0);
  const twice = (method: string): number =>
    report.served.filter(([request, times]) => request.startsWith(method) && times > 1).length;
  return {
    getsFailed: answered.filter((one) => one.method === "GET" && isFailure(one)).length,
    getsTwice: twice("GET"),
    postsFailed: posts.filter(isFailure).length,
    postsFailedLater: later.filter(isFailure).length,
    postsLater: later.length,
    postsTwice: twice("POST"),
    reuse: Math.min(1, (served - report.connections) / (served - lanes)),
    failureLines: log.split("\n").filter((line) => line.includes("HF_UPSTREAM_CLOSED")),
    otherFailures: answered.filter((one) => isFailure(one) && one.status !== 502).length,
  };
}

async function listening(port: number, proxy: ChildProcess): Promise<void> {
  const untilMs = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < untilMs && proxy.exitCode === null) {
    const socket = net.connect(port, "127.0.0.1");
    const isUp = await once(socket, "connect").then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isUp) return;
    await sleep(50);
  }
  throw new Error(`the proxy did not start (exit code ${proxy.exitCode})`);
}

async function stop(child: ChildProcess, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill(signal);
  await ended;
}
