/**
 * How many connections a running sidecar should keep to each origin, from its `GET /origins`.
 *
 * @module
 */
import { poolSizeText } from "../learning/pool-advice.ts";
import { msOf, type OriginState } from "./running.ts";

/** One origin of a running sidecar, as its `GET /origins` lists it. */
export interface PoolSize extends OriginState {
  /** Base URL of the sidecar's admin API. */
  readonly admin: string;
}

/** Lines for people, none when there is no origin. */
export function poolSizeLines(pools: readonly PoolSize[]): string[] {
  if (pools.length === 0) return [];
  const lines = pools.map(({ direction, origin, backend, poolSize }) => {
    const name = backend === null ? origin : `${backend}, ${origin}`;
    return `  ${name} (${direction}): ${poolSizeText({ ...poolSize, idleKept: msOf(poolSize.idleKept) })}`;
  });
  return ["connections to keep, from what the sidecar has measured:", ...lines];
}
