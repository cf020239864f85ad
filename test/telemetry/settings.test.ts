import assert from "node:assert/strict";
import { test } from "node:test";
import type { TelemetryConfig } from "../../src/config/sidecar-config.ts";
import { type Environment, resolveSettings } from "../../src/telemetry/settings.ts";

const CONFIG: TelemetryConfig = {
  traces: { exporters: ["console"], sampler: "parentbased_traceidratio", ratio: 0.25 },
  metrics: { prometheus: true, otlp: false, otlpIntervalMs: 30_000 },
  otlp: { endpoint: "http://collector:4318/", protocol: "http/json" },
};

function resolve(env: Environment, config = CONFIG) {
  return resolveSettings(config, "orders", "1.2.3", env);
}

test("without variables the configuration stands", () => {
  const { settings, warnings } = resolve({});
  assert.deepEqual(warnings, []);
  assert.deepEqual(settings.traces, {
    exporters: ["console"],
    sampler: "parentbased_traceidratio",
    ratio: 0.25,
    batch: { delayMs: 5000, exportTimeoutMs: 30_000, maxQueueSize: 2048, maxBatchSize: 512 },
    hasSpanLimits: false,
    otlp: { url: "http://collector:4318/v1/traces", protocol: "http/json", headers: {}, timeoutMs: 10_000 },
  });
  assert.deepEqual(settings.metrics, {
    prometheus: true,
    otlpPush: false,
    intervalMs: 30_000,
    otlp: { url: "http://collector:4318/v1/metrics", protocol: "http/json", headers: {}, timeoutMs: 10_000 },
  });
  const { "service.instance.id": instance, ...resource } = settings.resource;
  assert.match(instance ?? "", /^[0-9a-f-]{36}$/);
  assert.deepEqual(resource, {
    "service.name": "orders",
    "telemetry.distro.name": "holdfast",
    "telemetry.distro.version": "1.2.3",
  });
});

test("variables outrank the configuration", () => {
  const { settings, warnings } = resolve({
    OTEL_TRACES_EXPORTER: "otlp, console",
    OTEL_TRACES_SAMPLER: "parentbased_always_off",
    OTEL_TRACES_SAMPLER_ARG: "0.5",
    OTEL_METRICS_EXPORTER: "otlp",
    OTEL_METRIC_EXPORT_INTERVAL: "1000",
    OTEL_BSP_SCHEDULE_DELAY: "100",
    OTEL_BSP_EXPORT_TIMEOUT: "200",
    OTEL_BSP_MAX_QUEUE_SIZE: "300",
    OTEL_SERVICE_NAME: "checkout",
    OTEL_RESOURCE_ATTRIBUTES: "service.name=ignored,deployment.environment.name=pre%20prod",
    OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS: "GET,BREW",
  });
  assert.deepEqual(warnings, []);
  assert.deepEqual(settings.traces.exporters, ["otlp", "console"]);
  assert.equal(settings.traces.sampler, "parentbased_always_off");
  assert.equal(settings.traces.ratio, 0.5);
  // A batch is never larger than the queue.
  assert.deepEqual(settings.traces.batch, { delayMs: 100, exportTimeoutMs: 200, maxQueueSize: 300, maxBatchSize: 300 });
  assert.equal(settings.metrics.prometheus, false);
  assert.equal(settings.metrics.otlpPush, true);
  assert.equal(settings.metrics.intervalMs, 1000);
  assert.equal(settings.resource["service.name"], "checkout");
  assert.equal(settings.resource["deployment.environment.name"], "pre prod");
  assert.deepEqual([...settings.knownMethods], ["GET", "BREW"]);
});

test("variables of one signal outrank those of both", () => {
  const { settings } = resolve({
    OTEL_EXPORTER_OTLP_ENDPOINT: "https://otel.example/base",
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://traces.example/as/it/stands",
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "http/json",
    OTEL_EXPORTER_OTLP_HEADERS: "api-key=a%3Db,x=1",
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: "x=2",
    OTEL_EXPORTER_OTLP_TIMEOUT: "3000",
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: "4000",
  });
  assert.deepEqual(settings.traces.otlp, {
    url: "https://traces.example/as/it/stands",
    protocol: "http/protobuf",
    headers: { "api-key": "a=b", x: "2" },
    timeoutMs: 3000,
  });
  assert.deepEqual(settings.metrics.otlp, {
    url: "https://otel.example/base/v1/metrics",
    protocol: "http/json",
    headers: { "api-key": "a=b", x: "1" },
    timeoutMs: 4000,
  });
});

test("without an endpoint anywhere it is the local collector", () => {
  const { settings } = resolve({}, { ...CONFIG, otlp: { ...CONFIG.otlp, endpoint: undefined } });
  assert.equal(settings.traces.otlp.url, "http://localhost:4318/v1/traces");
});

test("none and OTEL_SDK_DISABLED switch off", () => {
  assert.deepEqual(resolve({ OTEL_TRACES_EXPORTER: "none" }).settings.traces.exporters, []);
  assert.equal(resolve({ OTEL_METRICS_EXPORTER: "none" }).settings.metrics.prometheus, false);
  const { settings } = resolve({ OTEL_SDK_DISABLED: "true", OTEL_METRICS_EXPORTER: "otlp,prometheus" });
  assert.deepEqual(settings.traces.exporters, []);
  assert.equal(settings.metrics.prometheus, false);
  assert.equal(settings.metrics.otlpPush, false);
});

test("an empty variable counts as not set", () => {
  const { settings, warnings } = resolve({ OTEL_TRACES_SAMPLER: "", OTEL_SERVICE_NAME: " " });
  assert.deepEqual(warnings, []);
  assert.equal(settings.traces.sampler, "parentbased_traceidratio");
  assert.equal(settings.resource["service.name"], "orders");
});

for (const [name, value] of [
  ["OTEL_SDK_DISABLED", "yes-secret"],
  ["OTEL_TRACES_EXPORTER", "zipkin-secret"],
  ["OTEL_TRACES_SAMPLER", "secret"],
  ["OTEL_TRACES_SAMPLER_ARG", "1.5secret"],
  ["OTEL_TRACES_SAMPLER_ARG", "2"],
  ["OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"],
  ["OTEL_EXPORTER_OTLP_ENDPOINT", "secret:4318"],
  ["OTEL_EXPORTER_OTLP_HEADERS", "secret"],
  ["OTEL_EXPORTER_OTLP_HEADERS", "k=%ZZsecret"],
  ["OTEL_EXPORTER_OTLP_TIMEOUT", "0"],
  ["OTEL_BSP_MAX_QUEUE_SIZE", "-1"],
] as const) {
  test(`${name}=${value} is ignored with one warning that does not show it`, () => {
    const { settings, warnings } = resolve({ [name]: value });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? "", new RegExp(`^environment variable ${name} must be .+; it is ignored$`));
    assert.equal(warnings[0]?.includes("secret"), false);
    const unchanged = { ...resolve({}).settings, resource: settings.resource };
    assert.deepEqual(settings, unchanged);
  });
}
