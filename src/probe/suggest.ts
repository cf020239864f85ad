/**
 * What to write into sidecar.json after a probe.
 *
 * @module
 */
import { formatDuration } from "../config/units.ts";
import { hostField, type Peer, parsePeer, serverName } from "./peer.ts";
import type { BackendLines, IdleMeasured, ProbeResult, SidecarLines } from "./result.ts";

/** The longest margin below a limit; as the `margin` of the idle-timeout plugin. */
const MOST_MARGIN_MS = 5000;
const LEAST_MARGIN_MS = 100;
/** The longest TCP keepalive time for a path that forgets connections. */
const FORGETFUL_PATH_MS = 30_000;

/**
 * How long a connection may be idle when its peer closes it after `limitMs`: a tenth less, but between 100 ms and 5 s,
 * and by more where the limit varies or the way is long; never below half of it.
 *
 * @param limitMs - the shortest limit that was seen or advertised
 * @param spreadMs - how far the limits that were seen are apart
 * @param roundTripMs - to the peer
 */
export function leaveBefore(limitMs: number, spreadMs: number, roundTripMs: number): number {
  const ordinaryMs = Math.min(MOST_MARGIN_MS, Math.max(LEAST_MARGIN_MS, limitMs / 10));
  const marginMs = Math.max(ordinaryMs, 2 * roundTripMs, Math.min(spreadMs, limitMs / 10));
  const ms = Math.max(limitMs - marginMs, limitMs / 2);
  const stepMs = ms >= 10_000 ? 1000 : ms >= 1000 ? 100 : 1;
  return Math.floor(ms / stepMs) * stepMs;
}

/**
 * A sidecar.json in which what was probed are backends.
 *
 * @param ca - path of the file with the authorities that were trusted
 * @returns `null` when no peer answered
 */
export function suggestLines(results: readonly ProbeResult[], ca?: string): SidecarLines | null {
  const answered = results.filter(({ status }) => status !== null);
  if (answered.length === 0) return null;
  const routes = new Map<string, string>();
  const backends = new Map<string, BackendLines>();
  for (const [peer, same] of byOrigin(answered)) {
    const { origin } = peer;
    const plain = hostField(peer);
    // The same name over HTTP and HTTPS: only a port tells them apart.
    const host = routes.has(plain) ? `${serverName(peer) ?? plain}:${origin.port}` : plain;
    let name = host.replace(/[^A-Za-z0-9.-]+/g, "-").replace(/^-+|-+$/g, "");
    while (backends.has(name)) name += "-2";
    routes.set(host, name);
    backends.set(name, {
      // Who gave a name means all that stand behind it.
      address: serverName(peer) ?? origin.host,
      port: origin.port,
      ...(origin.scheme === "https" && { tls: ca === undefined ? (true as const) : { ca } }),
      ...keepaliveTime(same),
      ...tcpKeepalive(same),
    });
  }
  const most = answered.flatMap(({ requests }) => (requests?.end === "unannounced" ? [requests.answered] : []));
  const config = most.length === 0 ? undefined : { upstream: { maxRequests: Math.max(1, Math.min(...most)) } };
  return {
    service: "my-service",
    outbound: { routes: Array.from(routes, ([host, upstream]) => ({ host, upstream })) },
    backends: Object.fromEntries(backends),
    plugins: [
      { use: "keep-alive", ...(config !== undefined && { config }) },
      { use: "tcp-keepalive" },
      { use: "idle-timeout" },
    ],
  };
}

/** Results of one origin together: its URLs, or the instances behind its name, may have been probed one by one. */
function byOrigin(results: readonly ProbeResult[]): [Peer, ProbeResult[]][] {
  const found = new Map<string, [Peer, ProbeResult[]]>();
  for (const result of results) {
    const parsed = parsePeer(result.url, result.host ?? undefined);
    if ("wrong" in parsed) continue;
    const { scheme, host, port } = parsed.peer.origin;
    const key = `${scheme} ${result.host ?? host} ${port}`;
    const known = found.get(key);
    if (known === undefined) found.set(key, [parsed.peer, [result]]);
    else known[1].push(result);
  }
  return [...found.values()];
}

/** Whether connections were gone without a word. */
function isForgotten(idle: IdleMeasured): boolean {
  return idle.stillAnswers === false;
}

function tcpKeepalive(results: readonly ProbeResult[]): Pick<BackendLines, "tcpKeepalive"> {
  const waitedMs = results.flatMap(({ idle: { afterRequest } }) => {
    return afterRequest !== null && isForgotten(afterRequest) ? [afterRequest.waitedMs] : [];
  });
  if (waitedMs.length === 0) return {};
  // The kernel counts whole seconds.
  const ms = Math.max(1000, Math.min(FORGETFUL_PATH_MS, Math.floor(Math.min(...waitedMs) / 2000) * 1000));
  return { tcpKeepalive: { enable: true, time: formatDuration(ms) } };
}

function keepaliveTime(results: readonly ProbeResult[]): Pick<BackendLines, "keepaliveTime"> {
  const ms = Math.min(...results.map(leaveMs));
  return ms === Number.POSITIVE_INFINITY ? {} : { keepaliveTime: formatDuration(ms) };
}

/** Whether all that is known of when a peer closes is how long was waited. */
export function isOnlyWatched({ hint, idle: { afterRequest } }: ProbeResult): boolean {
  return (hint?.timeoutMs ?? null) === null && afterRequest?.shortestMs === null && !isForgotten(afterRequest);
}

/** When to leave an idle connection; `Infinity` when nothing was found out. */
function leaveMs({ hint, setup, idle: { afterRequest: idle } }: ProbeResult): number {
  const advertisedMs = hint?.timeoutMs ?? Number.POSITIVE_INFINITY;
  // What stayed open for as long as was waited may be kept that long, and nobody knows for how much longer.
  const seenMs = idle === null || isForgotten(idle) ? Number.POSITIVE_INFINITY : (idle.shortestMs ?? idle.waitedMs);
  const limitMs = Math.min(advertisedMs, seenMs);
  if (limitMs === Number.POSITIVE_INFINITY || limitMs <= 0) return Number.POSITIVE_INFINITY;
  const spreadMs = (idle?.longestMs ?? 0) - (idle?.shortestMs ?? 0);
  return leaveBefore(limitMs, spreadMs, setup?.tcpMs ?? 0);
}
