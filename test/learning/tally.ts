/** What comes of many origins, counted. */
import { atTheEdge, couldBeClose, isClose, learn, reuseOfOracle } from "./scenarios.ts";

/** Counted over origins of one kind. */
export interface Tally {
  origins: number;
  /** After three closes. */
  unknown: number;
  above: number;
  /** Above by the most, and below by the most of those that are further below than 20 ms, relative to the true limit. */
  highest: number;
  worst: number;
  far: number;
  /** Too far below although what was seen made a close enough limit certain. */
  farNeedlessly: number;
  farAfterSix: number;
  edgeRequests: number;
  races: number;
  /** Share of reuse relative to the oracle, the least first. */
  readonly reuses: number[];
}

const EDGE_REQUESTS = 200;
const REUSE_REQUESTS = 2000;
/** Origins of different seeds have nothing in common. */
const SEED_STEP = 1_000_000;

/** Makes so many origins, lets them be learned, and counts how well. */
export function tally(seed: number, origins: number): { readonly fixed: Tally; readonly varying: Tally } {
  const [fixed, varying] = [none(), none()];
  for (let at = 0; at < origins; at++) {
    const originSeed = 1 + 2 * at + (seed - 1) * SEED_STEP;
    const learned = learn(originSeed);
    const told = learned.drawn.origin.jitter === 0 ? fixed : varying;
    told.origins++;
    if (learned.error === undefined) told.unknown++;
    else {
      if (learned.errorMs! > 0) told.above++;
      else if (!isClose(learned)) told.far++;
      told.highest = Math.max(told.highest, learned.error);
      if (learned.errorMs! < -20) told.worst = Math.min(told.worst, learned.error);
      if (learned.errorMs! <= 0 && !isClose(learned) && couldBeClose(learned)) told.farNeedlessly++;
    }
    const six = learn(originSeed, 6);
    if (six.errorMs === undefined || six.errorMs > 0 || !isClose(six)) told.farAfterSix++;
    told.edgeRequests += EDGE_REQUESTS;
    told.races += atTheEdge(learned, EDGE_REQUESTS).races;
    told.reuses.push(reuseOfOracle(learned, REUSE_REQUESTS));
  }
  for (const { reuses } of [fixed, varying]) reuses.sort((one, other) => one - other);
  return { fixed, varying };
}

function none(): Tally {
  const counts = { origins: 0, unknown: 0, above: 0, highest: -1, worst: 0, far: 0, farNeedlessly: 0, farAfterSix: 0 };
  return { ...counts, edgeRequests: 0, races: 0, reuses: [] };
}
