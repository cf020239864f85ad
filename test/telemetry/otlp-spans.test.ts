import assert from "node:assert/strict";
import { test } from "node:test";
import { SpanKind } from "@opentelemetry/api";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { AlwaysOnSampler, InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import fc from "fast-check";
import { HoldfastError } from "../../src/errors.ts";
import type { Outcome } from "../../src/plugin/api.ts";
import { KNOWN_METHODS } from "../../src/telemetry/http-semantics.ts";
import { OtlpSpans } from "../../src/telemetry/otlp-spans.ts";
import { TraceIds } from "../../src/telemetry/sampling.ts";
import { SdkSpans } from "../../src/telemetry/sdk-spans.ts";
import type { AttributeValue, SpanEvent, SpanPlace, SpanWriter } from "../../src/telemetry/span-writer.ts";
import { tracingFilter } from "../../src/telemetry/traces.ts";
import { connectionFacts, Driver, EPOCH_MS, exchangeFacts, outcomeFacts, staleFailure } from "./facts.ts";
import { assertCanonical, type DecodedSpan, decodeTraces } from "./otlp.ts";

const RESOURCE = resourceFromAttributes({ "service.name": "orders", "deployment.environment.name": "größer" });

/** Writes everything twice: as bytes, and by the SDK. */
class Both implements SpanWriter {
  readonly bytes = new OtlpSpans(RESOURCE, { name: "holdfast", version: "1.2.3" });
  readonly #exporter = new InMemorySpanExporter();
  readonly #sdk: SdkSpans;
  /** What the SDK must be told anew where bytes are used again. */
  readonly #said = new Map<Uint8Array, (() => void)[]>();
  #shared: (() => void)[] | undefined;

  constructor() {
    const ids = new TraceIds();
    const provider = new TracerProvider({
      resource: RESOURCE,
      sampler: new AlwaysOnSampler(),
      idGenerator: ids,
      spanProcessors: [new SimpleSpanProcessor({ exporter: this.#exporter })],
    });
    this.#sdk = new SdkSpans(provider.getTracer("holdfast", "1.2.3"), ids);
  }

  /** How often something was said from memory. */
  repeated = 0;

  begin(kind: SpanKind, name: string, place: SpanPlace, startEpochMs: number, endEpochMs: number): boolean {
    this.#sdk.begin(kind, name, place, startEpochMs, endEpochMs);
    return this.bytes.begin(kind, name, place, startEpochMs, endEpochMs);
  }

  parent(spanId: string, isRemote: boolean, traceState: string | undefined): void {
    this.#sdk.parent(spanId, isRemote, traceState);
    this.bytes.parent(spanId, isRemote, traceState);
  }

  attribute(name: string, value: AttributeValue): void {
    this.#tell(() => this.#sdk.attribute(name, value));
    this.bytes.attribute(name, value);
  }

  link(to: SpanPlace): void {
    this.#tell(() => this.#sdk.link(to));
    this.bytes.link(to);
  }

  events(events: readonly SpanEvent[]): void {
    this.#sdk.events(events);
    this.bytes.events(events);
  }

  error(message: string | undefined): void {
    this.#sdk.error(message);
    this.bytes.error(message);
  }

  end(): void {
    this.#sdk.end();
    this.bytes.end();
  }

  sharedBegin(): void {
    this.#shared = [];
    this.bytes.sharedBegin();
  }

  sharedEnd(): Uint8Array {
    const said = this.bytes.sharedEnd();
    this.#said.set(said, this.#shared ?? []);
    this.#shared = undefined;
    return said;
  }

  again(said: Uint8Array): void {
    this.repeated++;
    for (const say of this.#said.get(said) ?? []) say();
    this.bytes.again(said);
  }

  /** What would be sent is the same either way. @returns the spans of it */
  compare(): readonly DecodedSpan[] {
    const spans = this.#exporter.getFinishedSpans();
    const request = this.bytes.take();
    assert.equal(request.spans, spans.length);
    const expected = ProtobufTraceSerializer.serializeRequest(spans);
    assert.ok(expected);
    const decoded = decodeTraces(request.bytes);
    assert.deepEqual(decoded, decodeTraces(expected));
    assertCanonical(request.bytes);
    this.#exporter.reset();
    return decoded.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  }

  #tell(say: () => void): void {
    say();
    this.#shared?.push(say);
  }
}

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";
const PLACE: SpanPlace = { traceId: TRACE, spanId: SPAN };

/** Lengths on both sides of where a length takes one byte more, and any text, halves of surrogate pairs among it. */
const text = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme" }),
  fc.string({ unit: fc.nat(0xffff).map((code) => String.fromCharCode(code)) }),
  fc
    .tuple(fc.constantFrom("x", "ü", "€"), fc.constantFrom(40, 60, 90, 120, 128, 5000, 16_384, 40_000), fc.nat(12))
    .map(([unit, length, more]) => unit.repeat(length + more)),
);
const number = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.constantFrom(0, -0, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53, -1, -(2 ** 31), 1e18, 2 ** 63, -(2 ** 63)),
);

test("attributes of any kind are what the SDK makes of them", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(text, number, fc.boolean()), { maxLength: 40 }), text, (values, name) => {
      const both = new Both();
      both.begin(SpanKind.INTERNAL, name, PLACE, EPOCH_MS, EPOCH_MS);
      for (const [index, value] of values.entries()) both.attribute(`holdfast.value.${index}`, value);
      both.end();
      both.compare();
    }),
    { numRuns: 300 },
  );
});

test("times, parents, links, events and errors too", () => {
  const time = fc.double({ min: 0, max: 4e12, noNaN: true });
  const traceState = fc.oneof(fc.constantFrom(undefined, "", "a=1", "a=1,b=2", "A=1, b=2 ,c", "=,=="), fc.string());
  const event = fc.record({
    name: text,
    atEpochMs: time,
    // Assigned to an object, as the SDK does, this name is lost.
    attributes: fc.dictionary(
      fc.string({ minLength: 1 }).filter((name) => name !== "__proto__"),
      text,
    ),
  });
  fc.assert(
    fc.property(
      fc.record({
        times: fc.tuple(time, time),
        parent: fc.option(fc.tuple(fc.boolean(), traceState)),
        links: fc.nat(3),
        events: fc.array(event, { maxLength: 3 }),
        error: fc.option(fc.option(text, { nil: undefined })),
        kind: fc.constantFrom(SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT),
      }),
      ({ times, parent, links, events, error, kind }) => {
        // The SDK takes a time that is not after the process's own as one of `performance.now()`.
        const [start, end] = times.map((at) => at + 1e12) as [number, number];
        const both = new Both();
        both.begin(kind, "GET", PLACE, start, end);
        if (parent !== null) both.parent("00f067aa0ba902b8", ...parent);
        for (let index = 0; index < links; index++) both.link(PLACE);
        both.events(events.map((each) => ({ ...each, atEpochMs: each.atEpochMs + 1e12 })));
        if (error !== null) both.error(error);
        both.end();
        both.compare();
      },
    ),
    { numRuns: 300 },
  );
});

test("a span that is not ended is left out, and does no harm to those beside it", () => {
  const both = new Both();
  const whole = (name: string) => {
    both.begin(SpanKind.SERVER, name, PLACE, EPOCH_MS, EPOCH_MS);
    both.parent("00f067aa0ba902b8", false, undefined);
    both.end();
  };
  whole("first");
  both.bytes.begin(SpanKind.SERVER, "half", { ...PLACE, traceId: TRACE.replace("4", "5") }, EPOCH_MS, EPOCH_MS);
  both.bytes.attribute("url.path", "/x".repeat(20_000));
  whole("second");
  both.bytes.begin(SpanKind.SERVER, "half", PLACE, EPOCH_MS, EPOCH_MS);
  both.compare();
  whole("third");
  both.compare();
});

test("whatever a plugin throws, its event is text", () => {
  const thrown = [
    Object.assign(new Error("x"), { message: Symbol("message") }),
    Object.assign(new Error("x"), { message: { not: "text" } }),
    Object.defineProperty(new Error("x"), "name", { value: 1n }),
    Object.defineProperty(new Error("x"), "name", { value: undefined }),
    Object.create(null),
    7,
    undefined,
  ];
  const both = new Both();
  const driver = new Driver(tracingFilter({ spans: both, sampled: () => true, knownMethods: KNOWN_METHODS }));
  const downstream = connectionFacts({ side: "downstream" });
  driver.open(downstream);
  const facts = exchangeFacts({}, { downstream });
  const begun = driver.begin(facts);
  for (const error of thrown) {
    begun?.pluginFailed?.({
      plugin: "p",
      hook: "request",
      error,
      onError: "continue",
      connection: downstream,
      exchange: facts,
    });
  }
  begun?.end?.(outcomeFacts());
  const [span] = both.compare();
  assert.equal(span?.events.length, thrown.length);
  for (const { attributes } of span.events) {
    assert.equal(attributes.length, 5);
    for (const { key, value } of attributes) assert.equal(typeof value.stringValue, "string", key);
  }
});

test("more events than the SDK keeps: the newest are kept, the others counted", () => {
  const both = new Both();
  both.begin(SpanKind.SERVER, "GET", PLACE, EPOCH_MS, EPOCH_MS);
  both.events(Array.from({ length: 200 }, (_, index) => ({ name: `${index}`, atEpochMs: EPOCH_MS, attributes: {} })));
  both.end();
  both.compare();
});

const request = fc.record({
  method: fc.constantFrom("GET", "GET", "POST", "BREW"),
  target: fc.constantFrom("/", "/items?id=7&sig=secret", `/${"long/".repeat(60)}`, "/\u00e4\u00fc", "*"),
  authority: fc.constantFrom("orders", "orders", "orders:8080", "[::1]:80"),
  headers: fc.constantFrom(
    [],
    [],
    ["User-Agent", "curl/8"],
    ["traceparent", `00-${TRACE}-${SPAN}-01`],
    ["traceparent", `00-${TRACE}-${SPAN}-03`, "tracestate", "a=1", "tracestate", "b=2"],
  ),
});
const REFUSED = new HoldfastError("HF_UPSTREAM_REFUSED", "refused");
const outcome: fc.Arbitrary<Partial<Outcome>> = fc.constantFrom(
  {},
  {},
  { status: 404, requestBytes: 3e9 },
  { status: 503, durationMs: -1 },
  { status: 403, answeredBy: "plugin" },
  { status: 502, answeredBy: "holdfast", error: REFUSED },
  { status: undefined, answeredBy: "none", error: new HoldfastError("HF_DOWNSTREAM_ABORTED", "") },
);
const exchange = fc.record({
  request,
  outcome,
  downstream: fc.nat(1),
  upstream: fc.option(fc.nat(2)),
  isRetried: fc.boolean(),
  queuedMs: fc.constantFrom(0, 0, 2.5),
  idleLimitMs: fc.constantFrom(55_000, 55_000, 55_000, 1000.5, Number.POSITIVE_INFINITY),
  pluginFails: fc.boolean(),
});
/** Most come several times in a row: from the third on they are said from memory. */
const exchanges = fc
  .array(fc.tuple(exchange, fc.integer({ min: 1, max: 5 })), { minLength: 1, maxLength: 12 })
  .map((runs) => runs.flatMap(([each, times]) => Array<typeof each>(times).fill(each)));

test("exchanges of any kind, one after the other on the same connections, say what they say to the SDK", () => {
  let repeated = 0;
  fc.assert(
    fc.property(exchanges, (all) => {
      const both = new Both();
      const driver = new Driver(tracingFilter({ spans: both, sampled: () => true, knownMethods: KNOWN_METHODS }));
      const downstreams = [connectionFacts({ side: "downstream" }), connectionFacts({ side: "downstream" })];
      const upstreams = [
        connectionFacts({ exchanges: 0, setup: { ...connectionFacts().setup, dnsMs: 0.5, connectMs: 1 } }),
        connectionFacts({ exchanges: 0, origin: { scheme: "https", host: "::1", port: 443 }, protocol: "h2" }),
        connectionFacts({ exchanges: 5, activeExchanges: 3, protocol: "http/1.0" }),
      ];
      const hooks = [...downstreams, ...upstreams].map((connection) => driver.open(connection));
      for (const each of all) {
        const facts = exchangeFacts(each.request, {
          downstream: downstreams[each.downstream]!,
          queuedMs: each.queuedMs,
        });
        const begun = driver.begin(facts);
        const upstream = each.upstream === null ? undefined : upstreams[each.upstream]!;
        if (upstream !== undefined) {
          upstream.exchanges++;
          upstream.idleLimitMs = each.idleLimitMs;
          driver.connect(facts, begun, upstream);
          if (each.isRetried) {
            begun?.retry?.(staleFailure());
            driver.connect(facts, begun, upstream);
          }
        }
        const { downstream } = facts;
        const failure = { plugin: "p", hook: "end", error: 7, onError: "continue", connection: downstream } as const;
        if (each.pluginFails) begun?.pluginFailed?.({ ...failure, exchange: facts });
        begun?.end?.(outcomeFacts(each.outcome));
      }
      for (const each of hooks) each.close?.("peer_reset");
      both.compare();
      repeated += both.repeated;
    }),
    { numRuns: 200 },
  );
  assert.ok(repeated > 0, "something was said from memory");
});

test("requests follow each other in memory that is used again", () => {
  const both = new Both();
  for (let round = 0; round < 5; round++) {
    for (let count = 0; count <= round * 100; count++) {
      both.begin(SpanKind.INTERNAL, `span ${round} ${count}`, PLACE, EPOCH_MS, EPOCH_MS + 1);
      both.parent(SPAN, false, undefined);
      both.attribute("url.path", "/x".repeat(count));
      both.end();
    }
    both.compare();
  }
});
