/**
 * What is on the way must not forget a connection before its ends do.
 *
 * @module
 */
import { lossesText } from "./expectation.ts";
import { type Circumstances, finding, fix, type Judgement, type Rule, SOUND } from "./finding.ts";
import { type Device, effectiveIdleMs, isKept, type Link } from "./hop.ts";
import { shown } from "./shown.ts";

/** How long the ends keep an idle connection, at most. */
function longestIdleMs(link: Link): number {
  const { downstream } = link;
  const closesMs = downstream === undefined || downstream.isAtLeast ? undefined : downstream.idleMs;
  return Math.min(effectiveIdleMs(link) ?? Number.POSITIVE_INFINITY, closesMs ?? Number.POSITIVE_INFINITY);
}

/** Whether either end's limit is known at all. */
function isKnown(link: Link): boolean {
  return link.upstream?.idleMs !== undefined || link.downstream?.idleMs !== undefined;
}

/** When the first TCP keepalive probe of either end goes over the link. */
function firstProbeMs({ upstream, downstream }: Link): number {
  return Math.min(
    upstream?.tcpKeepAliveMs ?? Number.POSITIVE_INFINITY,
    downstream?.tcpKeepAliveMs ?? Number.POSITIVE_INFINITY,
  );
}

/** The devices that forget first, when no probe comes in time. */
function forgetful(link: Link): Device[] {
  if (!isKept(link) || !isKnown(link)) return [];
  return link.devices.filter(({ forgetsMs }) => longestIdleMs(link) >= forgetsMs && firstProbeMs(link) >= forgetsMs);
}

function symptom({ resets }: Device): string {
  return resets
    ? "connection reset for the first request after the pause"
    : "the request hangs: nothing answers until a response timeout, or until TCP gives up after minutes (about 15 on Linux)";
}

function judgement(
  link: Link,
  device: Device,
  rule: Rule["name"],
  wrong: string,
  circumstances: Circumstances,
): Judgement {
  const { before, after } = link;
  const inTimeMs = Math.floor(device.forgetsMs / 2000) * 1000;
  const leaveMs = device.forgetsMs - Math.min(5000, device.forgetsMs / 10);
  return finding(link, {
    rule,
    wrong,
    symptom: symptom(device),
    often: lossesText(circumstances, device.forgetsMs),
    fixes: [
      ...fix(before, "upstreamTcpKeepAlive", inTimeMs),
      ...fix(after, "downstreamTcpKeepAlive", inTimeMs),
      ...fix(before, "upstreamIdle", leaveMs),
      ...fix(device, "forgets", longestIdleMs(link) + 10_000),
    ],
  });
}

function all(judgements: readonly Judgement[]): Judgement {
  return judgements.length === 0 ? SOUND : { findings: judgements.flatMap(({ findings }) => findings), unknown: [] };
}

/** No end probes at all. */
export const pathForgets: Rule = {
  name: "path-forgets",
  doc: "A device on the way (NAT, firewall, layer-4 load balancer) remembers an idle connection for longer than its ends keep it, or TCP keepalive reminds it.",
  judge(link, circumstances) {
    if (firstProbeMs(link) !== Number.POSITIVE_INFINITY) return SOUND;
    return all(
      forgetful(link).map((device) =>
        judgement(
          link,
          device,
          "path-forgets",
          `${device.name} forgets idle connections after ${shown(device.forgetsMs)}; ${link.before.name} and ${link.after.name} keep them ${shown(longestIdleMs(link))} without TCP keepalive`,
          circumstances,
        ),
      ),
    );
  },
};

/** Some end probes, but not in time. */
export const tcpKeepaliveTooLate: Rule = {
  name: "tcp-keepalive-too-late",
  doc: "Where connections rely on TCP keepalive, its first probe comes before any device on the way forgets them.",
  judge(link, circumstances) {
    const probeMs = firstProbeMs(link);
    if (probeMs === Number.POSITIVE_INFINITY) return SOUND;
    return all(
      forgetful(link).map((device) =>
        judgement(
          link,
          device,
          "tcp-keepalive-too-late",
          `the first TCP keepalive probe comes after ${shown(probeMs)}, but ${device.name} forgets idle connections after ${shown(device.forgetsMs)}`,
          circumstances,
        ),
      ),
    );
  },
};
