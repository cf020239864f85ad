/**
 * Going away without losing anything: the order of steps for a whole sidecar.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { DrainConfig } from "../config/sidecar-config.ts";
import type { ProxyDirection } from "./direction.ts";

/** How a drain ended. */
export interface Drained {
  /** Exchanges that had to be cut because the deadline came. */
  readonly cut: number;
}

/**
 * Inbound responses say `Connection: close`; idle inbound connections get a grace, so that a request already on its
 * way still finds us; then inbound closes. Outbound works until inbound is done, because the service may still need it
 * to finish its answers. One deadline for all.
 *
 * @param force - resolves to end the waiting now
 */
export async function drainDirections(
  inbound: ProxyDirection | undefined,
  outbound: ProxyDirection | undefined,
  { deadlineMs, idleGraceMs }: DrainConfig,
  force: Promise<void>,
): Promise<Drained> {
  const deadline = new AbortController();
  const over = Promise.race([sleep(deadlineMs, undefined, { signal: deadline.signal }).catch(() => {}), force]);
  const orOver = (step: Promise<unknown>): Promise<unknown> => Promise.race([step, over]);

  inbound?.announceDrain();
  if (inbound !== undefined) {
    await orOver(sleep(idleGraceMs, undefined, { signal: deadline.signal }).catch(() => {}));
    await orOver(inbound.drain());
  }
  const cutInbound = inbound?.cut() ?? 0;
  if (outbound !== undefined) await orOver(outbound.drain());
  const cutOutbound = outbound?.cut() ?? 0;
  deadline.abort();
  return { cut: cutInbound + cutOutbound };
}
