/**
 * Waiting until something serves.
 *
 * @module
 */
import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import type { Running } from "./processes.ts";

const TIMEOUT_MS = 20_000;
const BETWEEN_TRIES_MS = 2;

/**
 * Resolves once `GET /small` is answered with 200, with the time of that answer as `performance.now()` counts.
 *
 * @throws Error when the process ends before, or does not serve in time
 */
export async function answered(port: number, running: Running): Promise<number> {
  const deadline = performance.now() + TIMEOUT_MS;
  const poll = async (): Promise<number> => {
    while (performance.now() < deadline) {
      if (await answersOnce(port)) return performance.now();
      await wait(BETWEEN_TRIES_MS);
    }
    throw new Error(`${running.name} does not serve on port ${port} after ${TIMEOUT_MS} ms: ${running.output()}`);
  };
  return await Promise.race([poll(), running.unexpectedEnd]);
}

function answersOnce(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: "127.0.0.1" });
    let text = "";
    socket.setEncoding("latin1");
    socket.setTimeout(1000, () => socket.destroy());
    socket.on("connect", () => {
      socket.write(`GET /small HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`);
    });
    socket.on("data", (piece: string) => {
      text += piece;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(/^HTTP\/1\.1 200 /.test(text)));
  });
}
