/**
 * The processes of the demo: services, and sidecars that are `holdfast run` as anyone would run it.
 *
 * @module
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import type { HostPort } from "../../config/sidecar-config.ts";
import type { Listening, UseProxy } from "./services/serve.ts";

/** How long a process may take to end before it is killed, in milliseconds. */
const END_MS = 10_000;

/** `.ts` in the repository, `.js` where it was built. */
const EXTENSION = path.extname(import.meta.filename);

/** A running service. */
export interface Service {
  readonly port: number;
  /** Sends its outbound requests through this proxy from now on. */
  useProxy(proxy: string): void;
  stop(): Promise<void>;
}

/** A running sidecar. */
export interface SidecarProcess {
  readonly name: string;
  /** `http://host:port` of each listener that it has. */
  readonly inbound: string;
  readonly outbound: string | undefined;
  readonly admin: string;
  /** Drains it, as SIGTERM does everywhere else. */
  stop(): Promise<void>;
}

/** What the sidecars print, with the name of the one that did. */
export interface SidecarOutput {
  /** A line of the `console` trace exporter. */
  trace(sidecar: string, line: string): void;
  /** A warning or an error in its log. */
  problem(sidecar: string, message: string): void;
}

/** Starts a service; resolves when it listens. */
export async function startService(name: "orders" | "inventory"): Promise<Service> {
  // A process group of its own: Ctrl-C is for the demo, which then ends its processes in order.
  const child = fork(path.join(import.meta.dirname, "services", `${name}${EXTENSION}`), { detached: true });
  const [{ port }] = (await first(child, name, once(child, "message"))) as [Listening];
  return {
    port,
    useProxy: (proxy) => void child.send({ proxy } satisfies UseProxy),
    stop: () => end(child),
  };
}

/**
 * Starts `holdfast run` and resolves when it is ready.
 *
 * @throws Error with what it said when it ends instead
 */
export async function startSidecar(name: string, file: string, output: SidecarOutput): Promise<SidecarProcess> {
  const main = path.join(import.meta.dirname, "..", "..", `main${EXTENSION}`);
  const child = fork(main, ["run", "--config", file], {
    detached: true,
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    execArgv: ["--import", pathToFileURL(path.join(import.meta.dirname, `end-with-demo${EXTENSION}`)).href],
    env: withoutOwnVariables(process.env),
  });
  const ready = Promise.withResolvers<Addresses>();
  createInterface({ input: child.stdout! }).on("line", (line) => {
    const entry = logEntry(line);
    if (entry === undefined) output.trace(name, line);
    else if (entry.addresses !== undefined) ready.resolve(entry.addresses);
    else if (entry.level !== "info") output.problem(name, entry.msg);
  });
  const addresses = await first(child, name, ready.promise);
  return {
    name,
    inbound: url(addresses.inbound),
    outbound: addresses.outbound && url(addresses.outbound),
    admin: url(addresses.admin),
    stop: () => end(child),
  };
}

interface Addresses {
  readonly inbound: HostPort;
  readonly outbound?: HostPort;
  readonly admin: HostPort;
}

interface LogEntry {
  readonly level: string;
  readonly msg: string;
  /** Only on the line that says that the sidecar is ready. */
  readonly addresses?: Addresses;
}

/** A line of the log is JSON; everything else is a trace line. */
function logEntry(line: string): LogEntry | undefined {
  return line.startsWith("{") ? (JSON.parse(line) as LogEntry) : undefined;
}

function url({ host, port }: HostPort): string {
  return `http://${host}:${port}`;
}

/** The configuration is the demo's alone; `OTEL_*` stays, so that traces can be sent to a collector. */
function withoutOwnVariables(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith("HOLDFAST_")));
}

/** What is awaited, or an error when the process ends before. */
async function first<T>(child: ChildProcess, name: string, awaited: Promise<T>): Promise<T> {
  const said = child.stderr === null ? Promise.resolve("") : text(child.stderr);
  const ended = once(child, "exit").then(async ([code]: (number | null)[]) => {
    throw new Error(`${name} ended with exit code ${code}: ${(await said).trim()}`);
  });
  // Once it is ready its end is awaited by `stop` alone.
  ended.catch(() => {});
  return await Promise.race([awaited, ended]);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  const timer = setTimeout(() => child.kill("SIGKILL"), END_MS);
  child.kill("SIGTERM");
  await exit;
  clearTimeout(timer);
}
