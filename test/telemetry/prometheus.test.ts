import assert from "node:assert/strict";
import { test } from "node:test";
import { Instruments } from "../../src/telemetry/instruments.ts";
import { formatPrometheus } from "../../src/telemetry/prometheus.ts";

/** One line of text exposition format 0.0.4. */
const LINE =
  /^(?:# HELP [a-zA-Z_:][\w:]* .*|# TYPE [a-zA-Z_:][\w:]* (?:counter|gauge|histogram)|[a-zA-Z_:][\w:]*(?:\{[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*"(?:,[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*")*\})? (?:-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\+Inf))$/;

test("every metric is written in the text format, with its unit in its name", () => {
  const instruments = new Instruments();
  for (const metric of instruments.all) {
    if (metric.kind === "histogram") metric.at("", () => ({ "server.address": "a" })).record(0.2);
    else metric.at("", () => ({ "server.address": "a" })).value = 1.5;
  }
  const { contentType, body } = formatPrometheus(instruments, { "service.name": "orders" });
  assert.equal(contentType, "text/plain; version=0.0.4; charset=utf-8");
  assert.ok(body.endsWith("\n"));
  const lines = body.slice(0, -1).split("\n");
  for (const line of lines) assert.match(line, LINE);
  const types = lines.filter((line) => line.startsWith("# TYPE ")).map((line) => line.slice(7));
  assert.deepEqual(types, [
    "target_info gauge",
    "http_server_request_duration_seconds histogram",
    "http_server_active_requests gauge",
    "http_client_request_duration_seconds histogram",
    "http_client_active_requests gauge",
    "http_client_open_connections gauge",
    "http_client_connection_duration_seconds histogram",
    "holdfast_downstream_open_connections gauge",
    "holdfast_connection_requests histogram",
    "holdfast_connection_idle_at_reuse_seconds histogram",
    "holdfast_connection_closed_total counter",
    "holdfast_upstream_stale_total counter",
    "holdfast_upstream_idle_timeout_seconds gauge",
    "holdfast_plugin_errors_total counter",
    "holdfast_telemetry_dropped_spans_total counter",
    "holdfast_config_reloads_total counter",
  ]);
  assert.ok(lines.includes('target_info{service_name="orders"} 1'));
  assert.ok(lines.includes('http_server_active_requests{server_address="a"} 1.5'));
});

test("buckets add up to +Inf, sum and count", () => {
  const instruments = new Instruments();
  const series = instruments.serverRequestDuration.at("", () => ({}));
  for (const seconds of [0.004, 0.005, 0.3, 60]) series.record(seconds);
  const { body } = formatPrometheus(instruments, {});
  const shown = body.split("\n").filter((line) => line.startsWith("http_server_request_duration_seconds"));
  const at = (le: string) => shown.find((line) => line.includes(`le="${le}"`))?.split(" ")[1];
  assert.equal(at("0.005"), "2");
  assert.equal(at("0.25"), "2");
  assert.equal(at("0.5"), "3");
  assert.equal(at("10"), "3");
  assert.equal(at("+Inf"), "4");
  assert.ok(shown.includes("http_server_request_duration_seconds_sum 60.309"));
  assert.ok(shown.includes("http_server_request_duration_seconds_count 4"));
});

test("label values are escaped, and names that become one are joined", () => {
  const instruments = new Instruments();
  instruments.pluginErrors.at("", () => ({ "a.b": 'x"y\\z\nw', a_b: "second", "1st": true })).value = 1;
  const { body } = formatPrometheus(instruments, {});
  assert.ok(body.includes('holdfast_plugin_errors_total{a_b="x\\"y\\\\z\\nw;second",_1st="true"} 1\n'), body);
});

test("a metric without series is left out", () => {
  assert.equal(formatPrometheus(new Instruments(), {}).body.split("\n").length, 4);
});
