/**
 * Ports for programs that cannot choose one themselves.
 *
 * @module
 */
import { once } from "node:events";
import net from "node:net";

/** Below the range that Linux takes the ports of outgoing connections from, which these would otherwise run into. */
const LOWEST = 20_000;
const HIGHEST = 32_000;

let next = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST));

/** A port of 127.0.0.1 on which nothing listens. */
export async function freePort(): Promise<number> {
  for (let tries = LOWEST; tries < HIGHEST; tries++) {
    const port = next++;
    if (next === HIGHEST) next = LOWEST;
    if (await isFree(port)) return port;
  }
  throw new Error(`every port from ${LOWEST} to ${HIGHEST} is in use`);
}

async function isFree(port: number): Promise<boolean> {
  const server = net.createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
