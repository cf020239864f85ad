/**
 * How many connections to keep, as `GET /origins` and `holdfast doctor` say it.
 *
 * @module
 */
import type { PoolAdvice } from "./pool-size.ts";

/**
 * Memory of an idle HTTP/1.1 connection in bytes: at our end, and at the end of a Node.js server. Measured with Node.js
 * 26 on 2,000 connections to a server that had answered nothing yet, as growth of the resident set; what the kernel
 * needs, some 3 KiB at each end, is not in it. Servers in C need less.
 */
const IDLE_BYTES = {
  http: { here: 8 * 1024, there: 15 * 1024 },
  https: { here: 54 * 1024, there: 66 * 1024 },
} as const;

/** Share of exchanges that is told of when no number of kept connections would serve them. */
const WORTH_TELLING = 0.005;

/** `poolSize` of an origin in `GET /origins`. */
export interface PoolSizeBody {
  /** Idle connections that are kept now at most; `Infinity`: all. */
  readonly idleKept: number;
  /** `null` while too little was seen. */
  readonly advice: {
    /** Idle connections that suffice. */
    readonly enough: number;
    /** Share of exchanges that get one of them, from 0 to 1. */
    readonly reusedShare: number;
    /** Connections that are opened all the same. */
    readonly handshakesPerSecond: number;
    readonly arrivalsPerSecond: number;
    /** How long an exchange holds its connection: the mean. */
    readonly exchangeMs: number;
    /** Connections in use: the mean, and the most within the last hour. */
    readonly meanBusy: number;
    readonly peakBusy: number;
    /** Share of exchanges that no kept connection could have served, from 0 to 1. */
    readonly unavoidableShare: number;
    /** How long opening a connection takes: the mean. `null`: none was opened. */
    readonly setupMs: number | null;
    readonly oneMore: {
      readonly bytesHere: number;
      readonly bytesThere: number;
      readonly savesHandshakesPerSecond: number;
      /** Time that exchanges would wait less, summed over all of them in a second. `null`: not known. */
      readonly savesMsPerSecond: number | null;
    };
  } | null;
}

/** What a pool says of its size. */
export function poolSizeBody(scheme: "http" | "https", idleKept: number, advice: PoolAdvice | undefined): PoolSizeBody {
  if (advice === undefined) return { idleKept, advice: null };
  const { enough, oneMore, setupMs = null } = advice;
  const saves = Math.max(0, enough.handshakesPerSecond - oneMore.handshakesPerSecond);
  return {
    idleKept,
    advice: {
      enough: enough.kept,
      reusedShare: rounded(enough.reusedShare),
      handshakesPerSecond: rounded(enough.handshakesPerSecond),
      arrivalsPerSecond: rounded(advice.arrivalsPerSecond),
      exchangeMs: rounded(advice.exchangeMs),
      meanBusy: rounded(advice.meanBusy),
      peakBusy: advice.peakBusy,
      unavoidableShare: rounded(advice.unavoidableShare),
      setupMs: setupMs === null ? null : rounded(setupMs),
      oneMore: {
        bytesHere: IDLE_BYTES[scheme].here,
        bytesThere: IDLE_BYTES[scheme].there,
        savesHandshakesPerSecond: rounded(saves),
        savesMsPerSecond: setupMs === null ? null : rounded(saves * setupMs),
      },
    },
  };
}

/** The same in a line for people. */
export function poolSizeText({ idleKept, advice }: PoolSizeBody): string {
  if (advice === null) return "too little was seen to say how many idle connections suffice";
  const { enough, reusedShare, unavoidableShare, arrivalsPerSecond, exchangeMs, oneMore } = advice;
  const kept = Number.isFinite(idleKept) ? `at most ${idleKept} are kept now` : "all are kept now";
  const suffices = enough === 1 ? "1 idle connection suffices" : `${enough} idle connections suffice`;
  const never =
    unavoidableShare < WORTH_TELLING ? "" : `, ${short(unavoidableShare * 100)} % find none however many are kept`;
  const busy = `${short(advice.meanBusy)} in use on average, ${advice.peakBusy} at most`;
  const share = `${short(reusedShare * 100)} % of ${short(arrivalsPerSecond)} requests/s of ${short(exchangeMs)} ms (${busy}) reuse one${never}`;
  const cost = `one more would cost ${kib(oneMore.bytesHere)} here and about ${kib(oneMore.bytesThere)} there`;
  const waiting =
    oneMore.savesMsPerSecond === null ? "" : `, ${short(oneMore.savesMsPerSecond)} ms of waiting a second`;
  return `${suffices} (${kept}): ${share}; ${cost}, and save ${short(oneMore.savesHandshakesPerSecond)} handshakes/s${waiting}`;
}

function kib(bytes: number): string {
  return `${Math.round(bytes / 1024)} KiB`;
}

/** Three digits that count. */
function short(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
