/**
 * The HTTP/2 client preface at the beginning of a plain connection (RFC 9113 §3.3, §3.4): prior knowledge.
 *
 * @module
 */
import type { ProxyConnection } from "./connection.ts";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Whether the bytes from `start` on are the preface: `part` while they may still become it. */
export function findPreface(bytes: Buffer, start = 0): "none" | "part" | "whole" {
  const length = Math.min(bytes.length - start, PREFACE.length);
  if (bytes.compare(PREFACE, 0, length, start, start + length) !== 0) return "none";
  return length === PREFACE.length ? "whole" : "part";
}

/**
 * Reads as much as it takes to tell. What was read is given back to the socket, which is paused.
 *
 * @param found - called once, unless the peer goes away before
 */
export function readPreface(connection: ProxyConnection, found: (isHttp2: boolean) => void): void {
  const { socket } = connection;
  let seen: Buffer = Buffer.alloc(0);
  const read = (bytes: Buffer): void => {
    seen = seen.length === 0 ? bytes : Buffer.concat([seen, bytes]);
    const preface = findPreface(seen);
    if (preface === "part" && connection.state === "idle") return;
    socket.off("data", read);
    socket.off("end", ended);
    socket.pause();
    socket.unshift(seen);
    if (connection.state === "idle") found(preface === "whole");
  };
  const ended = (): void => {
    connection.peerCloses();
    connection.closeTransport();
  };
  socket.on("data", read);
  socket.on("end", ended);
}
