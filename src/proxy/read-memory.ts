/**
 * Memory that plain sockets are read into: one piece for all heads and small messages, and pieces for long bodies, each
 * of which is one connection's until what was read into it has left.
 *
 * @module
 */

/** One read of any plain socket; what is read is consumed or copied before the next. */
export const SHARED_BYTES: Buffer = Buffer.allocUnsafeSlow(65_536);

/** Larger ones save calls to the kernel, but leave the caches of the CPU. */
const BODY_BYTES = 131_072;
/** Pieces kept for the next long bodies: what more of them needed is collected. */
const MAX_FREE = 32;

const free: Buffer[] = [];

/** A piece for the body that one connection reads. */
export function takeBodyMemory(): Buffer {
  return free.pop() ?? Buffer.allocUnsafeSlow(BODY_BYTES);
}

/** Nothing refers to the piece any more. */
export function returnBodyMemory(memory: Buffer): void {
  if (free.length < MAX_FREE) free.push(memory);
}
