/**
 * How long a peer keeps an idle connection, told from the closes that are seen anyway.
 *
 * Closes at about the same idle age form a group. A group that closed often enough is a limit; the smallest one holds,
 * because behind one name there may be several peers. A connection that is seen open beyond a group speaks against it.
 * Closes of many different ages at one instant are a restart and say nothing.
 *
 * Everything here is pure: evidence goes in and comes out unchanged, and time is an argument.
 *
 * @module
 */

/** One close by the peer of a connection that carried nothing. All times in milliseconds. */
export interface IdleClose {
  /** Idle age at which it was certainly still open. */
  readonly openMs: number;
  /** Idle age at which it was certainly closed: it was seen closed then, and may have been idle for a little longer. */
  readonly closedMs: number;
  /** When it was seen. */
  readonly atMs: number;
}

/** Closes at about the same idle age. */
export interface IdleGroup {
  /** The latest ones, oldest first. */
  readonly closes: readonly IdleClose[];
  /** Separate instants at which they came: forty connections closed at once are one event. */
  readonly instants: number;
  /** Connections that were seen open beyond this age since the last of the closes. */
  readonly outlived: number;
  /** As {@link outlived}, since the first. */
  readonly outlivedEver: number;
  /** When the last of them was told of, or the last of the closes came: many at one instant are one, too. */
  readonly outlivedAtMs: number;
  /** Whether it was given up as a limit because connections outlived it, until it closes one again. */
  readonly lifted: boolean;
}

/** Everything remembered of one peer's idle closes. Plain JSON. */
export interface IdleEvidence {
  readonly groups: readonly IdleGroup[];
  /** When the peer last restarted. */
  readonly restartAtMs: number | undefined;
}

/** What the evidence says of one group. */
export interface IdleEstimate {
  /** The peer keeps idle connections at least this long, in milliseconds. */
  readonly limitMs: number;
  /** From 0 to 1. */
  readonly confidence: number;
  /** Closes it stands on. */
  readonly closes: number;
  /** A connection that is open at this idle age speaks against it, in milliseconds. */
  readonly outlivedMs: number;
  /** The peer was seen to close at this idle age, in milliseconds. */
  readonly closedMs: number;
}

/** What the evidence says altogether. */
export interface IdleVerdict {
  /** The limit to keep to; `undefined` when there is none that is sure. */
  readonly limit: IdleEstimate | undefined;
  /** The smallest limit that there may be, sure or not: beyond it, what must not be sent twice is at risk. */
  readonly suspicion: IdleEstimate | undefined;
  /** A connection seen open at an idle age beyond this says something; below, nothing. In milliseconds. */
  readonly tellingMs: number;
}

/** Nothing is known. */
export const NO_IDLE_EVIDENCE: IdleEvidence = { groups: [], restartAtMs: undefined };

/** A close this soon after a response has another reason than idleness, in milliseconds. */
export const LEAST_IDLE_MS = 20;

/** A limit that was not confirmed for so long is doubtful, in milliseconds: it is tried out with what may be sent twice. */
const DOUBT_AFTER_MS = 12 * 3_600_000;
/** Evidence that was not confirmed for so long is forgotten, in milliseconds. */
export const FORGET_AFTER_MS = 7 * 24 * 3_600_000;

/** Longest over shortest time of a peer whose limit varies by 10 % either way. */
const VARIATION = 1.1 / 0.9;
/** Two closes further apart than that are not of one limit; a little more, because both are measured. */
const GROUP_RATIO = VARIATION * 1.02;
/** What measuring may add to the difference of two closes, in milliseconds. */
const MEASURING_MS = 2;
/** Closes of this many different ages at one instant are a restart. */
const RESTART_GROUPS = 4;
/** How long one instant is, at most, in milliseconds: a process that ends takes a moment. Of short ages it is a part. */
const INSTANT_MS = 250;
const INSTANT = 1 / 4;
/** A close that may have been seen later than this, as a part of its age, is not precise. */
const PRECISION = 1 / 4;
/** An estimate may be above the smallest time that the peer uses as rarely as this. */
const UNSURE = 1e-5;
/** Closes that all have a time in common, as those of a limit that varies would this rarely, are of a fixed one. */
const MOST_CHANCE = 0.1;
/** What is taken off a limit that few closes agree on: in milliseconds, and as a part of it. */
const SLACK_MS = 19;
const SLACK = 0.019;
/** Nothing is measured more exactly, in milliseconds. */
const LEAST_SPREAD_MS = 0.1;
const MAX_GROUPS = 12;
const MAX_CLOSES = 16;
/** A limit that holds is outlived by few: one peer in thirteen has it at least. */
const MOST_OUTLIVED_PER_CLOSE = 12;
/** A limit is given up when, if it held, so many connections in a row would outlive it less often than this. */
const LIFT_CHANCE = 1e-5;

/**
 * The peer closed a connection that carried nothing.
 *
 * @returns the evidence with it
 */
export function withClose(before: IdleEvidence, close: IdleClose): IdleEvidence {
  if (close.closedMs < LEAST_IDLE_MS) return before;
  const { restartAtMs } = before;
  if (restartAtMs !== undefined && Math.abs(close.atMs - restartAtMs) <= INSTANT_MS) return before;
  // It was open until then.
  const evidence = withOpen(before, close.openMs, close.atMs);
  const groups = joined(evidence.groups, close);
  const isRecent = (other: IdleClose): boolean => isPrecise(other) && close.atMs - other.atMs <= instantOf(close);
  if (groups.filter((group) => group.closes.some(isRecent)).length >= RESTART_GROUPS) {
    return { ...evidence, groups: withoutRecent(groups, isRecent), restartAtMs: close.atMs };
  }
  return { ...evidence, groups };
}

/**
 * A connection was seen open after it had been idle for so long: it carried another exchange, or we closed it. To be
 * told once for each time that a connection was idle.
 */
export function withOpen(before: IdleEvidence, ageMs: number, atMs: number): IdleEvidence {
  const evidence = withoutOld(before, atMs);
  if (!evidence.groups.some((group) => ageMs > endOf(group))) return evidence;
  const groups: IdleGroup[] = [];
  for (const group of evidence.groups) {
    if (ageMs <= endOf(group) || atMs - group.outlivedAtMs < instantOf(lastOf(group))) {
      groups.push(group);
      continue;
    }
    const told = { ...group, outlived: group.outlived + 1, outlivedEver: group.outlivedEver + 1, outlivedAtMs: atMs };
    if (isSure(group, atMs) && chanceOfOutliving(told) < LIFT_CHANCE) {
      groups.push({ ...told, lifted: true });
    } else if (told.outlivedEver <= 3 * MOST_OUTLIVED_PER_CLOSE * group.instants) {
      groups.push(told);
    }
  }
  return { ...evidence, groups };
}

/**
 * What the evidence says now.
 *
 * @param provenMs - the longest that a connection was seen open while idle, in milliseconds
 */
export function judgeIdle(before: IdleEvidence, nowMs: number, provenMs: number): IdleVerdict {
  const evidence = withoutOld(before, nowMs);
  let limit: IdleEstimate | undefined;
  let suspicion: IdleEstimate | undefined;
  let tellingMs = Number.POSITIVE_INFINITY;
  for (const group of evidence.groups) {
    tellingMs = Math.min(tellingMs, endOf(group));
    const sure = isSure(group, nowMs);
    if (!sure && group.outlived > 0) continue;
    // Where there are several peers, nobody knows whose it was that stayed open.
    const estimate = estimateOf(group, evidence.groups.length === 1 && group.outlivedEver === 0 ? provenMs : 0);
    if (sure && estimate.limitMs < (limit?.limitMs ?? Number.POSITIVE_INFINITY)) limit = estimate;
    if (estimate.limitMs < (suspicion?.limitMs ?? Number.POSITIVE_INFINITY)) suspicion = estimate;
  }
  return { limit, suspicion, tellingMs };
}

/**
 * How likely it was, when the last of the closes came, that as many connections as have outlived the limit since then do
 * so in a row although it holds: behind one address there may be peers that keep connections longer. Their share is not
 * known; how many outlived it between the closes so far tells of it (Beta-binomial, Jeffreys' prior).
 */
function chanceOfOutliving({ instants, outlived, outlivedEver }: IdleGroup): number {
  const before = outlivedEver - outlived;
  let chance = 1;
  for (let at = 0; at < outlived; at++) chance *= (before + 0.5 + at) / (before + instants + 1 + at);
  return chance;
}

/** Whether the group is a limit to keep to: seen at three instants, or at two that agree, lately, and rarely outlived. */
function isSure(group: IdleGroup, nowMs: number): boolean {
  const { instants, outlivedEver, lifted } = group;
  if (lifted || nowMs - lastOf(group).atMs > DOUBT_AFTER_MS) return false;
  if (outlivedEver > MOST_OUTLIVED_PER_CLOSE * instants) return false;
  return instants >= 3 || (instants === 2 && spreadOf(group) <= 1 + 0.01 * lastOf(group).closedMs);
}

/**
 * What one group says: the most that is surely not above the smallest time that the peer uses. Three bounds hold, and
 * the highest is taken:
 *
 * - A limit varies by {@link VARIATION} at most, so it is not below the longest time seen, less all of that.
 * - Times that are spread evenly over a range of any width come near its lower end: of `n` of them, the smallest is
 *   further above it than `t` times their spread once in `(1 + t) ** (n - 1)`. A fixed limit is a range without a
 *   width, and what measuring adds is the spread.
 * - A few closes are too few for that, but that they agree this well may be too much of a chance for a limit that
 *   varies. Then it is a fixed one, and less is taken off. It is taken back when a later close disagrees.
 */
function estimateOf(group: IdleGroup, provenMs: number): IdleEstimate {
  const { closes, instants, outlived } = group;
  const firstClosedMs = Math.min(...closes.map(({ closedMs }) => closedMs));
  const longestOpenMs = Math.max(...closes.map(likelyOpenMs));
  // What is open much longer is another peer's.
  const longestMs = provenMs <= firstClosedMs * VARIATION ? Math.max(longestOpenMs, provenMs) : longestOpenMs;
  const leastMs = Math.min(longestMs, firstClosedMs);
  const apartMs = longestMs - leastMs;
  const count = Math.min(instants, closes.length);
  const widthsMs = closes.map(({ openMs, closedMs }) => closedMs - openMs + apartMs).sort((one, other) => other - one);
  const spreadMs = Math.max(LEAST_SPREAD_MS, widthsMs[widthsMs.length >> 1]!);
  let limitMs = Math.min(0.98 * firstClosedMs, longestMs / VARIATION);
  if (count > 2) {
    limitMs = Math.max(limitMs, leastMs - spreadMs * (UNSURE ** (-1 / (count - 1)) - 1));
    const rangeMs = longestMs - longestMs / VARIATION;
    const chance = chanceToAgree(widthsMs.slice(0, count), rangeMs);
    if (apartMs === 0 ? chance <= MOST_CHANCE : count === 3 && chance <= UNSURE) {
      limitMs = Math.max(limitMs, leastMs - Math.max(SLACK_MS, SLACK * leastMs));
    }
  }
  const confidence = (1 - 0.5 ** instants) / (1 + outlived);
  return { limitMs, confidence, closes: closes.length, outlivedMs: endOf(group), closedMs: firstClosedMs };
}

/** How likely it is that intervals of these widths have a point in common when they lie anywhere in a range. */
function chanceToAgree(widths: readonly number[], range: number): number {
  const shares = widths.map((width) => Math.min(1, Math.max(LEAST_SPREAD_MS, width) / range));
  const all = shares.reduce((product, share) => product * share, 1);
  return shares.reduce((sum, share) => sum + all / share, 0);
}

function spreadOf({ closes }: IdleGroup): number {
  const ages = closes.map(({ closedMs }) => closedMs);
  return Math.max(...ages) - Math.min(...ages);
}

function lastOf({ closes }: IdleGroup): IdleClose {
  return closes.at(-1)!;
}

/** Beyond this idle age an open connection has outlived the group, even if it is of a limit that varies. */
function endOf({ closes }: IdleGroup): number {
  return Math.min(...closes.map(({ closedMs }) => closedMs)) * GROUP_RATIO + 2 * MEASURING_MS;
}

/** Adds the close to the group that it fits, the one with the most closes where there are several, or makes one of it. */
function joined(groups: readonly IdleGroup[], close: IdleClose): IdleGroup[] {
  let best: IdleGroup | undefined;
  for (const group of groups) {
    const all = [close, ...group.closes];
    // One that was seen late may be as short as the others.
    const longestMs = Math.max(...all.map(likelyOpenMs));
    if (longestMs > Math.min(...all.map(({ closedMs }) => closedMs)) * GROUP_RATIO + MEASURING_MS) continue;
    if (best === undefined || group.instants > best.instants) best = group;
  }
  if (best === undefined) {
    const made: IdleGroup = {
      closes: [close],
      instants: 1,
      outlived: 0,
      outlivedEver: 0,
      outlivedAtMs: close.atMs,
      lifted: false,
    };
    const kept = groups.length < MAX_GROUPS ? groups : groups.toSorted(byLastClose).slice(1);
    return [...kept, made];
  }
  const isNewInstant = close.atMs - lastOf(best).atMs >= instantOf(close);
  const grown: IdleGroup = {
    ...best,
    closes: [...best.closes, close].slice(-MAX_CLOSES),
    instants: best.instants + (isNewInstant ? 1 : 0),
    outlived: 0,
    outlivedAtMs: close.atMs,
    lifted: false,
  };
  return groups.map((group) => (group === best ? grown : group));
}

/** Closes within this time are one event, in milliseconds. */
function instantOf({ closedMs }: IdleClose): number {
  return Math.min(INSTANT_MS, closedMs * INSTANT);
}

/** Whether it was seen soon after it came. A process that was busy for long sees closes at all ages at once. */
function isPrecise({ openMs, closedMs }: IdleClose): boolean {
  return closedMs - openMs <= PRECISION * closedMs;
}

/** How late it was seen is an upper bound, and mostly far above the truth. */
function likelyOpenMs({ openMs, closedMs }: IdleClose): number {
  return Math.max(openMs, (1 - PRECISION) * closedMs);
}

function byLastClose(one: IdleGroup, other: IdleGroup): number {
  return lastOf(one).atMs - lastOf(other).atMs;
}

/** Takes back what was learned from a restart before it was seen to be one. */
function withoutRecent(groups: readonly IdleGroup[], isRecent: (close: IdleClose) => boolean): IdleGroup[] {
  const left: IdleGroup[] = [];
  for (const group of groups) {
    const closes = group.closes.filter((close) => !isRecent(close));
    if (closes.length === 0) continue;
    const isTouched = closes.length < group.closes.length;
    left.push(isTouched ? { ...group, closes, instants: Math.max(1, group.instants - 1) } : group);
  }
  return left;
}

/** A peer may have changed since. */
function withoutOld(evidence: IdleEvidence, nowMs: number): IdleEvidence {
  const isFresh = (group: IdleGroup): boolean => nowMs - lastOf(group).atMs <= FORGET_AFTER_MS;
  return evidence.groups.every(isFresh) ? evidence : { ...evidence, groups: evidence.groups.filter(isFresh) };
}
