/**
 * How finished spans are written down. A span is written in one go when it has ended, so nothing is kept of it before:
 * what it says is gathered where it happens.
 *
 * @module
 */
import type { SpanKind } from "@opentelemetry/api";

/** Value of an attribute; `undefined` leaves it out. */
export type AttributeValue = string | number | boolean | undefined;

/** What another span links to. */
export interface SpanPlace {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** 16 lower-case hexadecimal digits. */
  readonly spanId: string;
}

/** Something that happened in the time of a span. */
export interface SpanEvent {
  readonly name: string;
  readonly atEpochMs: number;
  readonly attributes: Readonly<Record<string, string>>;
}

/**
 * How many spans are lost. One that is begun counts from there until it ends: whatever throws in between, and whether or
 * not another span follows, it stays counted. Nobody looks in between, for a span is written in one go.
 */
export interface SpanCount {
  value: number;
}

/**
 * Takes one span after the other: `begin`, then all that it says in any order, then `end`. All of it must happen in one
 * go, before the next span begins. Times are milliseconds since the Unix epoch.
 */
export interface SpanWriter {
  /**
   * @returns whether the span is taken; if not, it is dropped and counted, and nothing more may be said of it
   */
  begin(kind: SpanKind, name: string, place: SpanPlace, startEpochMs: number, endEpochMs: number): boolean;
  /**
   * The span above this one, in the same trace.
   *
   * @param isRemote - whether it is a caller's
   * @param traceState - value of `tracestate` as it came
   */
  parent(spanId: string, isRemote: boolean, traceState: string | undefined): void;
  /** Each name at most once per span. */
  attribute(name: string, value: AttributeValue): void;
  link(to: SpanPlace): void;
  /** All of them, in the order in which they happened. */
  events(events: readonly SpanEvent[]): void;
  /** The span is an error. */
  error(message: string | undefined): void;
  end(): void;

  /** What is said from here to {@link sharedEnd} will be the same for spans to come. */
  sharedBegin(): void;
  /** @returns what {@link again} takes; `undefined`: it must be said anew each time */
  sharedEnd(): Uint8Array | undefined;
  /** Says what was said before. */
  again(said: Uint8Array): void;
}
