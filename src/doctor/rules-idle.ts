/**
 * Who sends on a connection must leave it before who receives does.
 *
 * @module
 */
import { racesText } from "./expectation.ts";
import { type Circumstances, finding, fix, type Judgement, type Rule, SOUND, shown, unknown } from "./finding.ts";
import { effectiveIdleMs, isKept, type Link, type Upstream } from "./hop.ts";

/** What timers of both ends may be apart, besides the way. */
const TIMERS_MS = 50;
/** Round trip where nobody says. */
const NEAR_MS = 1;
/** How far apart limits are put by a fix: a tenth, at most 5 s, unless the way asks for more. */
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
  const apartMs = 2 * (rttMs ?? NEAR_MS) + TIMERS_MS;
  if (theirs + apartMs <= limitMs) return SOUND;
  if (downstream.isAtLeast) {
    const what = `how long it keeps idle connections beyond ${shown(limitMs)}; probe it with a longer --max-wait`;
    return unknown(after, what);
  }
  const isHinted = theirs < upstream.idleMs;
  const lowered = limitMs - Math.max(apartMs, Math.min(MOST_APART_MS, limitMs / 5));
  return finding(link, {
    rule: "idle-order",
    wrong: wrongText(link, theirs, limitMs, isHinted),
    symptom: before.symptom ?? "a reset or an empty response for requests that are not repeated",
    often: racesText(circumstances, limitMs, rttMs),
    fixes: [
      ...fix(after, "downstreamIdle", isHinted ? raisedWithHint(theirs, upstream, apartMs) : raised(theirs, apartMs)),
      ...fix(before, "upstreamIdle", lowered),
    ],
  });
}

/** A limit that is far enough above. */
function raised(idleMs: number, apartMs: number): number {
  return idleMs + Math.max(apartMs, 1000, Math.min(MOST_APART_MS, idleMs / 10));
}

/**
 * As {@link raised}, where the timeout that is announced decides. It may rise with the limit, or stay as it is: both
 * must be far enough below.
 */
function raisedWithHint(hintedMs: number, { idleMs: ownMs, hintMarginMs }: Upstream, apartMs: number): number {
  // What is announced is left this much earlier, once it is five times as long.
  const following = apartMs <= hintMarginMs ? 5 * apartMs : Number.POSITIVE_INFINITY;
  return Math.max(raised(hintedMs, apartMs), Math.min(raised(ownMs!, apartMs), following));
}

function wrongText({ before, after }: Link, idleMs: number, limitMs: number, isHinted: boolean): string {
  if (idleMs === Number.POSITIVE_INFINITY) {
    return `${before.name} sends on connections however long they were idle, but ${after.name} closes them after ${shown(limitMs)}`;
  }
  const hinted = isHinted ? `, because of the timeout that ${after.name} announces` : "";
  const verb = idleMs > limitMs ? "is above" : "is not enough below";
  return `${before.name} sends on connections idle for up to ${shown(idleMs)}${hinted}, which ${verb} the ${shown(limitMs)} after which ${after.name} closes them`;
}

/** The rule. */
export const idleOrder: Rule = {
  name: "idle-order",
  doc: "Who sends requests on a connection gives it up, when idle, before who receives them does.",
  judge,
};
