/**
 * Which exchanges are recorded. Decided once per exchange, before any span exists.
 *
 * @module
 */
import type { IdGenerator } from "@opentelemetry/sdk-trace";
import type { SamplerName } from "../config/sidecar-config.ts";
import type { SpanPlace } from "./span-writer.ts";
import { newSpanId, newTraceId } from "./trace-context.ts";

/**
 * Whether a trace is recorded.
 *
 * @param parentSampled - what the caller decided; `undefined` when we start the trace
 */
export type Sampled = (traceId: string, parentSampled: boolean | undefined) => boolean;

/** The decision that the configured sampler stands for. @param ratio - 0 to 1, for the ratio samplers */
export function sampledBy(sampler: SamplerName, ratio: number): Sampled {
  const inRatio = ratioSampler(ratio);
  switch (sampler) {
    case "always_on":
      return () => true;
    case "always_off":
      return () => false;
    case "traceidratio":
      return inRatio;
    case "parentbased_always_on":
      return (_traceId, parentSampled) => parentSampled ?? true;
    case "parentbased_always_off":
      return (_traceId, parentSampled) => parentSampled ?? false;
    case "parentbased_traceidratio":
      return (traceId, parentSampled) => parentSampled ?? inRatio(traceId);
  }
}

/**
 * Decides as the SDK's `TraceIdRatioBasedSampler` does, so that all services decide alike: the four words of the trace
 * id, one XOR the other, are below the same share of 2³². That reads all 32 digits at every request; here they are
 * compared from the first digit on, and with a small ratio that one nearly always decides.
 */
function ratioSampler(ratio: number): (traceId: string) => boolean {
  if (ratio === 0) return () => false;
  if (ratio === 1) return () => true;
  const bound = Array.from(
    Math.floor(ratio * 0xff_ff_ff_ff)
      .toString(16)
      .padStart(8, "0"),
    (digit) => Number.parseInt(digit, 16),
  );
  return (traceId) => {
    for (let at = 0; at < 8; at++) {
      const digit =
        digitAt(traceId, at) ^ digitAt(traceId, at + 8) ^ digitAt(traceId, at + 16) ^ digitAt(traceId, at + 24);
      if (digit !== bound[at]) return digit < bound[at]!;
    }
    return false;
  };
}

/** Value of a lower-case hexadecimal digit. */
function digitAt(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return code <= 0x39 ? code - 0x30 : code - 0x57;
}

/**
 * Gives the SDK the ids that we chose: samplers of other services look at the same trace id, and the upstream knows the
 * span before it is written.
 */
export class TraceIds implements IdGenerator {
  #next: SpanPlace | undefined;

  /** The next span is this one. */
  useNext(place: SpanPlace): void {
    this.#next = place;
  }

  generateTraceId(): string {
    return this.#next?.traceId ?? newTraceId();
  }

  generateSpanId(): string {
    return this.#next?.spanId ?? newSpanId();
  }
}
