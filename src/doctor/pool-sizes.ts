/**
 * How many connections a running sidecar should keep to each origin, from its `GET /origins`.
 *
 * @module
 */
import { type PoolSizeBody, poolSizeText } from "../learning/pool-advice.ts";

/** One origin of a running sidecar. */
export interface PoolSize {
  /** Base URL of the sidecar's admin API. */
  readonly admin: string;
  readonly direction: string;
  readonly origin: string;
  /** Numbers that stand for "no limit" are `"off"`, as in the admin API. */
  readonly poolSize: Omit<PoolSizeBody, "idleKept"> & { readonly idleKept: number | "off" };
}

/**
 * Pool sizes in the body of `GET /origins`.
 *
 * @param admin - where the body is from
 * @throws TypeError when the body is something else
 */
export function poolSizes(admin: string, body: unknown): PoolSize[] {
  const { origins } = body as { readonly origins?: readonly Omit<PoolSize, "admin">[] };
  if (!Array.isArray(origins)) throw new TypeError("it does not list origins");
  return origins.map(({ direction, origin, poolSize }) => ({ admin, direction, origin, poolSize }));
}

/** Lines for people, none when there is no origin. */
export function poolSizeLines(pools: readonly PoolSize[]): string[] {
  if (pools.length === 0) return [];
  const lines = pools.map(({ direction, origin, poolSize }) => {
    const idleKept = poolSize.idleKept === "off" ? Number.POSITIVE_INFINITY : poolSize.idleKept;
    return `  ${origin} (${direction}): ${poolSizeText({ ...poolSize, idleKept })}`;
  });
  return ["connections to keep, from what the sidecar has measured:", ...lines];
}
