/**
 * The numbers of a preset for people: in `holdfast doctor --presets` and in docs/commands/doctor.md.
 *
 * @module
 */

import type { Side } from "./hop.ts";
import type { Preset } from "./preset.ts";
import { shown } from "./shown.ts";

/** What a preset does with incoming connections, or with those that it follows; empty when it has none. */
export function incomingText({ device, downstream }: Preset): string {
  if (device === undefined) return sideText(downstream);
  return `forgets after ${shown(device.forgetsMs)}, ${device.resets ? "then answers with RST" : "silently"}`;
}

/** What a preset does with outgoing connections; empty when it has none. */
export function outgoingText({ upstream, deregistrationMs }: Preset): string {
  const delay = deregistrationMs === undefined ? "" : `; deregistration ${shown(deregistrationMs)}`;
  return `${sideText(upstream)}${delay}`;
}

function sideText(side: Partial<Side> | undefined): string {
  if (side === undefined) return "";
  if (side.keepAlive === false) return "not kept";
  const { idleMs, maxRequests, maxAgeMs, tcpKeepAliveMs } = side;
  return [
    idleMs === undefined ? "unknown" : idleMs === Number.POSITIVE_INFINITY ? "no idle limit" : `idle ${shown(idleMs)}`,
    ...(maxRequests === undefined ? [] : [`${maxRequests} requests`]),
    ...(maxAgeMs === undefined ? [] : [`age ${shown(maxAgeMs)}`]),
    ...(tcpKeepAliveMs === undefined ? [] : [`TCP keepalive ${shown(tcpKeepAliveMs)}`]),
  ].join(", ");
}
