/**
 * Where log lines go. Writing never waits and never throws: what a slow reader or a full disk does not take is dropped
 * and counted.
 *
 * pino's own destination is not used because it keeps a full buffer for ever once a write failed, and because its
 * write to a pipe that nobody reads holds a thread that keeps the process from exiting.
 *
 * @module
 */
import { constants, fstatSync, openSync, write } from "node:fs";
import { Socket } from "node:net";

/** Takes lines of a log. */
export interface LogDestination {
  /** Takes a line that ends in a line break. */
  write(line: string): void;
  /** Resolves when everything taken so far is written or dropped, or after a time in milliseconds. */
  flush(timeoutMs: number): Promise<void>;
  /** Lines dropped so far. */
  readonly dropped: number;
}

/** Characters that may wait; beyond it lines are dropped. */
const MOST_WAITING = 1024 * 1024;

/** Opens the destination behind a file descriptor: a pipe, a socket, a file or a terminal. */
export function openLogDestination(fd: number): LogDestination {
  const kind = fstatSync(fd);
  if (kind.isFIFO()) return new StreamDestination(ownPipe(fd));
  if (kind.isSocket()) return new StreamDestination(fd);
  return new FileDestination(fd);
}

/**
 * The same pipe, opened once more where the system allows it: that it does not block is then a property of ours alone,
 * and not of every process that has the pipe as its output.
 */
function ownPipe(fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return fd;
  }
}

/** A pipe or socket, which does not block. */
class StreamDestination implements LogDestination {
  readonly #stream: Socket;
  #dropped = 0;

  constructor(fd: number) {
    this.#stream = new Socket({ fd, readable: false, writable: true });
    this.#stream.unref();
    // The reader is gone; every later line is dropped below.
    this.#stream.on("error", () => {});
  }

  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    if (!this.#stream.writable || this.#stream.writableLength > MOST_WAITING) {
      this.#dropped++;
      return;
    }
    this.#stream.write(line, (error) => {
      if (error) this.#dropped++;
    });
  }

  flush(timeoutMs: number): Promise<void> {
    return within(timeoutMs, (done) => {
      if (this.#stream.writable) this.#stream.write("", () => done());
      else done();
    });
  }
}

/** A file or terminal: written by a thread, one piece at a time. */
class FileDestination implements LogDestination {
  readonly #fd: number;
  #waiting: string[] = [];
  #waitingLength = 0;
  #writing = false;
  #dropped = 0;
  readonly #whenEmpty: (() => void)[] = [];

  constructor(fd: number) {
    this.#fd = fd;
  }

  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    if (this.#waitingLength > MOST_WAITING) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(line);
    this.#waitingLength += line.length;
    if (!this.#writing) this.#next();
  }

  #next(): void {
    if (this.#waiting.length === 0) {
      for (const resolve of this.#whenEmpty.splice(0)) resolve();
      return;
    }
    const lines = this.#waiting;
    this.#waiting = [];
    this.#waitingLength = 0;
    this.#put(Buffer.from(lines.join("")), lines.length);
  }

  #put(piece: Buffer, lines: number): void {
    this.#writing = true;
    write(this.#fd, piece, (error, written) => {
      if (!error && written < piece.length) {
        this.#put(piece.subarray(written), lines);
        return;
      }
      // The disk may have room again for the next piece.
      if (error) this.#dropped += lines;
      this.#writing = false;
      this.#next();
    });
  }

  flush(timeoutMs: number): Promise<void> {
    return within(timeoutMs, (done) => {
      if (this.#writing) this.#whenEmpty.push(done);
      else done();
    });
  }
}

/** Resolves when `begin` calls its argument, or after a time. */
function within(timeoutMs: number, begin: (done: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, timeoutMs);
    begin(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
