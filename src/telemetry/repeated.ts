/**
 * What the spans of one connection nearly always have in common: its ends, the method, who asks and where it goes. As
 * long as these facts stay the same they are written once, and their bytes used again.
 *
 * @module
 */
import type { Origin, Outcome, Protocol } from "../plugin/api.ts";
import type { SpanWriter } from "./span-writer.ts";

/** Of a SERVER span, on one connection. */
export interface ServerFacts {
  readonly method: string;
  readonly originalMethod: string;
  readonly scheme: "http" | "https";
  readonly authority: string;
  readonly version: string;
  readonly userAgent: string | undefined;
  readonly clientAddress: string;
  answeredBy: Outcome["answeredBy"];
  route: string | undefined;
}

/** Of a CLIENT span, on one connection. */
export interface ClientFacts {
  readonly method: string;
  readonly originalMethod: string;
  readonly origin: Origin | undefined;
  readonly protocol: Protocol | undefined;
  readonly resends: number;
  readonly reused: boolean;
  readonly wasIdle: boolean;
  readonly idleLimitMs: number | undefined;
  readonly idleLimitSource: string | undefined;
}

/** For the SERVER spans of one connection. */
export function repeatedServer(): Repeated<ServerFacts> {
  return new Repeated(sameServer);
}

/** For the CLIENT spans of one connection. */
export function repeatedClient(): Repeated<ClientFacts> {
  return new Repeated(sameClient);
}

/** Whether two SERVER spans of one connection say the same. */
function sameServer(a: ServerFacts, b: ServerFacts): boolean {
  return (
    a.method === b.method &&
    a.originalMethod === b.originalMethod &&
    a.scheme === b.scheme &&
    a.authority === b.authority &&
    a.version === b.version &&
    a.userAgent === b.userAgent &&
    a.clientAddress === b.clientAddress &&
    a.answeredBy === b.answeredBy &&
    a.route === b.route
  );
}

/** Whether two CLIENT spans of one connection say the same. */
function sameClient(a: ClientFacts, b: ClientFacts): boolean {
  return (
    a.method === b.method &&
    a.originalMethod === b.originalMethod &&
    a.origin === b.origin &&
    a.protocol === b.protocol &&
    a.resends === b.resends &&
    a.reused === b.reused &&
    a.wasIdle === b.wasIdle &&
    a.idleLimitMs === b.idleLimitMs &&
    a.idleLimitSource === b.idleLimitSource
  );
}

/** What spans of one connection say again and again. */
export class Repeated<F> {
  readonly #same: (a: F, b: F) => boolean;
  #facts: F | undefined;
  #said: Uint8Array | undefined;
  #isKept = false;

  /** @param same - whether two spans say the same */
  constructor(same: (a: F, b: F) => boolean) {
    this.#same = same;
  }

  /** @returns whether it was said from memory; if not, it must be said now, and then comes {@link done} */
  say(spans: SpanWriter, facts: F): boolean {
    if (this.#facts === undefined || !this.#same(this.#facts, facts)) {
      this.#facts = facts;
      this.#said = undefined;
      return false;
    }
    if (this.#said !== undefined) {
      spans.again(this.#said);
      return true;
    }
    // Kept from the first repetition on: where every span says something else, keeping it would only cost.
    this.#isKept = true;
    spans.sharedBegin();
    return false;
  }

  done(spans: SpanWriter): void {
    if (!this.#isKept) return;
    this.#isKept = false;
    this.#said = spans.sharedEnd();
  }
}
