/**
 * Accepted sockets that read into shared memory, as `net.connect({ onread })` makes those that we open.
 *
 * Node.js has `onread` only for sockets that it is asked to connect. An accepted one gets it here by making a second
 * `net.Socket` around the handle of the first, and nowhere else: `socket._handle` and the option `handle` are private.
 * Read as a stream, a request costs a 64 KiB allocation, a Buffer and two ticks of the stream more: measured, a tenth
 * of all CPU time. Where the handle is not what is expected, there is the stream.
 *
 * @module
 */
import net from "node:net";
import type { SocketReader } from "./connect.ts";
import { SHARED_BYTES } from "./read-memory.ts";

/** Who hears what a socket reads. Until there is somebody, it is a stream as any other. */
export class SharedReads {
  /** `undefined`: what is read goes to the stream. */
  reader: Pick<SocketReader, "read"> | undefined;
}

/** A socket that reads into shared memory. */
export interface SharedSocket {
  readonly socket: net.Socket;
  readonly reads: SharedReads;
}

/** The private parts of a socket. */
interface Handle {
  useUserBuffer?: unknown;
}

/**
 * Makes an accepted socket read into shared memory.
 *
 * @param accepted - just now, so that nothing is read yet; not to be used afterwards
 * @returns `undefined` when that cannot be done: `accepted` is as it was
 */
export function sharedSocket(accepted: net.Socket): SharedSocket | undefined {
  const parts = accepted as unknown as { _handle?: Handle | null };
  const handle = parts._handle;
  if (typeof handle?.useUserBuffer !== "function") return undefined;
  const reads = new SharedReads();
  const options: Omit<net.SocketConstructorOpts, "handle"> & { handle: Handle } = {
    handle,
    allowHalfOpen: true,
    onread: {
      buffer: SHARED_BYTES,
      callback: (length) =>
        reads.reader === undefined
          ? socket.push(Buffer.from(SHARED_BYTES.subarray(0, length)))
          : reads.reader.read(SHARED_BYTES, length),
    },
  };
  // The handle belongs to one socket.
  parts._handle = null;
  const socket = new net.Socket(options as net.SocketConstructorOpts);
  return { socket, reads };
}
