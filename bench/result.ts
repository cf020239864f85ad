/**
 * The result of a run, as it is written to JSON.
 *
 * @module
 */
import type { Machine } from "./machine.ts";
import type { Reached } from "./reach.ts";
import type { ScenarioResult } from "./scenarios/scenario.ts";

export interface Result {
  /** Day of the run, `2026-01-31`. */
  readonly day: string;
  readonly machine: Machine;
  /** Which cores run what, in words. */
  readonly pinning: string;
  readonly origin: string;
  readonly load: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly quick: boolean;
  /** Peers that were measured, with their versions. */
  readonly peers: readonly { readonly name: string; readonly version: string }[];
  /** Peers that were not, and why; and other things that a reader must know. */
  readonly notes: readonly string[];
  readonly scenarios: readonly ScenarioResult[];
  readonly reached: readonly Reached[];
  /** What must not happen and did. */
  readonly problems: readonly string[];
}
