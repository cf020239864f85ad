import assert from "node:assert/strict";
import { test } from "node:test";
import { SpanKind } from "@opentelemetry/api";
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { AlwaysOnSampler, TracerProvider } from "@opentelemetry/sdk-trace";
import { DeliveryLog, type SpansLost } from "../../src/telemetry/delivery.ts";
import { OtlpSpans, type SpanRequest } from "../../src/telemetry/otlp-spans.ts";
import { SpanObjects } from "../../src/telemetry/sdk-spans.ts";
import type { BatchSettings } from "../../src/telemetry/settings.ts";
import { type BatchExporter, type BatchResult, type SpanBatch, SpanBatches } from "../../src/telemetry/span-batches.ts";

const SETTINGS: BatchSettings = { delayMs: 600_000, exportTimeoutMs: 600_000, maxQueueSize: 4, maxBatchSize: 4 };

/** Answers when the test says so; its shutdown waits for every answer, as the OTLP exporters' does. */
class ManualExporter implements BatchExporter<SpanBatch> {
  readonly batches: { size: number; done: (result: BatchResult) => void }[] = [];
  readonly #answers: Promise<void>[] = [];

  export({ spans }: SpanBatch, done: (result: BatchResult) => void): void {
    const answer = Promise.withResolvers<void>();
    this.#answers.push(answer.promise);
    this.batches.push({
      size: spans,
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

interface Pipeline {
  /** Ends this many spans. */
  spans(count: number): void;
  dropped(): number;
  readonly failures: readonly unknown[];
  shutdown(): Promise<void>;
  abandon(): number;
}

/** Both kinds of spans that are sent in batches. */
const KINDS = ["objects", "bytes"] as const;

function pipeline(kind: (typeof KINDS)[number], exporter: BatchExporter<SpanBatch>, settings = SETTINGS): Pipeline {
  let dropped = 0;
  const failures: unknown[] = [];
  const onLost: SpansLost = (spans, cause) => {
    dropped += spans;
    failures.push(cause);
  };
  const pipelineOf = (batches: { shutdown(): Promise<void>; abandon(): number }) => ({
    dropped: () => dropped,
    failures,
    shutdown: () => batches.shutdown(),
    abandon: () => batches.abandon(),
  });
  switch (kind) {
    case "objects": {
      const objects = new SpanObjects();
      const batches = new SpanBatches(objects, exporter, settings, onLost);
      const provider = new TracerProvider({ sampler: new AlwaysOnSampler(), spanProcessors: [objects] });
      const tracer = provider.getTracer("test");
      return { ...pipelineOf(batches), spans: (count) => times(count, () => tracer.startSpan("s").end()) };
    }
    case "bytes": {
      const writer = new OtlpSpans(resourceFromAttributes({}), { name: "test", version: "0" });
      const batches = new SpanBatches(writer, exporter, settings, onLost);
      const place = { traceId: "a".repeat(32), spanId: "b".repeat(16) };
      const write = () => writer.begin(SpanKind.INTERNAL, "s", place, 0, 0) && writer.end();
      return { ...pipelineOf(batches), spans: (count) => times(count, write) };
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

  test(`${kind}: what the collector rejects of a batch that it took is dropped, counted and reported`, () => {
    const exporter = new ManualExporter();
    const { spans, dropped, failures, abandon } = pipeline(kind, exporter);
    spans(4);
    const cause = new Error("too old");
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS, rejected: { spans: 3, cause } });
    assert.equal(dropped(), 3);
    assert.deepEqual(failures, [cause]);
    spans(4);
    assert.equal(abandon(), 4);
    exporter.batches[1]?.done({ code: ExportResultCode.SUCCESS, rejected: { spans: 3, cause } });
    assert.equal(dropped(), 3, "which are among those given up");
  });

  test(`${kind}: at the end the rest is sent eight batches at a time`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, shutdown } = pipeline(kind, exporter, { ...SETTINGS, maxQueueSize: 200 });
    spans(4 * 40);
    assert.equal(exporter.batches.length, 1);
    const stopped = shutdown();
    await until(() => exporter.batches.length === 9);
    for (let batch = 0; batch < 40; batch++) {
      await until(() => exporter.batches.length > batch);
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
      assert.ok(exporter.batches.length <= batch + 9, `${exporter.batches.length - batch} at once`);
      exporter.batches[batch]?.done({ code: ExportResultCode.SUCCESS });
    }
    await stopped;
    assert.equal(dropped(), 0);
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
    const { spans, dropped, shutdown } = pipeline(kind, exporter, { ...SETTINGS, maxBatchSize: 2 });
    spans(6);
    let isStopped = false;
    const stopped = shutdown().then(() => {
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
    const { spans, dropped, shutdown } = pipeline(kind, exporter);
    spans(3);
    const stopped = shutdown();
    await until(() => exporter.batches.length === 1);
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
    await stopped;
    assert.equal(dropped(), 0);
    spans(2);
    assert.equal(dropped(), 2);
  });

  test(`${kind}: what is still on its way when the batches are abandoned is told, once`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, failures, abandon } = pipeline(kind, exporter);
    // Four are being sent, three wait.
    spans(7);
    assert.equal(dropped(), 0);
    assert.equal(abandon(), 7);
    exporter.batches[0]?.done({ code: ExportResultCode.FAILED });
    assert.equal(abandon(), 0);
    assert.deepEqual([dropped(), failures], [0, []]);
    spans(1);
    assert.equal(dropped(), 1);
  });

  test(`${kind}: nothing is dropped when the batches are abandoned after all was delivered`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, failures, shutdown, abandon } = pipeline(kind, exporter);
    spans(4);
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
    await shutdown();
    assert.equal(abandon(), 0);
    assert.deepEqual([dropped(), failures], [0, []]);
  });

  test(`${kind}: a span alone waits for others, but not for ever`, async () => {
    const exporter = new ManualExporter();
    const { spans, dropped, shutdown } = pipeline(kind, exporter, { ...SETTINGS, delayMs: 1 });
    spans(1);
    assert.equal(exporter.batches.length, 0);
    await until(() => exporter.batches.length === 1);
    spans(2);
    exporter.batches[0]?.done({ code: ExportResultCode.SUCCESS });
    await until(() => exporter.batches.length === 2);
    assert.equal(exporter.batches[1]?.size, 2);
    exporter.batches[1]?.done({ code: ExportResultCode.SUCCESS });
    await shutdown();
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
  const exporter: BatchExporter<SpanRequest> = {
    export: (request, done) => void requests.push({ request, copy: Buffer.from(request.bytes), done }),
    shutdown: async () => {},
  };
  const writer = new OtlpSpans(resourceFromAttributes({}), { name: "test", version: "0" });
  new SpanBatches(writer, exporter, { ...SETTINGS, maxQueueSize: 100 }, () => {});
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

test("what is given up at the end is in the last line, and needs no line of its own", () => {
  const lines: [object, string][] = [];
  const log = { warn: (fields: object, message: string) => lines.push([fields, message]) };
  new DeliveryLog(log, "spans", "http://collector:4318/v1/traces").end(5);
  assert.deepEqual(lines, [
    [
      { lost: 5, reason: "not delivered in time" },
      "telemetry: the collector at http://collector:4318/v1/traces did not take 5 of our spans in all; " +
        "the last reason: not delivered in time",
    ],
  ]);
});

test("the end is not worth a line when nothing was lost", () => {
  const lines: string[] = [];
  const log = { warn: (_fields: object, message: string) => lines.push(message) };
  new DeliveryLog(log, "spans", "http://collector:4318/v1/traces").end();
  assert.deepEqual(lines, []);
});
