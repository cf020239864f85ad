/**
 * A chain → everything that is wrong with it.
 *
 * @module
 */
import type { Circumstances, Finding, Rule, Unknown } from "./finding.ts";
import { type Hop, type Link, linksOf } from "./hop.ts";
import { keepAliveOff } from "./rules-distance.ts";
import { drainBelowDeregistration } from "./rules-drain.ts";
import { idleOrder } from "./rules-idle.ts";
import { maxAge, maxRequests } from "./rules-limits.ts";
import { pathForgets, tcpKeepaliveTooLate } from "./rules-path.ts";

/** Every rule, in the order in which findings of one link are told. */
export const RULES: readonly Rule[] = [
  idleOrder,
  pathForgets,
  tcpKeepaliveTooLate,
  maxRequests,
  maxAge,
  keepAliveOff,
  drainBelowDeregistration,
];

/** What is said of the traffic. */
export interface Traffic {
  /** Round trip of links that do not say their own. */
  readonly rttMs: number | undefined;
  /** Requests a second over each link; `undefined`: as measured, if a hop has measured them. */
  readonly requestsPerSecond: number | undefined;
  /** Connections that these requests share; `undefined`: as measured, or {@link CONNECTIONS}. */
  readonly connections: number | undefined;
}

/** Connections that requests share where nobody says. */
const CONNECTIONS = 10;

/** What was found about a chain. */
export interface Diagnosis {
  readonly chain: readonly Hop[];
  readonly links: readonly Link[];
  readonly findings: readonly Finding[];
  /** What could hide further faults. */
  readonly unknown: readonly Unknown[];
}

/** Applies every rule to every link. */
export function diagnose(chain: readonly Hop[], traffic: Traffic): Diagnosis {
  const links = linksOf(chain, traffic.rttMs);
  const judgements = links.flatMap((link) => RULES.map((rule) => rule.judge(link, circumstancesOf(link, traffic))));
  const doubts = links.flatMap(({ after, doubts }) => doubts.map((what) => ({ hop: after.name, what })));
  return {
    chain,
    links,
    findings: judgements.flatMap(({ findings }) => findings),
    unknown: [...judgements.flatMap(({ unknown }) => unknown), ...doubts],
  };
}

/** What somebody said outranks what was measured: it may be about the traffic to come. */
function circumstancesOf({ before: { measured } }: Link, said: Traffic): Circumstances {
  return {
    requestsPerSecond: said.requestsPerSecond ?? measured?.requestsPerSecond,
    connections: said.connections ?? measured?.connections ?? CONNECTIONS,
  };
}
