/**
 * Connections that are opened again and again over a long way.
 *
 * @module
 */
import { finding, fix, type Judgement, type Rule, SOUND, unknown } from "./finding.ts";
import { isKept, type Link } from "./hop.ts";
import { shown } from "./shown.ts";

/** What opening connections may cost each request, on average. */
const MOST_COST_MS = 5;

function judge(link: Link): Judgement {
  const { before, after, upstream, downstream, rttMs } = link;
  const who = upstream?.keepAlive === false ? before : after;
  if (rttMs === undefined) {
    if (isKept(link)) return SOUND;
    return unknown(
      who,
      `how far ${before.name} and ${after.name} are apart: each request opens a connection; give rtt=`,
    );
  }
  // TCP takes one round trip before the request, TLS 1.3 another.
  const openingMs = rttMs * (after.tls ? 2 : 1);
  const perConnection = isKept(link)
    ? Math.min(upstream?.maxRequests ?? Number.POSITIVE_INFINITY, downstream?.maxRequests ?? Number.POSITIVE_INFINITY)
    : 1;
  const costMs = openingMs / perConnection;
  if (costMs < MOST_COST_MS) return SOUND;
  const how = isKept(link) ? `carry only ${perConnection} requests` : `are not kept by ${who.name}`;
  return finding(link, {
    rule: "keep-alive-off",
    wrong: `connections from ${before.name} to ${after.name} ${how}, and opening one takes ${shown(openingMs)}`,
    symptom: `every request is ${shown(costMs)} slower than on a kept connection, and a burst runs out of ports or threads`,
    often: isKept(link) ? `one connection in ${perConnection} requests` : "every request",
    fixes: isKept(link)
      ? [...fix(before, "upstreamMaxRequests", 1000), ...fix(after, "downstreamMaxRequests", 1000)]
      : [
          ...(upstream?.keepAlive === false ? fix(before, "upstreamKeepAlive", 0) : []),
          ...(downstream?.keepAlive === false ? fix(after, "downstreamKeepAlive", 0) : []),
        ],
  });
}

/** The rule. */
export const keepAliveOff: Rule = {
  name: "keep-alive-off",
  doc: "Between hops that are far apart, connections are kept for many requests. Needs the round trip (`rtt`).",
  judge,
};
