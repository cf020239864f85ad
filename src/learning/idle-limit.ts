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
  /** Idle age at which it was seen closed. */
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
/** Below this, 10 % either way is not much more than measuring adds, in milliseconds. */
const NARROW_MS = 100;
const MAX_GROUPS = 12;
const MAX_CLOSES = 8;
/** A limit that holds is outlived by few: one peer in nine has it at least. */
const MOST_OUTLIVED_PER_CLOSE = 8;
/** A limit is given up when, if it held, so many connections in a row would outlive it less often than this. */
const LIFT_CHANCE = 0.001;

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
    if (ageMs <= endOf(group)) {
      groups.push(group);
      continue;
    }
    const told = { ...group, outlived: group.outlived + 1, outlivedEver: group.outlivedEver + 1 };
    if (isSure(group, atMs) && told.outlived >= liftAfter(group)) {
      groups.push({ ...told, lifted: true });
    } else if (told.outlivedEver <= 2 * MOST_OUTLIVED_PER_CLOSE * group.instants) {
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
 * How many connections in a row must outlive a limit before it is given up. Behind one address there may be peers that
 * keep connections longer: how many outlived it between closes so far tells how likely the next one is to.
 */
function liftAfter({ instants, outlived, outlivedEver }: IdleGroup): number {
  const perClose = (outlivedEver - outlived + 1) / instants;
  return Math.log(LIFT_CHANCE) / Math.log(perClose / (1 + perClose));
}

/** Whether the group is a limit to keep to: seen at three instants, or at two that agree, lately, and rarely outlived. */
function isSure(group: IdleGroup, nowMs: number): boolean {
  const { instants, outlivedEver, lifted } = group;
  if (lifted || nowMs - lastOf(group).atMs > DOUBT_AFTER_MS) return false;
  if (outlivedEver > MOST_OUTLIVED_PER_CLOSE * instants) return false;
  return instants >= 3 || (instants === 2 && spreadOf(group) <= 1 + 0.01 * lastOf(group).closedMs);
}

/**
 * What one group says. Closes that agree within what measuring adds are of a fixed limit, and the largest age that one
 * of them was seen open is below it. Others vary, so the smallest time that the peer uses may not have been seen yet: it
 * is not below the longest one seen, less the whole variation.
 */
function estimateOf(group: IdleGroup, provenMs: number): IdleEstimate {
  const { closes, instants, outlived } = group;
  const longestOpenMs = Math.max(...closes.map(likelyOpenMs));
  const firstClosedMs = Math.min(...closes.map(({ closedMs }) => closedMs));
  const confidence = (1 - 0.5 ** instants) / (1 + outlived);
  // What is open much longer is another peer's.
  const longestMs = provenMs <= firstClosedMs * VARIATION ? Math.max(longestOpenMs, provenMs) : longestOpenMs;
  const limitMs = isFixed(group)
    ? Math.min(firstClosedMs, longestOpenMs)
    : Math.min(0.98 * firstClosedMs, longestMs / VARIATION);
  return { limitMs, confidence, closes: closes.length, outlivedMs: endOf(group), closedMs: firstClosedMs };
}

/**
 * Whether one limit explains all closes. A few agree by chance when they could be anywhere in a wide range; in a narrow
 * one it takes more of them.
 */
function isFixed(group: IdleGroup): boolean {
  const { closes, instants } = group;
  const { closedMs } = lastOf(group);
  if (instants >= MAX_CLOSES) return spreadOf(group) <= MEASURING_MS + 0.01 * closedMs;
  if (instants < (closedMs < NARROW_MS ? 5 : 3)) return false;
  const apartMs = Math.max(...closes.map(({ openMs }) => openMs)) - Math.min(...closes.map((one) => one.closedMs));
  const widths = closes.map((close) => close.closedMs - close.openMs).sort((one, other) => one - other);
  return Math.max(0, apartMs) + widths[widths.length >> 1]! <= Math.max(0.75 * MEASURING_MS, 0.004 * closedMs);
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

/** Adds the close to the group that it fits best, or makes one of it. */
function joined(groups: readonly IdleGroup[], close: IdleClose): IdleGroup[] {
  let best: IdleGroup | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const group of groups) {
    const ages = [close.closedMs, ...group.closes.map(({ closedMs }) => closedMs)];
    const least = Math.min(...ages);
    if (Math.max(...ages) > least * GROUP_RATIO + MEASURING_MS) continue;
    const distance = Math.abs(close.closedMs - lastOf(group).closedMs);
    if (distance < bestDistance) [best, bestDistance] = [group, distance];
  }
  if (best === undefined) {
    const made: IdleGroup = { closes: [close], instants: 1, outlived: 0, outlivedEver: 0, lifted: false };
    const kept = groups.length < MAX_GROUPS ? groups : groups.toSorted(byLastClose).slice(1);
    return [...kept, made];
  }
  const isNewInstant = close.atMs - lastOf(best).atMs >= instantOf(close);
  const grown: IdleGroup = {
    ...best,
    closes: [...best.closes, close].slice(-MAX_CLOSES),
    instants: best.instants + (isNewInstant ? 1 : 0),
    outlived: 0,
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
