/**
 * What the admin API needs from the sidecar, and nothing more.
 *
 * @module
 */
import type { EffectiveValue } from "../config/load.ts";
import type { SidecarConfig } from "../config/sidecar-config.ts";
import type { Callers } from "../learning/callers.ts";
import type { LearnedOrigin } from "../learning/origin.ts";
import type { PoolAdvice } from "../learning/pool-size.ts";
import type { Connection, Direction, Pool } from "../plugin/api.ts";
import type { Backends } from "../proxy/backends.ts";

/**
 * `starting`: listeners are not up yet. `running`. `draining`: finishes what it carries, takes nothing new for long.
 * `stopped`: all is closed.
 */
export type SidecarState = "starting" | "running" | "draining" | "stopped";

/** Level of the process's own log. */
export type LogLevel = SidecarConfig["log"]["level"];

/** A plugin as configured and running. */
export interface PluginView {
  readonly name: string;
  readonly description: string;
  /** Entry's `use`: what was asked for. */
  readonly use: string;
  readonly directions: readonly Direction[];
  readonly onError: "continue" | "fail";
  /** Its configuration with defaults filled in. */
  readonly config: readonly EffectiveValue[];
}

/** What became of a reload. */
export interface ReloadView {
  /** All but `applied` changed nothing. */
  readonly result: "applied" | "invalid" | "failed" | "needs_restart" | "draining";
  readonly trigger: "SIGHUP" | "admin" | "file";
  /** When it was over: milliseconds since the Unix epoch. */
  readonly atEpochMs: number;
  /** Keys with another value than before. */
  readonly changed: readonly string[];
  /** Why nothing was changed, a line each. */
  readonly faults: readonly string[];
}

/** A metrics page ready to send. */
export interface MetricsText {
  /** Value for `Content-Type`. */
  readonly contentType: string;
  readonly body: string;
}

/** The pool of one origin, in one direction. */
export interface OriginView extends Pool {
  readonly direction: Direction;
  readonly open: ReadonlySet<Connection>;
  /** Connections that are left alone to see when the origin closes them. */
  readonly watched: number;
  readonly learned: LearnedOrigin;
  readonly idleKept: number;
  readonly advice: PoolAdvice | undefined;
}

/** The sidecar as the admin API sees it. Everything is read anew for each request. */
export interface SidecarView {
  readonly service: string;
  /** Holdfast's version. */
  readonly version: string;
  /** Milliseconds since the Unix epoch. */
  readonly startedAtEpochMs: number;
  readonly state: SidecarState;
  /** Whether new requests are welcome: `running`, and every listener is up. */
  ready(): boolean;
  /** Open connections, both directions and sides. */
  connections(): Iterable<Connection>;
  /** Pools of both directions. */
  pools(): Iterable<Pool>;
  /** Pools with what was learned of their origins. */
  origins(): Iterable<OriginView>;
  /** What was learned of those who call, per direction. */
  callers(): Iterable<readonly [direction: Direction, callers: Callers]>;
  /** In the order of the configuration. */
  readonly plugins: readonly PluginView[];
  /** The effective configuration. */
  readonly values: readonly EffectiveValue[];
  /** Assigning it takes effect at once. */
  logLevel: LogLevel;
  /**
   * Drains inbound and leaves outbound open until a signal or the deadline. Later calls change nothing. Settles when all
   * is closed.
   */
  drain(): Promise<unknown>;
  /** Reads the configuration anew and puts it into force, or changes nothing. Never rejects. */
  reload(): Promise<ReloadView>;
  /** The last reload that is over, whoever asked for it. */
  readonly lastReload: ReloadView | undefined;
  readonly backends: Backends;
  /** Every metric in Prometheus' text format; `undefined` when `telemetry.metrics.prometheus` is off. */
  prometheusText(): Promise<MetricsText | undefined>;
}
