/**
 * What runs of hooks have in common: where they come from, what they may return, and what is made of their failures.
 *
 * @module
 */
import { HoldfastError, messageOf } from "../errors.ts";
import type { Filter } from "./api.ts";

/** A filter with what its entry in the configuration said. */
export interface ChainLink {
  readonly name: string;
  readonly filter: Filter;
  readonly onError: "continue" | "fail";
  /** Time limit of an asynchronous `request` hook, in milliseconds. */
  readonly requestTimeoutMs: number;
}

/** What an exchange fails with after a plugin with `onError: "fail"` failed. */
export function pluginError(plugin: string, hook: string, error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const what = `plugin ${plugin} failed in ${hook}: ${messageOf(error)}`;
  return new HoldfastError("HF_PLUGIN_FAILED", what, { cause: error });
}

/** Whether it is something to be awaited. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** @throws TypeError when a hook that must be synchronous returned a promise; other values are ignored */
export function refusePromise(returned: unknown): void {
  if (returned === undefined || !isThenable(returned)) return;
  // Nobody waits for it, but its rejection must not end the process.
  Promise.resolve(returned).catch(() => {});
  throw new TypeError("returned a promise; of all hooks only request may be asynchronous");
}

/** @throws TypeError when it is no object */
export function asHooks<H extends object>(value: unknown): H {
  refusePromise(value);
  if (typeof value === "object" && value !== null) return value as H;
  throw new TypeError("must return an object of hooks or nothing");
}
