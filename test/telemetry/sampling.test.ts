import assert from "node:assert/strict";
import { test } from "node:test";
import { ROOT_CONTEXT } from "@opentelemetry/api";
import { SamplingDecision, TraceIdRatioBasedSampler } from "@opentelemetry/sdk-trace";
import fc from "fast-check";
import { sampledBy } from "../../src/telemetry/sampling.ts";
import { newTraceId } from "../../src/telemetry/trace-context.ts";

function decidesAlike(ratio: number, traceId: string): void {
  const { decision } = new TraceIdRatioBasedSampler(ratio).shouldSample(ROOT_CONTEXT, traceId);
  const expected = decision === SamplingDecision.RECORD_AND_SAMPLED;
  assert.equal(sampledBy("traceidratio", ratio)(traceId, undefined), expected, `${traceId} at ${ratio}`);
}

test("the ratio decides as the SDK's sampler does", () => {
  const ratio = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 1, 0.01, 0.1, 0.5, 1e-9));
  fc.assert(
    fc.property(ratio, fc.bigInt({ min: 1n, max: 2n ** 128n - 1n }), (share, id) =>
      decidesAlike(share, id.toString(16).padStart(32, "0")),
    ),
  );
  for (let count = 0; count < 1000; count++) decidesAlike(0.5, newTraceId());
});

test("ids whose words come to the bound itself, or right beside it", () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: -2, max: 2 }),
      fc.tuple(fc.nat(0x7fff_ffff), fc.nat(0x7fff_ffff), fc.integer({ min: 1, max: 0x7fff_ffff })),
      (ratio, beside, [a, b, c]) => {
        const bound = Math.floor(ratio * 0xffff_ffff);
        const wanted = Math.min(0xffff_ffff, Math.max(0, bound + beside));
        const words = [a, b, c, (wanted ^ a ^ b ^ c) >>> 0];
        decidesAlike(ratio, words.map((word) => word.toString(16).padStart(8, "0")).join(""));
      },
    ),
  );
});
