import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FieldList } from "../../src/proxy/headers.ts";
import {
  formatTraceparent,
  newSpanId,
  newTraceId,
  newUnsampledTraceparent,
  parseTraceparent,
  passiveTraceFilter,
  readParent,
} from "../../src/telemetry/trace-context.ts";
import { exchangeFacts } from "./facts.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

test("reads a valid traceparent", () => {
  assert.deepEqual(parseTraceparent(`00-${TRACE}-${SPAN}-01`), { traceId: TRACE, spanId: SPAN, flags: 1 });
  assert.deepEqual(parseTraceparent(`00-${TRACE}-${SPAN}-00`)?.flags, 0);
});

test("reads a later version by its first four parts", () => {
  assert.equal(parseTraceparent(`01-${TRACE}-${SPAN}-01`)?.traceId, TRACE);
  assert.equal(parseTraceparent(`cc-${TRACE}-${SPAN}-01-what-the-future-holds`)?.spanId, SPAN);
});

for (const [why, value] of [
  ["version ff", `ff-${TRACE}-${SPAN}-01`],
  ["more parts in version 00", `00-${TRACE}-${SPAN}-01-more`],
  ["text after the flags", `01-${TRACE}-${SPAN}-01more`],
  ["upper case", `00-${TRACE.toUpperCase()}-${SPAN}-01`],
  ["all-zero trace id", `00-${"0".repeat(32)}-${SPAN}-01`],
  ["all-zero span id", `00-${TRACE}-${"0".repeat(16)}-01`],
  ["short trace id", `00-${TRACE.slice(1)}-${SPAN}-01`],
  ["long span id", `00-${TRACE}-${SPAN}0-01`],
  ["flags that are not hexadecimal", `00-${TRACE}-${SPAN}-0g`],
  ["no flags", `00-${TRACE}-${SPAN}`],
  ["a list", `00-${TRACE}-${SPAN}-01,00-${TRACE}-${SPAN}-01`],
  ["nothing", ""],
] as const) {
  test(`refuses a traceparent with ${why}`, () => assert.equal(parseTraceparent(value), undefined));
}

test("two traceparent fields are no parent", () => {
  const value = `00-${TRACE}-${SPAN}-01`;
  assert.notEqual(readParent(new FieldList(["TraceParent", value])), undefined);
  assert.equal(readParent(new FieldList(["traceparent", value, "traceparent", value])), undefined);
});

test("what is written is read back, and any text is read without throwing", () => {
  fc.assert(
    fc.property(fc.boolean(), fc.integer({ min: 0, max: 255 }), (sampled, parentFlags) => {
      const traceId = newTraceId();
      const spanId = newSpanId();
      const parent = parseTraceparent(formatTraceparent(traceId, spanId, sampled, parentFlags));
      assert.deepEqual(parent, { traceId, spanId, flags: (sampled ? 1 : 0) | (parentFlags & 2) });
    }),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      const parent = parseTraceparent(text);
      return parent === undefined || text.includes(parent.traceId);
    }),
  );
});

test("new ids differ across the refills of their pool", () => {
  const ids = new Set(Array.from({ length: 2000 }, newTraceId));
  assert.equal(ids.size, 2000);
  for (const id of ids) assert.match(id, /^[0-9a-f]{32}$/);
});

test("ids differ whichever way they are drawn from the one pool, across its refills", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(2), { minLength: 1, maxLength: 20 }), (ways) => {
      const drawn: string[] = [];
      for (let at = 0; at < 2000; at++) {
        const way = ways[at % ways.length];
        if (way === 0) drawn.push(newTraceId());
        else if (way === 1) drawn.push(newSpanId());
        else {
          const traceparent = newUnsampledTraceparent();
          assert.equal(traceparent.length, 55);
          const parent = parseTraceparent(traceparent);
          assert.equal(parent?.flags, 0);
          drawn.push(parent!.traceId, parent!.spanId);
        }
      }
      // Halves of trace ids too: what is used twice may have been another kind of id the first time.
      const halves = drawn.flatMap((id) => id.match(/[0-9a-f]{16}/g) ?? []);
      assert.equal(halves.length * 16, drawn.join("").length);
      assert.equal(new Set(halves).size, halves.length);
    }),
    { numRuns: 50 },
  );
});

test("the passive filter names the trace and leaves the request alone", () => {
  const header = `00-${TRACE}-${SPAN}-01`;
  const exchange = exchangeFacts({ headers: ["traceparent", header] });
  assert.equal(passiveTraceFilter.exchange?.(exchange), undefined);
  assert.deepEqual(exchange.trace, { traceId: TRACE, spanId: SPAN, sampled: true });
  assert.deepEqual([...exchange.request.headers], [["traceparent", header]]);

  const untraced = exchangeFacts();
  passiveTraceFilter.exchange?.(untraced);
  assert.equal(untraced.trace, undefined);
  assert.equal(untraced.request.headers.size, 0);
});
