import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { trace } from "@opentelemetry/api";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import type { TelemetryConfig } from "../../src/config/sidecar-config.ts";
import type { Filter } from "../../src/plugin/api.ts";
import type { Environment } from "../../src/telemetry/settings.ts";
import { startTelemetry, type Telemetry } from "../../src/telemetry/start.ts";
import { attributes, Collector, type OtlpMetrics, type OtlpTraces, type Received, spansOf } from "./collector.ts";
import { connectionFacts, Driver, exchangeFacts, outcomeFacts } from "./facts.ts";
import { type DecodedResourceSpans, type DecodedScopeSpans, decodeTraces } from "./otlp.ts";

interface Started {
  readonly telemetry: Telemetry;
  readonly driver: Driver;
  readonly tracing: Filter;
  readonly warnings: string[];
  readonly errors: string[];
  readonly printed: string[];
}

function start(
  t: TestContext,
  endpoint: string | undefined,
  { env = {}, config = {} }: { env?: Environment; config?: Partial<TelemetryConfig> } = {},
): Started {
  const warnings: string[] = [];
  const errors: string[] = [];
  const printed: string[] = [];
  const telemetry = startTelemetry({
    config: {
      traces: { exporters: ["otlp"], sampler: "parentbased_traceidratio", ratio: 1 },
      metrics: { prometheus: true, otlp: true, otlpIntervalMs: 600_000 },
      otlp: { endpoint, protocol: "http/json" },
      ...config,
    },
    service: "orders",
    version: "1.2.3",
    log: {
      warn: (_fields, message) => warnings.push(message),
      error: (_fields, message) => errors.push(message),
    },
    env,
    output: { write: (text) => printed.push(text) },
  });
  t.after(() => telemetry.shutdown());
  const filters = telemetry.filters("outbound");
  const all: Filter = {
    connection(connection) {
      const hooks = filters.map(({ filter }) => filter.connection?.(connection) ?? {});
      return {
        active: (exchange) => hooks.forEach((hook) => void hook.active?.(exchange)),
        idle: () => hooks.forEach((hook) => void hook.idle?.()),
        close: (reason) => hooks.forEach((hook) => void hook.close?.(reason)),
      };
    },
    exchange(exchange) {
      const hooks = filters.map(({ filter }) => filter.exchange?.(exchange) ?? {});
      return {
        upstreamConnected: (connection) => hooks.forEach((hook) => void hook.upstreamConnected?.(connection, exchange)),
        end: (outcome) => hooks.forEach((hook) => void hook.end?.(outcome, exchange)),
      };
    },
  };
  const tracing = filters.find(({ name }) => name === "traces")!.filter;
  return { telemetry, driver: new Driver(all), tracing, warnings, errors, printed };
}

test("spans and metrics arrive at a collector as JSON, under the names and headers of the environment", async (t) => {
  const collector = new Collector(t);
  const endpoint = await collector.listen();
  const { telemetry, driver, warnings, errors } = start(t, "http://127.0.0.1:1", {
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_EXPORTER_OTLP_HEADERS: "api-key=sesame",
      OTEL_SERVICE_NAME: "checkout",
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test",
    },
  });
  await telemetry.load();
  const connection = connectionFacts({ id: 7, setup: { ...connectionFacts().setup, connectMs: 1 } });
  const hooks = driver.open(connection);
  driver.run(exchangeFacts({ target: "/items?sig=secret" }), connection);
  hooks.close?.("peer_closed");
  await telemetry.shutdown();

  const requests = collector.of("/v1/traces");
  assert.ok(requests.length > 0, "traces arrived");
  for (const { headers } of collector.received) {
    assert.equal(headers["content-type"], "application/json");
    assert.equal(headers["api-key"], "sesame");
  }
  const traces: OtlpTraces = JSON.parse(requests[0]!.body.toString());
  const resource = attributes(traces.resourceSpans[0]!.resource.attributes);
  assert.equal(resource["service.name"], "checkout");
  assert.equal(resource["deployment.environment.name"], "test");
  assert.equal(resource["telemetry.distro.name"], "holdfast");
  assert.equal(resource["telemetry.sdk.language"], "nodejs");
  const { scope } = traces.resourceSpans[0]!.scopeSpans[0]!;
  assert.equal(scope.name, "holdfast");
  assert.equal(scope.version, "1.2.3");

  const spans = spansOf(requests);
  assert.deepEqual(
    spans.map(({ name, kind }) => [name, kind]).sort(),
    [
      ["GET", 2],
      ["GET", 3],
      ["HTTP connection inventory.internal:8081", 1],
      ["HTTP connection_setup inventory.internal:8081", 1],
      ["socket connect", 1],
    ].sort(),
  );
  const server = spans.find(({ kind }) => kind === 2)!;
  const client = spans.find(({ kind }) => kind === 3)!;
  const setup = spans.find(({ name }) => name.startsWith("HTTP connection_setup"))!;
  assert.equal(client.parentSpanId, server.spanId);
  assert.deepEqual(
    client.links?.map(({ spanId }) => spanId),
    [setup.spanId],
  );
  assert.equal(Number(attributes(client.attributes)["holdfast.connection.id"]), 7);
  assert.equal(
    requests.some(({ body }) => body.includes("secret")),
    false,
  );

  const metrics: OtlpMetrics = JSON.parse(collector.of("/v1/metrics").at(-1)!.body.toString());
  const names = metrics.resourceMetrics.flatMap(({ scopeMetrics }) =>
    scopeMetrics.flatMap(({ metrics }) => metrics.map(({ name }) => name)),
  );
  for (const name of ["http.server.request.duration", "http.client.request.duration", "holdfast.connection.requests"]) {
    assert.ok(names.includes(name), `${name} in ${names}`);
  }
  assert.equal(telemetry.droppedSpans, 0);
  assert.deepEqual([warnings, errors], [[], []]);
});

test("spans and metrics arrive at a collector as protobuf", async (t) => {
  const collector = new Collector(t, (response) => response.writeHead(200).end());
  const endpoint = await collector.listen();
  const { telemetry, driver } = start(t, endpoint, {
    env: { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf", OTEL_EXPORTER_OTLP_HEADERS: "api-key=sesame" },
  });
  await telemetry.load();
  driver.run(exchangeFacts({ target: "/items?sig=secret" }), connectionFacts({ id: 7 }));
  await telemetry.shutdown();
  for (const path of ["/v1/traces", "/v1/metrics"]) {
    const { headers } = collector.of(path)[0]!;
    assert.equal(headers["content-type"], "application/x-protobuf");
    assert.equal(headers["api-key"], "sesame");
  }
  const [{ resource, scopeSpans }] = decodeTraces(collector.of("/v1/traces")[0]!.body).resourceSpans as [
    DecodedResourceSpans,
  ];
  assert.deepEqual(
    resource.attributes.map(({ key }) => key),
    [
      "service.instance.id",
      "service.name",
      "telemetry.distro.name",
      "telemetry.distro.version",
      "telemetry.sdk.language",
      "telemetry.sdk.name",
      "telemetry.sdk.version",
    ],
  );
  const [{ scope, spans }] = scopeSpans as [DecodedScopeSpans];
  assert.deepEqual([scope.name, scope.version], ["holdfast", "1.2.3"]);
  assert.deepEqual(spans.map(({ name, kind }) => [name, kind]).sort(), [
    ["GET", 2],
    ["GET", 3],
    ["HTTP connection_setup inventory.internal:8081", 1],
  ]);
  assert.ok(collector.of("/v1/metrics")[0]!.body.includes("http.server.request.duration"));
  assert.equal(collector.of("/v1/traces")[0]!.body.includes("secret"), false);
  assert.equal(telemetry.droppedSpans, 0);
});

test("protobuf is compressed where the environment of the process says so", async (t) => {
  const collector = new Collector(t, (response) => response.writeHead(200).end());
  const endpoint = await collector.listen();
  process.env["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip";
  t.after(() => Reflect.deleteProperty(process.env, "OTEL_EXPORTER_OTLP_COMPRESSION"));
  const { telemetry, driver } = start(t, endpoint, { env: { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" } });
  await telemetry.load();
  driver.run(exchangeFacts(), connectionFacts());
  await telemetry.shutdown();
  const { headers, body } = collector.of("/v1/traces")[0]!;
  assert.equal(headers["content-encoding"], "gzip");
  assert.equal(decodeTraces(gunzipSync(body)).resourceSpans[0]?.scopeSpans[0]?.spans.length, 3);
});

/** Every way spans take: as bytes, and as objects of the SDK for what bytes cannot do. */
const WAYS: Readonly<Record<string, Environment>> = {
  bytes: { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" },
  JSON: { OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" },
  "the console beside": { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf", OTEL_TRACES_EXPORTER: "otlp,console" },
  "limits of spans": { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf", OTEL_SPAN_LINK_COUNT_LIMIT: "9" },
};

for (const [way, wayEnv] of Object.entries(WAYS)) {
  test(`${way}: at the end everything that waits is sent, in however many batches`, async (t) => {
    const collector = new Collector(t, (response) => response.writeHead(200).end());
    const endpoint = await collector.listen();
    const { telemetry, driver, warnings } = start(t, endpoint, {
      env: { ...wayEnv, OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "4" },
    });
    await telemetry.load();
    for (let count = 0; count < 200; count++) driver.run(exchangeFacts(), connectionFacts());
    await telemetry.shutdown(20_000);
    const requests = collector.of("/v1/traces");
    assert.ok(requests.length >= 100, `${requests.length} requests`);
    const kinds =
      way === "JSON"
        ? spansOf(requests).map(({ kind }) => kind)
        : requests.flatMap(({ body }) =>
            decodeTraces(body).resourceSpans[0]!.scopeSpans[0]!.spans.map(({ kind }) => kind),
          );
    assert.equal(kinds.filter((kind) => kind === 2).length, 200);
    assert.equal(telemetry.droppedSpans, 0);
    assert.deepEqual(warnings, []);
  });

  test(`${way}: what is not delivered until the end is counted, and is one line in the log`, async (t) => {
    const collector = new Collector(t, () => {});
    const { telemetry, driver, warnings } = start(t, await collector.listen(), {
      env: { ...wayEnv, OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "4", OTEL_METRICS_EXPORTER: "none" },
    });
    await telemetry.load();
    const connection = connectionFacts();
    // Two spans each, and one for the setup of the connection they share.
    for (let count = 0; count < 200; count++) driver.run(exchangeFacts(), connection);
    await telemetry.shutdown(50);
    assert.equal(telemetry.droppedSpans, 401);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? "", /did not take 401 of our spans in all; the last reason: not delivered in time/);
  });
}

/** `ExportTraceServiceResponse` with `partial_success`: 2 spans, "too old". */
const REJECTION = {
  protobuf: Buffer.from([0x0a, 0x0b, 0x08, 0x02, 0x12, 0x07, ...Buffer.from("too old")]),
  JSON: JSON.stringify({ partialSuccess: { rejectedSpans: "2", errorMessage: "too old" } }),
};

for (const [way, wayEnv] of Object.entries(WAYS)) {
  test(`${way}: spans that the collector rejects of a request that it takes are dropped`, async (t) => {
    const answer = way === "JSON" ? REJECTION.JSON : REJECTION.protobuf;
    const collector = new Collector(t, (response) => response.writeHead(200).end(answer));
    const { telemetry, driver, warnings } = start(t, await collector.listen(), {
      env: { ...wayEnv, OTEL_METRICS_EXPORTER: "none" },
    });
    await telemetry.load();
    driver.run(exchangeFacts(), connectionFacts());
    await telemetry.shutdown(20_000);
    assert.equal(collector.received.length, 1);
    assert.equal(telemetry.droppedSpans, 2);
    assert.equal(warnings.length, 2);
    assert.match(warnings[0] ?? "", /does not take our spans \(too old\)/);
    assert.match(warnings[1] ?? "", /did not take 2 of our spans in all; the last reason: too old/);
  });
}

for (const [way, wayEnv] of Object.entries(WAYS)) {
  test(`${way}: spans that could not be written to their end are dropped, and only they`, async (t) => {
    const collector = new Collector(t, (response) => response.writeHead(200).end());
    const { telemetry, driver, warnings } = start(t, await collector.listen(), {
      env: { ...wayEnv, OTEL_METRICS_EXPORTER: "none" },
    });
    await telemetry.load();
    const connection = connectionFacts();
    driver.run(exchangeFacts(), connection);
    assert.equal(telemetry.droppedSpans, 0);
    const broken = new Proxy(outcomeFacts(), {
      get(outcome, name) {
        if (name === "stale") throw new Error("broken");
        return Reflect.get(outcome, name);
      },
    });
    // The CLIENT span ends before, the SERVER span does not.
    for (let count = 0; count < 2; count++) {
      assert.throws(() => driver.run(exchangeFacts(), connection, broken), /broken/);
      assert.equal(telemetry.droppedSpans, count + 1);
    }
    await telemetry.shutdown(20_000);
    assert.equal(telemetry.droppedSpans, 2);
    assert.deepEqual(warnings, []);
    const [{ body }] = collector.of("/v1/traces") as [Received];
    const spans =
      way === "JSON" ? spansOf(collector.received) : decodeTraces(body).resourceSpans[0]!.scopeSpans[0]!.spans;
    // That of the setup is the third kind.
    assert.deepEqual(spans.map(({ kind }) => kind).sort(), [1, 2, 3, 3, 3]);
  });
}

test("whatever a collector says of rejected spans, no more are counted than it got", async (t) => {
  const answers: readonly (readonly [unknown, number])[] = [
    [{ partialSuccess: { rejectedSpans: 1e300 } }, 3],
    [{ partialSuccess: { rejectedSpans: "9223372036854775807", errorMessage: 7 } }, 3],
    [{ partialSuccess: { rejectedSpans: 1.5 } }, 1],
    [{ partialSuccess: { rejectedSpans: -1 } }, 0],
    [{ partialSuccess: { rejectedSpans: 0, errorMessage: "a warning" } }, 0],
    [{ partialSuccess: { rejectedSpans: { toString: 1, valueOf: 1 } } }, 0],
    [{ partialSuccess: "all of them" }, 0],
    [{ partialSuccess: null }, 0],
    [null, 0],
  ];
  for (const [answer, dropped] of answers) {
    const collector = new Collector(t, (response) => response.writeHead(200).end(JSON.stringify(answer)));
    const { telemetry, driver } = start(t, await collector.listen(), { env: { OTEL_METRICS_EXPORTER: "none" } });
    await telemetry.load();
    driver.run(exchangeFacts(), connectionFacts());
    await telemetry.shutdown(20_000);
    assert.equal(telemetry.droppedSpans, dropped, JSON.stringify(answer));
  }
});

test("limits of spans hold with protobuf too, and so does the console beside it", async (t) => {
  const collector = new Collector(t, (response) => response.writeHead(200).end());
  const endpoint = await collector.listen();
  const limit = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT";
  // Read by the SDK from the process's own.
  process.env[limit] = "3";
  t.after(() => Reflect.deleteProperty(process.env, limit));
  for (const env of [{ [limit]: "3" }, { OTEL_TRACES_EXPORTER: "otlp,console" }]) {
    const { telemetry, driver, printed } = start(t, endpoint, {
      env: { ...env, OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" },
    });
    await telemetry.load();
    driver.run(exchangeFacts(), connectionFacts());
    await telemetry.shutdown();
    const request = decodeTraces(collector.of("/v1/traces").at(-1)!.body);
    const server = request.resourceSpans[0]?.scopeSpans[0]?.spans.find(({ kind }) => kind === 2);
    assert.equal(server?.attributes.length, 3);
    assert.equal(printed.length, "OTEL_TRACES_EXPORTER" in env ? 1 : 0);
  }
});

/** Everything that is registered with the OpenTelemetry API in this process. */
function registered(): Record<string, unknown> {
  return { ...Object.getOwnPropertyDescriptor(globalThis, Symbol.for("opentelemetry.js.api.1"))?.value };
}

function methodsAt(collector: Collector): string[] {
  const exchanges = spansOf(collector.of("/v1/traces")).filter(({ kind }) => kind !== 1);
  return [...new Set(exchanges.map(({ name }) => name))];
}

test("two sidecars in one process send to their own collectors and register nothing global", async (t) => {
  const before = registered();
  const collectors = [new Collector(t), new Collector(t)];
  const endpoints = await Promise.all(collectors.map((collector) => collector.listen()));
  const sidecars = endpoints.map((endpoint) => start(t, endpoint));
  await Promise.all(sidecars.map(({ telemetry }) => telemetry.load()));
  assert.deepEqual(registered(), before);
  for (const [index, { driver }] of sidecars.entries()) {
    driver.run(exchangeFacts({ method: index === 0 ? "GET" : "PUT" }), connectionFacts());
  }
  // The first one ends; the second goes on.
  await sidecars[0]!.telemetry.shutdown();
  sidecars[1]!.driver.run(exchangeFacts({ method: "DELETE" }), connectionFacts());
  await sidecars[1]!.telemetry.shutdown();
  assert.deepEqual(collectors.map(methodsAt), [["GET"], ["PUT", "DELETE"]]);
  for (const collector of collectors) assert.equal(collector.of("/v1/metrics").length, 1);
  assert.equal(trace.getTracer("anyone").startSpan("x").isRecording(), false);
  assert.deepEqual(registered(), before);
});

test("what the application registered with OpenTelemetry, before or after, stays its own", async (t) => {
  const collector = new Collector(t);
  const endpoint = await collector.listen();
  const own = new InMemorySpanExporter();
  const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter: own })] });
  t.after(() => trace.disable());
  // As libraries do: a tracer from before there is a provider.
  const early = trace.getTracer("early");
  const sidecars = [start(t, endpoint)];
  await sidecars[0]!.telemetry.load();
  early.startSpan("lost").end();
  assert.ok(trace.setGlobalTracerProvider(provider));
  early.startSpan("one").end();

  const before = registered();
  sidecars.push(start(t, endpoint));
  await sidecars[1]!.telemetry.load();
  assert.deepEqual(registered(), before);
  early.startSpan("two").end();
  trace.getTracer("late").startSpan("three").end();
  for (const { driver } of sidecars) driver.run(exchangeFacts(), connectionFacts());
  for (const { telemetry } of sidecars) await telemetry.shutdown();
  early.startSpan("four").end();

  assert.deepEqual(
    own.getFinishedSpans().map(({ name }) => name),
    ["one", "two", "three", "four"],
  );
  assert.deepEqual(methodsAt(collector), ["GET"]);
});

test("before the SDK is loaded requests pass untouched and metrics count", async (t) => {
  const collector = new Collector(t);
  const { telemetry, driver } = start(t, await collector.listen());
  const connection = connectionFacts();
  const hooks = driver.open(connection);
  const early = exchangeFacts({ target: "/early" });
  driver.run(early, connection);
  assert.equal(early.request.headers.has("traceparent"), false);
  assert.match((await telemetry.prometheusText())!.body, /http_server_request_duration_seconds_count\{.*\} 1\n/);

  await telemetry.load();
  connection.exchanges = 2;
  const late = exchangeFacts({ target: "/late" });
  driver.run(late, connection);
  assert.equal(late.request.headers.has("traceparent"), true);
  hooks.close?.("idle_timeout");
  await telemetry.shutdown();
  const spans = spansOf(collector.of("/v1/traces"));
  // The connection is older than the SDK; the link to its setup still points at a span.
  const setup = spans.find(({ name }) => name.startsWith("HTTP connection_setup"));
  const client = spans.find(({ kind }) => kind === 3);
  assert.equal(client?.links?.[0]?.spanId, setup?.spanId);
  const lived = spans.find(({ name }) => name.startsWith("HTTP connection inventory.internal"));
  assert.equal(lived?.parentSpanId, setup?.spanId);
  assert.deepEqual(
    spans.filter(({ kind }) => kind === 2).map((span) => attributes(span.attributes)["url.path"]),
    ["/late"],
  );
});

for (const protocol of ["http/json", "http/protobuf"] as const) {
  test(`${protocol}: a collector that is down: nothing throws, spans are counted as dropped, one warning and their number at the end`, async (t) => {
    const gone = createServer().listen(0, "127.0.0.1");
    await once(gone, "listening");
    const endpoint = `http://127.0.0.1:${(gone.address() as AddressInfo).port}`;
    gone.close();
    await once(gone, "close");
    const { telemetry, driver, warnings } = start(t, endpoint, {
      // The exporter waits about a second before it tries again: within this limit it does not.
      env: {
        OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        OTEL_EXPORTER_OTLP_TIMEOUT: "300",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "10",
        OTEL_METRICS_EXPORTER: "prometheus",
      },
    });
    await telemetry.load();
    const connection = connectionFacts();
    // Two spans each, and one for the setup of the connection they share.
    for (let index = 0; index < 20; index++) driver.run(exchangeFacts(), connection);
    await telemetry.shutdown(20_000);
    assert.equal(telemetry.droppedSpans, 41);
    assert.equal(warnings.length, 2);
    const where = `collector at ${endpoint}/v1/traces`;
    assert.match(warnings[0] ?? "", new RegExp(`${where} does not take our spans \\(.*ECONNREFUSED`));
    assert.match(warnings[1] ?? "", new RegExp(`${where} did not take 41 of our spans in all`));
    assert.match((await telemetry.prometheusText())!.body, /\nholdfast_telemetry_dropped_spans_total 41\n/);
  });

  test(`${protocol}: a collector that refuses: spans are dropped`, async (t) => {
    const collector = new Collector(t, (response) => response.writeHead(400).end("no"));
    const { telemetry, driver, warnings } = start(t, await collector.listen(), {
      env: { OTEL_EXPORTER_OTLP_PROTOCOL: protocol },
    });
    await telemetry.load();
    driver.run(exchangeFacts(), connectionFacts());
    await telemetry.shutdown(20_000);
    assert.equal(telemetry.droppedSpans, 3);
    assert.equal(warnings.filter((line) => line.includes("does not take our spans")).length, 1);
    assert.equal(warnings.filter((line) => line.includes("did not take 3 of our spans")).length, 1);
    assert.equal(warnings.filter((line) => line.includes("metrics")).length, 1);
  });

  test(`${protocol}: a collector that never answers: memory is bounded, the shutdown does not wait for it, the log says what is lost`, async (t) => {
    const collector = new Collector(t, () => {});
    const { telemetry, driver, warnings } = start(t, await collector.listen(), {
      env: {
        OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        OTEL_BSP_MAX_QUEUE_SIZE: "8",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "4",
        OTEL_METRICS_EXPORTER: "none",
      },
    });
    await telemetry.load();
    const connection = connectionFacts();
    for (let index = 0; index < 100; index++) driver.run(exchangeFacts(), connection);
    // 201 spans: four are being sent, eight wait.
    assert.equal(telemetry.droppedSpans, 189);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? "", /does not take our spans \(the queue of 8 spans is full\)/);
    await telemetry.shutdown(1);
    assert.equal(telemetry.droppedSpans, 201);
    assert.equal(warnings.length, 2);
    assert.match(warnings[1] ?? "", /did not take 201 of our spans in all; the last reason: not delivered in time/);
  });
}

test("a wrong endpoint is one error in the log; traffic and metrics go on", async (t) => {
  const { telemetry, driver, errors } = start(t, "not a url");
  await telemetry.load();
  assert.deepEqual(errors, ["telemetry: the OpenTelemetry SDK could not be started; no spans are recorded"]);
  driver.run(exchangeFacts(), connectionFacts());
  assert.match((await telemetry.prometheusText())!.body, /http_server_request_duration_seconds_count/);
});

test("the console exporter prints", async (t) => {
  const { telemetry, driver, printed } = start(t, undefined, {
    env: { OTEL_TRACES_EXPORTER: "console", OTEL_METRICS_EXPORTER: "none" },
  });
  await telemetry.load();
  driver.run(exchangeFacts(), connectionFacts({ id: 5 }), outcomeFacts({ durationMs: 1.25 }));
  assert.deepEqual(printed, ["GET 200 1.3 ms  ↑ conn 5 new\n"]);
});

test("an unsampled exchange costs no hook, and nothing arrives", async (t) => {
  const collector = new Collector(t);
  const { telemetry, tracing } = start(t, await collector.listen(), { env: { OTEL_TRACES_SAMPLER_ARG: "0" } });
  await telemetry.load();
  assert.equal(tracing.exchange?.(exchangeFacts()), undefined);
  const headers = ["traceparent", `00-${"a".repeat(32)}-${"b".repeat(16)}-00`];
  assert.equal(tracing.exchange?.(exchangeFacts({ headers })), undefined);
  await telemetry.shutdown();
  assert.deepEqual(collector.of("/v1/traces"), []);
});

test("disabled: no metrics, no spans, no change to requests; the trace id is still there for the log", async (t) => {
  const { telemetry, driver } = start(t, undefined, { env: { OTEL_SDK_DISABLED: "true" } });
  await telemetry.load();
  assert.deepEqual(
    telemetry.filters("inbound").map(({ name }) => name),
    ["traces"],
  );
  assert.equal(await telemetry.prometheusText(), undefined);
  const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
  const exchange = exchangeFacts({ headers: ["traceparent", traceparent] });
  driver.run(exchange, connectionFacts());
  assert.equal(exchange.trace?.traceId, "a".repeat(32));
  assert.deepEqual([...exchange.request.headers], [["traceparent", traceparent]]);
});

test("a variable that is not valid is a warning", (t) => {
  const { warnings } = start(t, undefined, { env: { OTEL_TRACES_SAMPLER: "sometimes" } });
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? "", /^telemetry: environment variable OTEL_TRACES_SAMPLER must be one of /);
});

test("no OpenTelemetry package is loaded before load()", async () => {
  const url = new URL("../../src/telemetry/start.ts", import.meta.url);
  const script = `
    import { registerHooks } from "node:module";
    const seen = new Set();
    registerHooks({ resolve(specifier, context, next) {
      if (specifier.startsWith("@opentelemetry/")) seen.add(specifier);
      return next(specifier, context);
    } });
    const { startTelemetry } = await import(${JSON.stringify(url.href)});
    const telemetry = startTelemetry({
      config: {
        traces: { exporters: ["console"], sampler: "always_on", ratio: 1 },
        metrics: { prometheus: true, otlp: false, otlpIntervalMs: 60000 },
        otlp: { endpoint: undefined, protocol: "http/protobuf" },
      },
      service: "orders", version: "0", log: console, env: {}, output: process.stdout,
    });
    telemetry.filters("inbound");
    await telemetry.prometheusText();
    const before = [...seen];
    await telemetry.load();
    console.log(JSON.stringify({ before, after: [...seen] }));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
  const { before, after } = JSON.parse(stdout);
  assert.deepEqual(before, []);
  assert.ok(after.includes("@opentelemetry/sdk-node"));
});

test("the SDK takes nothing from the environment that is not documented", async (t) => {
  const collector = new Collector(t);
  const endpoint = await collector.listen();
  const url = new URL("../../src/telemetry/start.ts", import.meta.url);
  const facts = new URL("facts.ts", import.meta.url);
  const script = `
    import { startTelemetry } from ${JSON.stringify(url.href)};
    import { connectionFacts, Driver, exchangeFacts } from ${JSON.stringify(facts.href)};
    const telemetry = startTelemetry({
      config: {
        traces: { exporters: ["otlp"], sampler: "always_on", ratio: 1 },
        metrics: { prometheus: true, otlp: false, otlpIntervalMs: 60000 },
        otlp: { endpoint: ${JSON.stringify(endpoint)}, protocol: "http/json" },
      },
      service: "orders", version: "0", log: console, env: process.env, output: process.stdout,
    });
    await telemetry.load();
    new Driver(telemetry.filters("inbound")[0].filter).run(exchangeFacts(), connectionFacts());
    await telemetry.shutdown();
  `;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
    env: {
      OTEL_LOG_LEVEL: "debug",
      OTEL_LOGS_EXPORTER: "console",
      OTEL_NODE_RESOURCE_DETECTORS: "all",
      OTEL_PROPAGATORS: "b3",
      OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: "3",
    },
  });
  assert.equal(stdout, "");
  assert.equal(stderr, "");
  assert.deepEqual([...new Set(collector.received.map(({ path }) => path))], ["/v1/traces"]);
  const traces: OtlpTraces = JSON.parse(collector.of("/v1/traces")[0]!.body.toString());
  assert.deepEqual(Object.keys(attributes(traces.resourceSpans[0]!.resource.attributes)).sort(), [
    "service.instance.id",
    "service.name",
    "telemetry.distro.name",
    "telemetry.distro.version",
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
  ]);
  // This one is documented.
  const server = spansOf(collector.of("/v1/traces")).find(({ kind }) => kind === 2);
  assert.equal(server?.attributes.length, 3);
});
