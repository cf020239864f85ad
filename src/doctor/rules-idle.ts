/**
 * Who sends on a connection must leave it before who receives does.
 *
 * @module
 */
import { racesText } from "./expectation.ts";
import { type Circumstances, finding, fix, type Judgement, type Rule, SOUND, unknown } from "./finding.ts";
import { type Downstream, effectiveIdleMs, isKept, type Link, type Side, type Upstream } from "./hop.ts";
import { isOutlasting, isOutlived } from "./running.ts";
import { shown } from "./shown.ts";

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
  const outlived = downstream !== undefined && isOutlived(downstream) ? judgeOutlived(link, downstream) : undefined;
  if (upstream === undefined || upstream.idleMs === undefined) {
    if (outlived !== undefined) return outlived;
    if (downstream !== undefined && isOutlasting(downstream)) return SOUND;
    return unknown(before, "how long it keeps idle connections to the next hop");
  }
  if (downstream === undefined || downstream.idleMs === undefined) {
    return unknown(after, "how long it keeps idle connections; measure it with holdfast probe");
  }
  const theirs = effectiveIdleMs(link)!;
  const limitMs = downstream.idleMs;
  const apartMs = 2 * (rttMs ?? NEAR_MS) + TIMERS_MS;
  // Who has learned the limit has measured how far to stay below it.
  const isFollowed = isLearned(upstream) && isLearned(downstream);
  if (theirs + (isFollowed ? 0 : apartMs) <= limitMs) return outlived ?? SOUND;
  if (downstream.isAtLeast) {
    const what = `how long it keeps idle connections beyond ${shown(limitMs)}; measure it with holdfast probe and a longer --max-wait`;
    return unknown(after, what);
  }
  const isHinted = theirs < upstream.idleMs;
  const lowered = lower(limitMs, apartMs);
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

function isLearned({ idleEvidence }: Side): boolean {
  return idleEvidence?.source === "learned";
}

/** Callers were seen to keep connections longer than they are kept here, whatever is said of them. */
function judgeOutlived(link: Link, { idleMs, closedHere }: Downstream): Judgement {
  const { before, after } = link;
  const { count, of } = closedHere!;
  const template = after.settings.downstreamIdle;
  const setting = typeof template === "string" ? template.replace("{d}", "…") : undefined;
  return finding(link, {
    rule: "idle-order",
    wrong: `idle connections from ${before.name} outlast the ${shown(idleMs)} after which ${after.name} closes them: of the last ${of} that ended, it closed ${count} itself`,
    symptom: before.symptom ?? "a reset or an empty response for requests that are not repeated",
    often: "each of these closes can meet a request, where one comes within a round trip of it",
    fixes: [
      ...(setting === undefined
        ? []
        : [{ hop: after.name, setting: `${setting}, above the idle limit of ${before.name}` }]),
      ...fix(before, "upstreamIdle", idleMs === undefined ? Number.POSITIVE_INFINITY : lower(idleMs, 0)),
    ],
  });
}

function lower(limitMs: number, apartMs: number): number {
  return limitMs - Math.max(apartMs, Math.min(MOST_APART_MS, limitMs / 5));
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
