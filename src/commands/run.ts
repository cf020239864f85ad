/**
 * `holdfast run`: the sidecar, from its configuration to the last connection.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { isatty } from "node:tty";
import { watchFiles } from "../config/watch-files.ts";
import { load } from "../load.ts";
import { createLog, errorFields, type Log } from "../log.ts";
import { type LogDestination, openLogDestination } from "../log-destination.ts";
import { type Sidecar, startSidecar } from "../sidecar.ts";
import type { ExitCode } from "./main.ts";

const STDOUT = 1;
/** How long the end of the log may take to be written. */
const FLUSH_MS = 1000;

/** A sidecar and where it logs. */
interface Running {
  readonly sidecar: Sidecar;
  readonly log: Log;
  readonly destination: LogDestination;
  /** The file as it was last read. */
  readonly seen: Seen;
}

/** Text of the file, from before it was read: a change during that is another text. */
interface Seen {
  text: string | undefined;
}

/**
 * Runs the sidecar until SIGTERM, SIGINT or the admin API drains it. A second signal ends it at once.
 *
 * @param file - path of sidecar.json
 * @param onLoaded - called when nothing is left to load
 * @returns 0 when everything in flight came to its end; 1 when the deadline or a second signal cut something
 * @throws ConfigError when the configuration cannot be used; HoldfastError when a listener or a plugin cannot start
 */
export async function run(file: string, onLoaded: () => void): Promise<ExitCode> {
  // Listened to from the start: to process 1 of a container a signal that nobody handles does nothing.
  const interrupted = Promise.withResolvers<undefined>();
  let onSignal = (signal: NodeJS.Signals): void => {
    process.stderr.write(`holdfast: ${signal} before the sidecar was ready\n`);
    interrupted.resolve(undefined);
  };
  process.on("SIGTERM", (signal) => onSignal(signal));
  process.on("SIGINT", (signal) => onSignal(signal));
  // Of the file that is being read, or was: in both cases it is read again once the sidecar is ready.
  const hangUp = Promise.withResolvers<undefined>();
  let onHangUp = (): void => hangUp.resolve(undefined);
  process.on("SIGHUP", () => onHangUp());

  const running = await Promise.race([start(file), interrupted.promise]);
  if (running === undefined) return 0;
  const { sidecar, log, destination, seen } = running;
  void sidecar.loaded.then(onLoaded);
  onHangUp = () => void sidecar.reload("SIGHUP");
  void hangUp.promise.then(onHangUp);
  const unwatch = watchConfig(file, seen, sidecar);
  let signals = 0;
  onSignal = (signal) => {
    signals++;
    const message =
      signals === 1 ? `${signal}: draining; a second signal stops at once` : `second signal: stopping at once`;
    log.info({ signal, deadlineMs: sidecar.config.drain.deadlineMs }, message);
    // Their end is awaited below.
    void (signals === 1 ? sidecar.drain() : sidecar.stop()).catch(() => {});
  };
  const { cut } = await sidecar.drained;
  unwatch();
  const code = signals > 1 || cut > 0 ? 1 : 0;
  if (destination.dropped > 0) log.warn({ dropped: destination.dropped }, "log lines were dropped");
  log.info({ exitCode: code }, "stopped");
  await destination.flush(FLUSH_MS);
  return code;
}

async function start(file: string): Promise<Running> {
  const seen: Seen = { text: undefined };
  const read = (): ReturnType<typeof load> => {
    seen.text = textOf(file);
    return load(file, process.env);
  };
  const { loaded, plugins } = await read();
  const { config } = loaded;
  const destination = openLogDestination(STDOUT);
  const isTTY = isatty(STDOUT);
  const log = createLog({ level: config.log.level, destination, pretty: isTTY, service: config.service });
  const output = { write: (text: string) => destination.write(text), isTTY };

  const fatal = (message: string) => (error: unknown) => {
    log.fatal({ err: error }, message);
    // An end without a word helps nobody, whatever `log.level` says.
    if (!log.isLevelEnabled("fatal")) process.stderr.write(`holdfast: ${message}: ${stackOf(error)}\n`);
    destination.flush(FLUSH_MS).finally(() => process.exit(1));
  };
  process.on("uncaughtException", fatal("uncaught exception"));
  process.on("unhandledRejection", fatal("unhandled rejection"));

  const sidecar = await startSidecar({
    loaded,
    plugins,
    load: read,
    log,
    env: process.env,
    output,
  });
  return { sidecar, log, destination, seen };
}

/** Reloads when the text of the file is another, for as long as `reload.watch` says so. */
function watchConfig(file: string, seen: Seen, sidecar: Sidecar): () => void {
  return watchFiles([file], () => {
    const text = textOf(file);
    // A file that is gone for a moment is being replaced.
    if (text === undefined || text === seen.text) return;
    seen.text = text;
    if (sidecar.config.reload.watch) void sidecar.reload("file");
  });
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function stackOf(error: unknown): string {
  const { stack, message } = errorFields(error);
  return stack ?? message;
}
