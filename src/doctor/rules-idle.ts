/**
 * Who sends on a connection must leave it before who receives does.
 *
 * @module
 */
import { racesText } from "./expectation.ts";
import { type Circumstances, finding, fix, type Judgement, type Rule, SOUND, shown, unknown } from "./finding.ts";
import { effectiveIdleMs, isKept, type Link } from "./hop.ts";

/** What timers of both ends may be apart, besides the way. */
const TIMERS_MS = 50;
/** Round trip where nobody says. */
const NEAR_MS = 1;
/** How far apart limits are put by a fix: a tenth, at most 5 s. */
const MOST_APART_MS = 5000;

function judge(link: Link, circumstances: Circumstances): Judgement {
  const { before, after, upstream, downstream, rttMs } = link;
  if (!isKept(link)) return SOUND;
  // Nobody waits for a limit that is not there.
  if (downstream?.idleMs === Number.POSITIVE_INFINITY) return SOUND;
  if (upstream === undefined || upstream.idleMs === undefined) {
    return unknown(before, "how long it keeps idle connections to the next hop");
  }
  if (downstream === undefined || downstream.idleMs === undefined) {
    return unknown(after, "how long it keeps idle connections; measure it with holdfast probe");
  }
  const theirs = effectiveIdleMs(link)!;
  const limitMs = downstream.idleMs;
  if (theirs + 2 * (rttMs ?? NEAR_MS) + TIMERS_MS <= limitMs) return SOUND;
  if (downstream.isAtLeast) {
    const what = `how long it keeps idle connections beyond ${shown(limitMs)}; probe it with a longer --max-wait`;
    return unknown(after, what);
  }
  const hinted = theirs < upstream.idleMs ? `, because of the timeout that ${after.name} announces` : "";
  const verb = theirs > limitMs ? "is above" : "is not enough below";
  const raised =
    theirs === Number.POSITIVE_INFINITY ? undefined : theirs + Math.max(1000, Math.min(MOST_APART_MS, theirs / 10));
  return finding(link, {
    rule: "idle-order",
    wrong: `${before.name} sends on connections idle for up to ${shown(theirs)}${hinted}, which ${verb} the ${shown(limitMs)} after which ${after.name} closes them`,
    symptom: before.symptom ?? "a reset or an empty response for requests that are not repeated",
    often: racesText(circumstances, limitMs, rttMs),
    fixes: [
      ...(raised === undefined ? [] : fix(after, "downstreamIdle", raised)),
      ...fix(before, "upstreamIdle", limitMs - Math.min(MOST_APART_MS, limitMs / 5)),
    ],
  });
}

/** The rule. */
export const idleOrder: Rule = {
  name: "idle-order",
  doc: "Who sends requests on a connection gives it up, when idle, before who receives them does.",
  judge,
};
