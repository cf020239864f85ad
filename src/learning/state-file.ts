/**
 * Keeps what was learned in a file, so that a restart goes on from it.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import type { Learning } from "./learning.ts";
import { decodeState, encodeState, type Moment } from "./state.ts";

/** Where warnings go. */
export interface StateLog {
  warn(fields: object, message: string): void;
}

/** How often it is written, in milliseconds. */
const SAVE_INTERVAL_MS = 60_000;

/** The file of one process. */
export class StateFile {
  readonly #file: string;
  readonly #learning: Learning;
  readonly #log: StateLog;
  #savedAtMs: number;
  #saved = "";
  #saving: Promise<void> | undefined;
  #failed = false;

  /** @param file - its absolute path */
  constructor(file: string, learning: Learning, log: StateLog) {
    this.#file = file;
    this.#learning = learning;
    this.#log = log;
    this.#savedAtMs = performance.now();
  }

  /** Reads it. A file that is not there is none yet; one that cannot be used is left alone until the next save. */
  load(): void {
    const file = this.#file;
    try {
      const text = readFileSync(file, "utf8");
      const at = now();
      this.#learning.restore(decodeState(text, at), at.nowMs);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      const why = (error as Error).message;
      this.#log.warn(
        { file },
        `learning.stateFile cannot be used and is ignored: ${why}; it is written anew, remove it if this comes back`,
      );
    }
  }

  /** Writes it now and then. */
  sweep(nowMs: number): void {
    if (nowMs - this.#savedAtMs >= SAVE_INTERVAL_MS) void this.save();
  }

  /** Writes it, whole or not at all, if anything is different. Never rejects: that is logged, once until it works again. */
  save(): Promise<void> {
    this.#savedAtMs = performance.now();
    this.#saving ??= this.#write().finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  async #write(): Promise<void> {
    const at = now();
    const origins = Array.from(this.#learning, ([name, { memory }]) => [name, memory] as const);
    const unchanged = JSON.stringify(origins);
    if (unchanged === this.#saved) return;
    const file = this.#file;
    const unfinished = `${file}.${process.pid}.new`;
    try {
      await writeFile(unfinished, encodeState(origins, at), { mode: 0o600 });
      await rename(unfinished, file);
      this.#saved = unchanged;
      this.#failed = false;
    } catch (error) {
      await rm(unfinished, { force: true }).catch(() => {});
      if (this.#failed) return;
      this.#failed = true;
      const why = (error as Error).message;
      this.#log.warn(
        { file },
        `what was learned is not kept: ${why}; make the folder of learning.stateFile writable, or leave the key out`,
      );
    }
  }
}

function now(): Moment {
  return { nowMs: performance.now(), epochMs: Date.now() };
}
