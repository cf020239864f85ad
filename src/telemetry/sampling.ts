/**
 * Which exchanges are recorded. Decided once per exchange, before any span exists.
 *
 * @module
 */
import { ROOT_CONTEXT } from "@opentelemetry/api";
import { type IdGenerator, SamplingDecision, TraceIdRatioBasedSampler } from "@opentelemetry/sdk-trace";
import type { SamplerName } from "../config/sidecar-config.ts";
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

function ratioSampler(ratio: number): (traceId: string) => boolean {
  if (ratio === 0) return () => false;
  if (ratio === 1) return () => true;
  const sampler = new TraceIdRatioBasedSampler(ratio);
  return (traceId) => sampler.shouldSample(ROOT_CONTEXT, traceId).decision === SamplingDecision.RECORD_AND_SAMPLED;
}

/**
 * Gives the SDK the trace id that the decision was made on: samplers of other services look at the same id, so the
 * trace must carry it.
 */
export class TraceIds implements IdGenerator {
  #next: string | undefined;

  /** The next root span gets this trace id. */
  useNext(traceId: string): void {
    this.#next = traceId;
  }

  generateTraceId(): string {
    const traceId = this.#next ?? newTraceId();
    this.#next = undefined;
    return traceId;
  }

  generateSpanId(): string {
    return newSpanId();
  }
}
