import assert from "node:assert/strict";
import { test } from "node:test";
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import { AlwaysOnSampler, type ReadableSpan, type SpanExporter, TracerProvider } from "@opentelemetry/sdk-trace";
import { CountedBatches, DeliveryLog } from "../../src/telemetry/delivery.ts";
import type { BatchSettings } from "../../src/telemetry/settings.ts";

const SETTINGS: BatchSettings = { delayMs: 600_000, exportTimeoutMs: 600_000, maxQueueSize: 4, maxBatchSize: 4 };

/** Answers when the test says so; its shutdown waits for every answer, as the OTLP exporters' does. */
class ManualExporter implements SpanExporter {
  readonly batches: { size: number; done: (result: ExportResult) => void }[] = [];
  readonly #answers: Promise<void>[] = [];

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    const answer = Promise.withResolvers<void>();
    this.#answers.push(answer.promise);
    this.batches.push({
      size: spans.length,
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

function pipeline(exporter: SpanExporter, settings = SETTINGS) {
  let dropped = 0;
  const failures: unknown[] = [];
  const processor = new CountedBatches(exporter, settings, (spans, cause) => {
    dropped += spans;
    failures.push(cause);
  });
  const tracer = new TracerProvider({ sampler: new AlwaysOnSampler(), spanProcessors: [processor] }).getTracer("test");
  const spans = (count: number) => {
    for (let index = 0; index < count; index++) tracer.startSpan("s").end();
  };
  return { spans, dropped: () => dropped, failures, processor };
}

test("what does not fit the queue is dropped and counted, exactly", async () => {
  const exporter = new ManualExporter();
  const { spans, dropped, failures } = pipeline(exporter);
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

test("a batch that is not taken is dropped, counted and reported", async () => {
  const exporter = new ManualExporter();
  const { spans, dropped, failures } = pipeline(exporter);
  spans(4);
  const error = new Error("503");
  exporter.batches[0]?.done({ code: ExportResultCode.FAILED, error });
  assert.equal(dropped(), 4);
  assert.deepEqual(failures, [error]);
});

test("an exporter that throws is a failed delivery", () => {
  const { spans, dropped, failures } = pipeline({
    export() {
      throw new TypeError("broken");
    },
    async shutdown() {},
  });
  spans(4);
  assert.equal(dropped(), 4);
  assert.match(String(failures[0]), /broken/);
});

test("the shutdown waits for every batch, also when one fails", async () => {
  const exporter = new ManualExporter();
  const { spans, dropped, processor } = pipeline(exporter, { ...SETTINGS, maxBatchSize: 2 });
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

test("spans that end after the shutdown are dropped", async () => {
  const exporter = new ManualExporter();
  const { spans, dropped, processor } = pipeline(exporter);
  spans(3);
  const stopped = processor.shutdown();
  await until(() => exporter.batches.length === 1);
  exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
  await stopped;
  assert.equal(dropped(), 0);
  spans(2);
  assert.equal(dropped(), 2);
});

test("what is still on its way when the batches are abandoned is dropped, once", async () => {
  const exporter = new ManualExporter();
  const { spans, dropped, failures, processor } = pipeline(exporter);
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

test("nothing is dropped when the batches are abandoned after all was delivered", async () => {
  const exporter = new ManualExporter();
  const { spans, dropped, failures, processor } = pipeline(exporter);
  spans(4);
  exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
  await processor.shutdown();
  processor.abandon();
  assert.deepEqual([dropped(), failures], [0, []]);
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
