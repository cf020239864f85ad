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

/** What is known of the traffic. */
export interface Traffic extends Circumstances {
  /** Round trip of links that do not say their own. */
  readonly rttMs: number | undefined;
}

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
  const judgements = links.flatMap((link) => RULES.map((rule) => rule.judge(link, traffic)));
  return {
    chain,
    links,
    findings: judgements.flatMap(({ findings }) => findings),
    unknown: judgements.flatMap(({ unknown }) => unknown),
  };
}
