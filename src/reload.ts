/**
 * Another configuration for a running sidecar: all of it, or nothing.
 *
 * @module
 */
import { ConfigError, faultText } from "./config/faults.ts";
import type { EffectiveValue } from "./config/load.ts";
import { HoldfastError } from "./errors.ts";
import type { Loaded } from "./load.ts";
import type { Logger } from "./plugin/api.ts";
import { withTimeLimit } from "./plugin/time-limit.ts";

/** Who asked for it. */
export type ReloadTrigger = "SIGHUP" | "admin" | "file";

/**
 * `applied`: the configuration is in force. Everything else changed nothing:
 * `invalid`: the file, or the environment, has faults. `failed`: a plugin could not be set up, or an address not bound.
 * `needs_restart`: what is different cannot be changed while the process runs. `draining`: the sidecar is going away.
 */
export type ReloadResult = "applied" | "invalid" | "failed" | "needs_restart" | "draining";

/** What became of a reload. */
export interface ReloadReport {
  readonly result: ReloadResult;
  readonly trigger: ReloadTrigger;
  /** When it was over: milliseconds since the Unix epoch. */
  readonly atEpochMs: number;
  /** Keys with another value than before, as far as the file could be read. */
  readonly changed: readonly string[];
  /** Why nothing was changed, a line each; empty when it was applied. */
  readonly faults: readonly string[];
}

/** What a reload works on. */
export interface ReloadOptions {
  /** Reads the configuration anew. @throws ConfigError with every fault */
  readonly load: () => Promise<Loaded>;
  readonly current: () => Loaded;
  readonly isRunning: () => boolean;
  /** Puts it into force, or throws and changes nothing. */
  readonly adopt: (next: Loaded) => Promise<void>;
  /** Told of each reload when it is over. */
  readonly onOver: (report: ReloadReport) => void;
  readonly log: Pick<Logger, "info" | "error">;
}

/** How long reading may take, in milliseconds: a plugin's module may never be done with loading. */
const LOAD_TIMEOUT_MS = 30_000;

/** What can change while the process runs; of a key that is not known here, nobody knows that. */
const CHANGES_LIVE = /^(?:inbound|outbound|backends|plugins|limits|forwarding|log|drain|reload)(?:[.[]|$)/;

/** The reloads of one sidecar, one after the other. */
export class Reload {
  readonly #options: ReloadOptions;
  #running: Promise<unknown> = Promise.resolve();
  /** Asked for and not begun: it reads what is there when it begins, so whoever asks meanwhile is served by it too. */
  #waiting: Promise<ReloadReport> | undefined;
  #last: ReloadReport | undefined;

  constructor(options: ReloadOptions) {
    this.#options = options;
  }

  /** The last one that is over. */
  get last(): ReloadReport | undefined {
    return this.#last;
  }

  /** Never rejects: what went wrong is in the report. */
  run(trigger: ReloadTrigger): Promise<ReloadReport> {
    if (this.#waiting !== undefined) return this.#waiting;
    const report = this.#running.then(() => {
      this.#waiting = undefined;
      return this.#attempt(trigger);
    });
    this.#waiting = report;
    this.#running = report;
    return report;
  }

  async #attempt(trigger: ReloadTrigger): Promise<ReloadReport> {
    const { onOver, log } = this.#options;
    const outcome = await this.#outcome();
    const report: ReloadReport = { ...outcome, trigger, atEpochMs: Date.now() };
    this.#last = report;
    const { result, changed, faults } = report;
    if (result === "applied") {
      const { length } = changed;
      const what = length === 0 ? "nothing is" : length === 1 ? "1 key is" : `${length} keys are`;
      log.info({ trigger, changed }, `reloaded: ${what} different`);
    } else {
      log.error({ trigger, result, faults }, `not reloaded, the configuration before stays: ${faults.join("; ")}`);
    }
    onOver(report);
    return report;
  }

  async #outcome(): Promise<Pick<ReloadReport, "result" | "changed" | "faults">> {
    const { load, current, adopt } = this.#options;
    if (!this.#options.isRunning()) return drainingOutcome([]);
    let next: Loaded;
    try {
      next = await withTimeLimit(load(), LOAD_TIMEOUT_MS, () => new Error("reading it took over 30 s"));
    } catch (error) {
      return { result: "invalid", changed: [], faults: linesOf(error) };
    }
    const changed = changedKeys(current().loaded.values, next.loaded.values);
    const needRestart = changed.filter((key) => !CHANGES_LIVE.test(key));
    for (const direction of ["inbound", "outbound"] as const) {
      const before = current().loaded.config[direction];
      if ((before === undefined) !== (next.loaded.config[direction] === undefined)) needRestart.push(direction);
    }
    if (needRestart.length > 0) {
      const faults = needRestart.map((key) => `${key}: another value needs a restart`);
      return { result: "needs_restart", changed, faults };
    }
    try {
      await adopt(next);
    } catch (error) {
      return this.#options.isRunning()
        ? { result: "failed", changed, faults: linesOf(error) }
        : drainingOutcome(changed);
    }
    return { result: "applied", changed, faults: [] };
  }
}

function drainingOutcome(changed: readonly string[]): Pick<ReloadReport, "result" | "changed" | "faults"> {
  return { result: "draining", changed, faults: ["the sidecar is draining"] };
}

function linesOf(error: unknown): string[] {
  if (error instanceof ConfigError) return error.faults.map(faultText);
  if (error instanceof HoldfastError) return error.message.split("\n");
  return [error instanceof Error ? error.message : String(error)];
}

/** Keys whose values are not the same, in the order of the configuration. */
function changedKeys(before: readonly EffectiveValue[], after: readonly EffectiveValue[]): string[] {
  const texts = (values: readonly EffectiveValue[]): Map<string, string> =>
    new Map(values.map(({ key, value }) => [key, JSON.stringify(value) ?? ""]));
  const [old, now] = [texts(before), texts(after)];
  return [...new Set([...now.keys(), ...old.keys()])].filter((key) => old.get(key) !== now.get(key));
}
