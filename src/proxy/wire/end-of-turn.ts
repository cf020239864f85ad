/**
 * Small messages that are written in one turn of the event loop leave together at its end.
 *
 * Every message wakes the process that waits for it, unless that is awake already. Written one after the other, with
 * nothing between them, most of them find it awake; that is a good part of what the kernel takes for a message.
 *
 * @module
 */
import type { Socket } from "node:net";

let held: Socket[] = [];
let spare: Socket[] = [];

/**
 * Writes behind everything else that was written to the socket, at the end of this turn. What is written or ended
 * meanwhile comes after it; what is destroyed loses it. TLS is written at once: it says a turn later than others that
 * what it was given has left, and the response may be there before that.
 *
 * @param text - latin1
 * @returns false when the socket has enough for now, as `socket.write` does
 */
export function writeAtEndOfTurn(socket: Socket, text: string): boolean {
  if (socket.writableCorked === 0 && !("encrypted" in socket)) {
    socket.cork();
    if (held.length === 0) setImmediate(letGo);
    held.push(socket);
  }
  return socket.write(text, "latin1");
}

/** Whether nothing of what {@link writeAtEndOfTurn} was given last has left, or ever will if the socket is destroyed. */
export function isHeld(socket: Socket): boolean {
  return socket.writableCorked > 0;
}

function letGo(): void {
  const sockets = held;
  held = spare;
  for (let at = 0; at < sockets.length; at++) {
    const socket = sockets[at]!;
    // One that broke meanwhile stays as it is: that tells that nothing has left.
    if (!socket.destroyed) socket.uncork();
  }
  sockets.length = 0;
  spare = sockets;
}
