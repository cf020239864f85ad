/**
 * `holdfast probe` but for the terminal: every measurement of one peer, one after another.
 *
 * @module
 */
import { createSecureContext } from "node:tls";
import { asHoldfastError, type HoldfastError } from "../errors.ts";
import { measureIdle } from "./idle.ts";
import type { Pace } from "./pace.ts";
import type { Peer, ProbeMethod } from "./peer.ts";
import { measurePersistence, type Persisted } from "./persistence.ts";
import { type Counted, countRequests } from "./requests.ts";
import type { IdleMeasured, NotMeasured, Persistence, ProbeResult } from "./result.ts";
import { measureSetup, type Opening, withReuse } from "./setup.ts";
import { maxTruth, timeoutTruth } from "./truth.ts";
import type { Approach, Ask } from "./visit.ts";

/** How to probe. */
export interface ProbeOptions {
  readonly method: ProbeMethod;
  /** How long is waited for an idle connection to be closed. */
  readonly maxWaitMs: number;
  /** Requests on one connection after which it is enough. */
  readonly maxRequests: number;
  /** Connections that are left idle, in each of the two states. */
  readonly connections: number;
  /** For opening a connection, and for each response. */
  readonly timeoutMs: number;
  /** PEM text of the authorities to trust instead of the system's. */
  readonly ca: string | undefined;
  /** Gives out the turns of every connection and request. */
  readonly pace: Pace;
  readonly signal: AbortSignal;
  readonly progress: (phase: Phase) => void;
}

/** What a probe is at. */
export type Phase =
  | { readonly kind: "keep-alive" | "set-up" }
  | { readonly kind: "requests"; readonly answered: number; readonly most: number }
  | {
      readonly kind: "idle";
      /** On the clock of `performance.now()`. */
      readonly sinceMs: number;
      readonly maxWaitMs: number;
      readonly open: number;
      readonly closed: number;
    }
  | { readonly kind: "done" };

/** The ways to ask, by the name of their answer. */
const ASKS: Readonly<Record<keyof Persistence, Ask>> = {
  http11: { version: "1.1", connection: undefined },
  http11KeepAlive: { version: "1.1", connection: "keep-alive" },
  http11Close: { version: "1.1", connection: "close" },
  http10: { version: "1.0", connection: undefined },
  http10KeepAlive: { version: "1.0", connection: "keep-alive" },
};

/**
 * Probes a peer. Never throws: what could not be measured, and why, is part of the result, as is everything that was
 * measured before the signal aborted.
 */
export async function probe(peer: Peer, options: ProbeOptions): Promise<ProbeResult> {
  const { method, timeoutMs, signal, pace, ca, progress } = options;
  const notMeasured: NotMeasured[] = [];
  const attempt = async <T>(what: NotMeasured["what"], measure: () => Promise<T>): Promise<T | null> => {
    try {
      signal.throwIfAborted();
      return await measure();
    } catch (error) {
      notMeasured.push({ what, why: signal.aborted ? "interrupted" : reason(asHoldfastError(error)) });
      return null;
    }
  };
  const context = peer.origin.scheme === "https" ? createSecureContext(ca === undefined ? {} : { ca }) : undefined;
  const approach: Approach = { peer, method, context, timeoutMs, signal };

  progress({ kind: "keep-alive" });
  const first = await attempt("everything", () => measurePersistence(approach, pace, ASKS.http11));
  if (first === null) {
    progress({ kind: "done" });
    return { ...nothing(peer, method), notMeasured, interrupted: signal.aborted };
  }
  const ask = (way: Ask): Promise<Persisted | null> =>
    attempt("keep-alive", () => measurePersistence(approach, pace, way));
  const asked = await ask(ASKS.http11KeepAlive);
  const keepAlive: Persistence = {
    http11: first.kept,
    http11KeepAlive: asked?.kept ?? null,
    http11Close: (await ask(ASKS.http11Close))?.kept ?? null,
    http10: (await ask(ASKS.http10))?.kept ?? null,
    http10KeepAlive: (await ask(ASKS.http10KeepAlive))?.kept ?? null,
  };
  const hint = hintOf(first, asked);

  progress({ kind: "set-up" });
  const opening = await attempt("set-up", () => measureSetup(approach, pace));
  const isKept = first.kept === "kept";
  const requests = isKept ? await attempt("requests", () => count(approach, options)) : null;
  const idle = await waitIdle(approach, options, isKept, attempt);
  if (!isKept) {
    const why =
      first.kept === "broken"
        ? "the peer closes although it says that it does not"
        : "the peer closes after each response";
    notMeasured.push({ what: "requests", why }, { what: "idle after a request", why });
  }

  const { answer } = first;
  const addresses = [idle.afterRequest, idle.beforeRequest].flatMap((one) => one?.connections ?? []);
  progress({ kind: "done" });
  return {
    url: peer.url,
    host: peer.host ?? null,
    method,
    addresses: [...new Set([first.address, ...addresses.map(({ address }) => address)])].filter(isText),
    status: answer.status,
    version: answer.version,
    keepAlive,
    hint,
    idle,
    requests: requests === null ? null : { answered: requests.answered, end: requests.end },
    setup: opening === null ? null : reuseOf(opening, requests),
    hintTruth: {
      timeout: timeoutTruth(hint?.timeoutMs ?? undefined, idle.afterRequest),
      maxRequests: maxTruth(hint?.maxRequests ?? undefined, requests),
    },
    notMeasured,
    interrupted: signal.aborted,
  };
}

/** A failure, with what whoever probes can do about it. */
function reason({ code, message }: HoldfastError): string {
  // Node.js ends it with advice about its own options.
  const text = message.replace(/; if the root CA is installed locally.*$/, "");
  if (code === "HF_UPSTREAM_CERTIFICATE" && /altnames|not match/.test(text)) {
    return `${text}; give the name that stands in it with --host`;
  }
  if (code === "HF_UPSTREAM_CERTIFICATE" && /self.signed|issuer|verify/.test(text)) {
    return `${text}; give the authorities to trust with --ca`;
  }
  return code === "HF_UPSTREAM_TLS" && /wrong version number|packet length too long/.test(text)
    ? `${text}; where plain HTTP is spoken, use http://`
    : text;
}

function isText(value: string | null | undefined): value is string {
  return typeof value === "string";
}

function nothing(peer: Peer, method: ProbeMethod): Omit<ProbeResult, "notMeasured" | "interrupted"> {
  return {
    url: peer.url,
    host: peer.host ?? null,
    method,
    addresses: [],
    status: null,
    version: null,
    keepAlive: { http11: null, http11KeepAlive: null, http11Close: null, http10: null, http10KeepAlive: null },
    hint: null,
    idle: { afterRequest: null, beforeRequest: null },
    requests: null,
    setup: null,
    hintTruth: { timeout: "none", maxRequests: "none" },
  };
}

/** Apache httpd, for one, advertises only to who says `Connection: keep-alive`. */
function hintOf(plain: Persisted, asked: Persisted | null): ProbeResult["hint"] {
  const hint = plain.answer.hint ?? asked?.answer.hint;
  if (hint === undefined) return null;
  const onlyWhenAsked = plain.answer.hint === undefined;
  return { timeoutMs: hint.timeoutMs ?? null, maxRequests: hint.maxRequests ?? null, onlyWhenAsked };
}

function count(approach: Approach, { pace, maxRequests, progress }: ProbeOptions): Promise<Counted> {
  progress({ kind: "requests", answered: 0, most: maxRequests });
  return countRequests(approach, pace, maxRequests, (answered) =>
    progress({ kind: "requests", answered, most: maxRequests }),
  );
}

/** Both states wait at the same time. */
async function waitIdle(
  approach: Approach,
  { pace, connections, maxWaitMs, progress }: ProbeOptions,
  isKept: boolean,
  attempt: (what: NotMeasured["what"], measure: () => Promise<IdleMeasured>) => Promise<IdleMeasured | null>,
): Promise<ProbeResult["idle"]> {
  const sinceMs = performance.now();
  let open = 0;
  let closed = 0;
  const onChange = (change: "waits" | "over"): void => {
    if (change === "waits") open++;
    else {
      open--;
      closed++;
    }
    progress({ kind: "idle", sinceMs, maxWaitMs, open, closed });
  };
  const measure = (requests: 0 | 1): Promise<IdleMeasured> =>
    measureIdle(approach, pace, { requests, connections, maxWaitMs, progress: onChange });
  const [afterRequest, beforeRequest] = await Promise.all([
    isKept ? attempt("idle after a request", () => measure(1)) : null,
    attempt("idle before a request", () => measure(0)),
  ]);
  return { afterRequest, beforeRequest };
}

function reuseOf(opening: Opening, requests: Counted | null): ReturnType<typeof withReuse> {
  return withReuse(opening, requests?.reusedFirstByteMs ?? []);
}
