/**
 * What the demo shows while it runs: a block of lines that is drawn anew in place on a terminal, and one line for each
 * new phase elsewhere.
 *
 * @module
 */
import { styleText } from "node:util";
import type { Phase } from "./traffic.ts";

/** Time between two drawings. */
const REDRAW_MS = 500;
/** Size of a terminal that does not tell its own. */
const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;

/** A terminal, or what stands for one. */
export type Terminal = Pick<NodeJS.WriteStream, "write" | "columns" | "rows">;

/** Lines that stay where they are and are drawn anew. */
export class Block {
  readonly #terminal: Terminal;
  #height = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Draws lines in place of the ones drawn before. They are cut to the terminal's width and height. */
  draw(lines: readonly string[]): void {
    // Terminals whose size nobody set report 0 of both: serial lines, some containers.
    const columns = this.#terminal.columns || DEFAULT_COLUMNS;
    const rows = this.#terminal.rows || DEFAULT_ROWS;
    // The cursor ends on a line of its own. A line as wide as the terminal would wrap.
    const shown = lines.slice(0, Math.max(1, rows - 1)).map((line) => line.slice(0, Math.max(1, columns - 1)));
    const text = shown.map((line) => `${line}\x1b[K\n`).join("");
    this.#terminal.write(`${this.#up()}${text}\x1b[J`);
    this.#height = shown.length;
  }

  /** Takes the lines away. */
  clear(): void {
    this.#terminal.write(`${this.#up()}\x1b[J`);
    this.#height = 0;
  }

  #up(): string {
    return this.#height === 0 ? "" : `\x1b[${this.#height}A\r`;
  }
}

/** A {@link Block} that is drawn anew twice a second. */
export class LiveBlock {
  readonly #block: Block;
  readonly #lines: () => Promise<readonly string[]>;
  readonly #timer: NodeJS.Timeout;
  #ended = false;

  /** @param lines - makes what is shown */
  constructor(terminal: Terminal, lines: () => Promise<readonly string[]>) {
    this.#block = new Block(terminal);
    this.#lines = lines;
    this.#timer = setInterval(() => void this.#redraw(), REDRAW_MS);
  }

  /** Takes the lines away; nothing is drawn any more. */
  end(): void {
    this.#ended = true;
    clearInterval(this.#timer);
    this.#block.clear();
  }

  async #redraw(): Promise<void> {
    // A sidecar that does not answer now may answer the next time.
    const lines = await this.#lines().catch(() => undefined);
    if (lines !== undefined && !this.#ended) this.#block.draw(lines);
  }
}

/** `[████████············]  8.4 of 20 s  pause of 6 s` */
export function progress(elapsedMs: number, seconds: number, phase: Phase): string {
  const width = 20;
  const done = Math.round(Math.min(1, elapsedMs / 1000 / seconds) * width);
  const bar = "█".repeat(done) + "·".repeat(width - done);
  return `[${bar}] ${(elapsedMs / 1000).toFixed(1).padStart(5)} of ${seconds} s  ${phaseText(phase)}`;
}

/** `  8.4 s  pause of 6 s` */
export function phaseLine(elapsedMs: number, phase: Phase): string {
  return `${(elapsedMs / 1000).toFixed(1).padStart(5)} s  ${phaseText(phase)}`;
}

function phaseText(phase: Phase): string {
  switch (phase.kind) {
    case "calls":
      return "calls";
    case "pause":
      return `pause of ${phase.pauseMs / 1000} s`;
  }
}

/** Bold on a terminal that shows it; plain elsewhere and with `NO_COLOR`. */
export function bold(text: string, stream: NodeJS.WriteStream): string {
  return styleText("bold", text, { stream });
}
