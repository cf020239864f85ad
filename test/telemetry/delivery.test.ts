import assert from "node:assert/strict";
import { test } from "node:test";
import { SpanKind } from "@opentelemetry/api";
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { AlwaysOnSampler, type ReadableSpan, type SpanExporter, TracerProvider } from "@opentelemetry/sdk-trace";
import { CountedBatches, DeliveryLog, type SpansLost } from "../../src/telemetry/delivery.ts";
import { OtlpSpans, type SpanRequest } from "../../src/telemetry/otlp-spans.ts";
import type { BatchSettings } from "../../src/telemetry/settings.ts";
import { EncodedBatches, type RequestExporter } from "../../src/telemetry/span-batches.ts";

const SETTINGS: BatchSettings = { delayMs: 600_000, exportTimeoutMs: 600_000, maxQueueSize: 4, maxBatchSize: 4 };

/** Answers when the test says so; its shutdown waits for every answer, as the OTLP exporters' does. */
class ManualExporter {
  readonly batches: { size: number; done: (result: ExportResult) => void }[] = [];
  readonly #answers: Promise<void>[] = [];

  export(spans: ReadableSpan[] | SpanRequest, done: (result: ExportResult) => void): void {
    const answer = Promise.withResolvers<void>();
    this.#answers.push(answer.promise);
    this.batches.push({
      size: Array.isArray(spans) ? spans.length : spans.spans,
      done(result) {
        done(result);
        answer.resolve();
      },
    });
  }

  async shutdown(): Promise<void> {
    await Promise.all(this.#answers);
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate);
}

type AnyExporter = SpanExporter & RequestExporter;

interface Pipeline {
  /** Ends this many spans. */
  spans(count: number): void;
  dropped(): number;
  readonly failures: readonly unknown[];
  readonly processor: { shutdown(): Promise<void>; abandon(): void };
}

/** Both ways to send spans in batches: as objects through the SDK's batch processor, and as bytes. */
const KINDS = ["objects", "bytes"] as const;

function pipeline(kind: (typeof KINDS)[number], exporter: AnyExporter, settings = SETTINGS): Pipeline {
  let dropped = 0;
  const failures: unknown[] = [];
  const onLost: SpansLost = (spans, cause) => {
    dropped += spans;
    failures.push(cause);
  };
  const common = { dropped: () => dropped, failures };
  switch (kind) {
    case "objects": {
      const processor = new CountedBatches(exporter, settings, onLost);
      const provider = new TracerProvider({ sampler: new AlwaysOnSampler(), spanProcessors: [processor] });
      const tracer = provider.getTracer("test");
      return { ...common, processor, spans: (count) => times(count, () => tracer.startSpan("s").end()) };
    }
    case "bytes": {
      const writer = new OtlpSpans(resourceFromAttributes({}), { name: "test", version: "0" });
      const processor = new EncodedBatches(writer, exporter, settings, onLost);
      const place = { traceId: "a".repeat(32), spanId: "b".repeat(16) };
      const write = () => writer.begin(SpanKind.INTERNAL, "s", place, 0, 0) && writer.end();
      return { ...common, processor, spans: (count) => times(count, write) };
    }
  }
}

function times(count: number, act: () => void): void {
  for (let index = 0; index < count; index++) act();
}

for (const kind of KINDS) {
  test(`${kind}: what does not fit the queue is dropped and counted, exactly`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, failures } = pipeline(kind, exporter);
    // The fourth span fills a batch, which is taken out of the queue to be sent.
    spans(4);
    assert.deepEqual(
      exporter.batches.map(({ size }) => size),
      [4],
    );
    assert.equal(dropped(), 0);
    // Nothing else is sent meanwhile: the queue takes four more.
    spans(10);
    assert.equal(dropped(), 6);
    assert.equal(failures.length, 6);
    for (const failure of failures) assert.match(String(failure), /the queue of 4 spans is full/);
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
    await until(() => exporter.batches.length === 2);
    assert.equal(exporter.batches[1]?.size, 4);
    exporter.batches[1]?.done({ code: ExportResultCode.SUCCESS });
    assert.equal(dropped(), 6);
  });

  test(`${kind}: a batch that is not taken is dropped, counted and reported`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, failures } = pipeline(kind, exporter);
    spans(4);
    const error = new Error("503");
    exporter.batches[0]?.done({ code: ExportResultCode.FAILED, error });
    assert.equal(dropped(), 4);
    assert.deepEqual(failures, [error]);
  });

  test(`${kind}: an exporter that throws is a failed delivery`, () => {
    const { spans, dropped, failures } = pipeline(kind, {
      export() {
        throw new TypeError("broken");
      },
      async shutdown() {},
    });
    spans(4);
    assert.equal(dropped(), 4);
    assert.match(String(failures[0]), /broken/);
  });

  test(`${kind}: the shutdown waits for every batch, also when one fails`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, processor } = pipeline(kind, exporter, { ...SETTINGS, maxBatchSize: 2 });
    spans(6);
    let isStopped = false;
    const stopped = processor.shutdown().then(() => {
      isStopped = true;
    });
    await until(() => exporter.batches.length === 3);
    exporter.batches[1]?.done({ code: ExportResultCode.FAILED });
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    assert.equal(isStopped, false);
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
    exporter.batches[2]?.done({ code: ExportResultCode.FAILED });
    await stopped;
    assert.equal(dropped(), 4);
  });

  test(`${kind}: spans that end after the shutdown are dropped`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, processor } = pipeline(kind, exporter);
    spans(3);
    const stopped = processor.shutdown();
    await until(() => exporter.batches.length === 1);
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
    await stopped;
    assert.equal(dropped(), 0);
    spans(2);
    assert.equal(dropped(), 2);
  });

  test(`${kind}: what is still on its way when the batches are abandoned is dropped, once`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, failures, processor } = pipeline(kind, exporter);
    // Four are being sent, three wait.
    spans(7);
    assert.equal(dropped(), 0);
    processor.abandon();
    assert.equal(dropped(), 7);
    assert.match(String(failures[0]), /not delivered in time/);
    exporter.batches[0]?.done({ code: ExportResultCode.FAILED });
    processor.abandon();
    assert.equal(dropped(), 7);
    spans(1);
    assert.equal(dropped(), 8);
  });

  test(`${kind}: nothing is dropped when the batches are abandoned after all was delivered`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, failures, processor } = pipeline(kind, exporter);
    spans(4);
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
    await processor.shutdown();
    processor.abandon();
    assert.deepEqual([dropped(), failures], [0, []]);
  });

  test(`${kind}: a span alone waits for others, but not for ever`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, processor } = pipeline(kind, exporter, { ...SETTINGS, delayMs: 1 });
    spans(1);
    assert.equal(exporter.batches.length, 0);
    await until(() => exporter.batches.length === 1);
    spans(2);
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
    await until(() => exporter.batches.length === 2);
    assert.equal(exporter.batches[1]?.size, 2);
    exporter.batches[1]?.done({ code: ExportResultCode.SUCCESS });
    await processor.shutdown();
    assert.equal(dropped(), 0);
  });

  test(`${kind}: an answer that does not come does not hold up the next batch, also when it comes late`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped } = pipeline(kind, exporter, { ...SETTINGS, exportTimeoutMs: 1 });
    spans(8);
    assert.equal(exporter.batches.length, 1);
    await until(() => exporter.batches.length === 2);
    exporter.batches[0]?.done({ code: ExportResultCode.FAILED });
    assert.equal(dropped(), 4);
    exporter.batches[1]?.done({ code: ExportResultCode.SUCCESS });
    spans(4);
    await until(() => exporter.batches.length === 3);
    assert.equal(dropped(), 4);
  });
}

test("bytes that were not answered for are left alone; those that were are written over", async () => {
  const requests: { request: SpanRequest; copy: Buffer; done: (result: ExportResult) => void }[] = [];
  const exporter: RequestExporter = {
    export: (request, done) => void requests.push({ request, copy: Buffer.from(request.bytes), done }),
    shutdown: async () => {},
  };
  const writer = new OtlpSpans(resourceFromAttributes({}), { name: "test", version: "0" });
  new EncodedBatches(writer, exporter, { ...SETTINGS, maxQueueSize: 100 }, () => {});
  let spans = 0;
  for (let batch = 0; batch < 8; batch++) {
    while (requests.length === batch || writer.spans > 0) {
      const place = { traceId: "a".repeat(32), spanId: String(++spans).padStart(16, "0") };
      if (writer.begin(SpanKind.INTERNAL, `span ${spans}`, place, 0, 0)) writer.end();
    }
    const { request, copy, done } = requests[batch]!;
    assert.deepEqual(Buffer.from(request.bytes), copy);
    done({ code: batch === 2 ? ExportResultCode.FAILED : ExportResultCode.SUCCESS });
    await new Promise(setImmediate);
  }
  const memories = requests.map(({ request }) => request.memory);
  assert.ok(new Set(memories).size < memories.length, "memory was used again");
  assert.equal(memories.slice(3).includes(memories[2]!), false, "but not after a failure");
});

test("failures are logged at most once a minute, with how many there were", () => {
  const lines: [object, string][] = [];
  let nowMs = 5;
  const log = { warn: (fields: object, message: string) => lines.push([fields, message]) };
  const deliveries = new DeliveryLog(log, "spans", "http://collector:4318/v1/traces", () => nowMs);
  const refused = Object.assign(new AggregateError([Object.assign(new Error("connect ECONNREFUSED"), { code: "X" })]));
  deliveries.failed(refused, 10);
  nowMs += 59_999;
  deliveries.failed(new Error("late"), 1);
  deliveries.failed(new Error("late"), 2);
  assert.equal(lines.length, 1);
  nowMs += 1;
  deliveries.failed(undefined, 4);
  const where = "the collector at http://collector:4318/v1/traces";
  assert.deepEqual(lines, [
    [
      { lost: 10, reason: "connect ECONNREFUSED" },
      `telemetry: ${where} does not take our spans (connect ECONNREFUSED); traffic is not affected`,
    ],
    [
      { lost: 7, reason: "no reason given" },
      `telemetry: ${where} does not take our spans (no reason given); traffic is not affected`,
    ],
  ]);
  deliveries.failed(new Error("later"), 3);
  deliveries.end();
  assert.deepEqual(lines.slice(2), [
    [{ lost: 3, reason: "later" }, `telemetry: ${where} did not take 20 of our spans in all; the last reason: later`],
  ]);
});

test("the end is not worth a line when nothing was lost", () => {
  const lines: string[] = [];
  const log = { warn: (_fields: object, message: string) => lines.push(message) };
  new DeliveryLog(log, "spans", "http://collector:4318/v1/traces").end();
  assert.deepEqual(lines, []);
});
