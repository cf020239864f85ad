/**
 * What the figures were measured on.
 *
 * @module
 */
import os from "node:os";

/** A machine, in words that say how fast it is and not which one it is. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  /** Kernel, by its first two numbers. */
  readonly kernel: string;
  readonly node: string;
}

/** This machine. */
export function describeMachine(): Machine {
  const [major, minor] = os.release().split(".");
  return {
    cpu: os.cpus()[0]?.model.trim() ?? os.arch(),
    cores: os.cpus().length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${major}.${minor}`,
    node: process.versions.node,
  };
}
