/**
 * A diagnosis as text: the chain, each link with what holds on it, then every finding.
 *
 * @module
 */
import type { Diagnosis } from "./diagnose.ts";
import type { Finding } from "./finding.ts";
import { effectiveIdleMs, isKept, type Link, type Side } from "./hop.ts";
import { shown } from "./shown.ts";

/** Lines of one chain. */
export function drawn({ chain, links, findings, unknown }: Diagnosis): string[] {
  const lines: string[] = [];
  const first = chain.find((hop) => hop.kind === "http");
  if (first?.kind === "http") lines.push(first.name);
  for (const link of links) lines.push(...drawnLink(link, findings), link.after.name);
  const told = findings.flatMap((finding, index) => ["", ...drawnFinding(finding, index + 1)]);
  const unknownLines = unknown.map(({ hop, what }) => `not known: ${hop}: ${what}`);
  return [
    ...lines.map((line) => `  ${line}`),
    ...told,
    ...(unknownLines.length > 0 ? ["", ...unknownLines] : []),
    "",
    verdict(findings.length, unknown.length),
  ];
}

function verdict(findings: number, unknown: number): string {
  if (findings > 0) return findings === 1 ? "1 fault" : `${findings} faults`;
  return unknown > 0 ? "no faults in what is known" : "no faults";
}

function drawnLink(link: Link, findings: readonly Finding[]): string[] {
  const marks = findings.flatMap(({ link: at }, index) => (at === link.index ? [index + 1] : []));
  const devices = link.devices.map(
    ({ name, forgetsMs }) => `  ┆   ${name}: forgets idle connections after ${shown(forgetsMs)}`,
  );
  return [
    `  │ ${sendsText(link)}`,
    ...notes(link.upstream),
    ...devices,
    `  ${marks.length === 0 ? "│" : `✗ fault ${marks.join(" and ")}`}`,
    `  │ ${takesText(link)}`,
    ...notes(link.downstream),
  ];
}

function notes(side: Side | undefined): string[] {
  return (side?.notes ?? []).map((note) => `  │   ${note}`);
}

function sendsText(link: Link): string {
  const { upstream } = link;
  if (upstream === undefined) return "nothing is known of how it sends";
  if (!upstream.keepAlive) return "opens a connection for each request";
  if (upstream.idleMs === undefined) return "nobody knows how long it keeps idle connections";
  const idleMs = effectiveIdleMs(link);
  const parts = [
    idleMs === Number.POSITIVE_INFINITY
      ? "sends on connections however long they were idle"
      : `sends on connections idle up to ${shown(idleMs)}`,
  ];
  if (Number.isFinite(upstream.maxRequests)) parts.push(`for ${upstream.maxRequests} requests`);
  if (Number.isFinite(upstream.maxAgeMs)) parts.push(`up to ${shown(upstream.maxAgeMs)} old`);
  if (Number.isFinite(upstream.tcpKeepAliveMs)) parts.push(`TCP keepalive ${shown(upstream.tcpKeepAliveMs)}`);
  return parts.join(", ");
}

const WITHOUT_A_WORD = " without a word";

function takesText(link: Link): string {
  const { downstream, rttMs } = link;
  const far = rttMs === undefined ? "" : `, ${shown(rttMs)} away`;
  if (downstream === undefined) return `nothing is known of how it keeps connections${far}`;
  if (!downstream.keepAlive || !isKept(link)) return `connections end with each response${far}`;
  if (downstream.idleMs === undefined) return `nobody knows how long it keeps idle connections${far}`;
  const idle = downstream.isAtLeast ? `${shown(downstream.idleMs)} or more` : shown(downstream.idleMs);
  const parts = [
    downstream.idleMs === Number.POSITIVE_INFINITY
      ? "never closes idle connections"
      : `closes connections idle for ${idle}`,
  ];
  if (downstream.announcedMs !== undefined) {
    parts.push(`says ${shown(downstream.announcedMs)}${downstream.announcesIfAsked ? " if asked" : ""}`);
  }
  const { maxRequests, maxAgeMs, announcesEnd, announcesAge = announcesEnd } = downstream;
  if (Number.isFinite(maxRequests)) parts.push(`after ${maxRequests} requests${announcesEnd ? "" : WITHOUT_A_WORD}`);
  if (Number.isFinite(maxAgeMs)) parts.push(`at ${shown(maxAgeMs)} of age${announcesAge ? "" : WITHOUT_A_WORD}`);
  if (Number.isFinite(downstream.tcpKeepAliveMs)) parts.push(`TCP keepalive ${shown(downstream.tcpKeepAliveMs)}`);
  return parts.join(", ") + far;
}

function drawnFinding({ rule, between, wrong, symptom, often, fixes }: Finding, number: number): string[] {
  const change = fixes.map(({ hop, setting }, index) => `   ${index === 0 ? "change " : "or     "} ${hop}: ${setting}`);
  return [
    `${number}. ${rule}, between ${between[0]} and ${between[1]}`,
    `   wrong   ${wrong}`,
    `   users   ${symptom}`,
    `   often   ${often}`,
    ...(change.length > 0 ? change : ["   change  neither side has a setting for it"]),
  ];
}
