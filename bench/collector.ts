/**
 * What spans are sent to: counts them and throws them away.
 *
 * @module
 */
import { once } from "node:events";
import path from "node:path";
import { start } from "./processes.ts";

/** A running collector. */
export interface Collector {
  /** Base URL for OTLP from one sender. */
  url(sender: string): string;
  /** Spans that arrived from a sender since the last call. */
  takeSpans(sender: string): Promise<number>;
  stop(): Promise<void>;
}

/** Starts the collector, a process of its own. */
export async function startCollector(folder: string): Promise<Collector> {
  const main = path.join(import.meta.dirname, "collector-process.ts");
  const running = start({
    name: "collector",
    command: [process.execPath, main],
    folder,
    core: undefined,
    hasChannel: true,
  });
  const next = async (): Promise<number> => {
    const [value] = await Promise.race([once(running.process, "message"), running.unexpectedEnd]);
    return value as number;
  };
  const port = await next();
  return {
    url: (sender) => `http://127.0.0.1:${port}/${sender}`,
    takeSpans(sender) {
      running.process.send(sender);
      return next();
    },
    stop: () => running.stop(),
  };
}
