import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { startTestSidecar, type TestSidecar } from "../../src/testing.ts";
import { attributes, Collector, type OtlpSpan, spansOf } from "./collector.ts";

async function running(t: TestContext, env: Record<string, string> = {}) {
  const received: IncomingHttpHeaders[] = [];
  const upstream = createServer((request, response) => {
    received.push(request.headers);
    response.end("ok");
  });
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  t.after(() => upstream.close().closeAllConnections());
  const collector = new Collector(t);
  const endpoint = await collector.listen();
  const sidecar = await startTestSidecar({
    upstream: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
    config: {
      telemetry: { traces: { exporters: ["otlp"] }, otlp: { endpoint, protocol: "http/json" } },
    },
    env,
  });
  t.after(() => sidecar.stop());
  await whenRecording(sidecar, received);
  return { sidecar, received, collector };
}

/** The SDK is loaded after the listeners are up; until then requests reach the upstream without `traceparent`. */
async function whenRecording(sidecar: TestSidecar, received: IncomingHttpHeaders[]): Promise<void> {
  do await (await fetch(`${sidecar.inbound}/warm-up`)).text();
  while (received.at(-1)?.["traceparent"] === undefined);
  received.length = 0;
}

function ofPath(spans: readonly OtlpSpan[], path: string): { server: OtlpSpan; client: OtlpSpan } {
  const server = spans.find((span) => attributes(span.attributes)["url.path"] === path);
  const client = spans.find((span) => span.kind === 3 && span.parentSpanId === server?.spanId);
  assert.ok(server !== undefined && client !== undefined, `SERVER and CLIENT span of ${path}`);
  return { server, client };
}

test("through a real sidecar: caller, sidecar and upstream are one trace, and the log names it", async (t) => {
  const { sidecar, received, collector } = await running(t);
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  const parent = "00f067aa0ba902b7";
  const response = await fetch(`${sidecar.inbound}/pay?sig=secret`, {
    method: "POST",
    body: "hello",
    headers: { traceparent: `00-${traceId}-${parent}-01`, tracestate: "a=1" },
  });
  assert.equal(await response.text(), "ok");
  await sidecar.stop();

  const spans = spansOf(collector.of("/v1/traces"));
  const { server, client } = ofPath(spans, "/pay");
  assert.equal(server.traceId, traceId);
  assert.equal(server.parentSpanId, parent);
  assert.equal(received[0]?.["traceparent"], `00-${traceId}-${client.spanId}-01`);
  assert.equal(received[0]?.["tracestate"], "a=1");
  const served = attributes(server.attributes);
  assert.equal(served["url.query"], "sig=REDACTED");
  assert.equal(Number(served["http.response.status_code"]), 200);
  assert.equal(Number(served["http.request.body.size"]), 5);
  assert.equal(served["holdfast.direction"], "inbound");

  const used = attributes(client.attributes);
  const setup = spans.find(({ spanId }) => spanId === client.links?.[0]?.spanId);
  assert.match(setup?.name ?? "", /^HTTP connection_setup 127\.0\.0\.1:\d+$/);
  assert.equal(attributes(setup?.attributes ?? [])["holdfast.connection.id"], used["holdfast.connection.id"]);
  const connect = spans.find(({ name, parentSpanId }) => name === "socket connect" && parentSpanId === setup?.spanId);
  assert.ok(connect !== undefined);
  // Stopping the sidecar closed the connections, so their last spans are there too.
  const lived = spans.find(
    (span) => span.name.startsWith("HTTP connection 127.0.0.1:") && span.parentSpanId === setup?.spanId,
  );
  assert.ok(Number(attributes(lived?.attributes ?? [])["holdfast.connection.requests"]) >= 1);

  const line = sidecar.log.find((entry) => entry["path"] === "/pay?sig");
  assert.equal(line?.["traceId"], traceId);
  assert.equal(line?.["spanId"], server.spanId);
  assert.equal(JSON.stringify(sidecar.log).includes("secret"), false);
});

test("through a real sidecar: what the caller does not sample is passed on as it is", async (t) => {
  const { sidecar, received, collector } = await running(t);
  const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-00`;
  await (await fetch(`${sidecar.inbound}/quiet`, { headers: { traceparent } })).text();
  await sidecar.stop();
  assert.equal(received[0]?.["traceparent"], traceparent);
  const paths = spansOf(collector.of("/v1/traces")).map((span) => attributes(span.attributes)["url.path"]);
  assert.ok(paths.includes("/warm-up"));
  assert.equal(paths.includes("/quiet"), false);
});

test("through a real sidecar: /metrics counts what went through", async (t) => {
  const { sidecar } = await running(t);
  for (let count = 0; count < 3; count++) await (await fetch(`${sidecar.inbound}/x`, { method: "PUT" })).text();
  const response = await fetch(`${sidecar.admin}/metrics`);
  assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const text = await response.text();
  for (const name of ["http_server_request_duration_seconds", "http_client_request_duration_seconds"]) {
    assert.match(
      text,
      new RegExp(`^${name}_count\\{http_request_method="PUT",.*http_response_status_code="200".*\\} 3$`, "m"),
    );
  }
  assert.match(text, /^http_server_active_requests\{http_request_method="PUT",.*\} 0$/m);
  assert.match(text, /^holdfast_downstream_open_connections\{http_connection_state="active",.*\} \d+$/m);
  // Before the collector goes away, or the last export would wait for it.
  await sidecar.stop();
});
