import assert from "node:assert/strict";
import { test } from "node:test";
import { type HrTime, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import {
  AlwaysOnSampler,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { SamplerName } from "../../src/config/sidecar-config.ts";
import { HoldfastError } from "../../src/errors.ts";
import { parseRequestHead } from "../../src/proxy/wire/request-parser.ts";
import { KNOWN_METHODS } from "../../src/telemetry/http-semantics.ts";
import { sampledBy, TraceIds } from "../../src/telemetry/sampling.ts";
import { SdkSpans } from "../../src/telemetry/sdk-spans.ts";
import { parseTraceparent } from "../../src/telemetry/trace-context.ts";
import { tracingFilter } from "../../src/telemetry/traces.ts";
import { connectionFacts, Driver, EPOCH_MS, exchangeFacts, outcomeFacts, staleFailure } from "./facts.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";
const LIMITS = { headBytes: 65_536, fields: 200, targetBytes: 16_384, replayBytes: 65_536, streams: 100 };

function recorder(sampler: SamplerName = "parentbased_always_on", ratio = 1) {
  const exporter = new InMemorySpanExporter();
  const ids = new TraceIds();
  const provider = new TracerProvider({
    sampler: new AlwaysOnSampler(),
    idGenerator: ids,
    spanProcessors: [new SimpleSpanProcessor({ exporter })],
  });
  const tracer = provider.getTracer("test");
  let started = 0;
  const counting: typeof tracer = {
    startSpan: (...args) => {
      started++;
      return tracer.startSpan(...args);
    },
    startActiveSpan: tracer.startActiveSpan.bind(tracer),
  };
  const sampled = sampledBy(sampler, ratio);
  const filter = tracingFilter({ spans: new SdkSpans(counting, ids), sampled, knownMethods: KNOWN_METHODS });
  return {
    driver: new Driver(filter),
    spans: () => exporter.getFinishedSpans(),
    started: () => started,
    of: (kind: SpanKind) => exporter.getFinishedSpans().filter((span) => span.kind === kind),
    named: (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name),
  };
}

function one(spans: readonly ReadableSpan[]): ReadableSpan {
  assert.equal(spans.length, 1, `one span, not ${spans.map((span) => span.name).join(", ") || "none"}`);
  return spans[0]!;
}

function toMs([seconds, nanoseconds]: HrTime): number {
  return seconds * 1000 + nanoseconds / 1e6;
}

function near(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) < 0.01, `${actual} is not ${expected}`);
}

test("an exchange is a SERVER span with a child CLIENT span", () => {
  const { driver, of } = recorder();
  const exchange = exchangeFacts(
    {
      target: "/items?id=7&sig=secret",
      authority: "inventory.internal:80",
      headers: ["User-Agent", "curl/8", "Cookie", "session=1", "Authorization", "Bearer x"],
    },
    { downstreamIndex: 4, downstreamIdleMs: 120 },
  );
  const connection = connectionFacts({ id: 7, exchanges: 12, ageMs: 9000 });
  exchange.upstreamIdleMs = 240;
  driver.run(exchange, connection);

  const server = one(of(SpanKind.SERVER));
  const client = one(of(SpanKind.CLIENT));
  assert.equal(server.name, "GET");
  assert.equal(server.parentSpanContext, undefined);
  assert.deepEqual(server.attributes, {
    "http.request.method": "GET",
    "url.scheme": "http",
    "url.path": "/items",
    "url.query": "id=7&sig=REDACTED",
    "server.address": "inventory.internal",
    "server.port": 80,
    "client.address": "10.0.0.9",
    "network.peer.address": "10.0.0.9",
    "network.peer.port": 40_000,
    "network.protocol.version": "1.1",
    "user_agent.original": "curl/8",
    "holdfast.direction": "outbound",
    "holdfast.exchange.id": exchange.id,
    "holdfast.connection.id": exchange.downstream.id,
    "holdfast.connection.request_index": 4,
    "holdfast.connection.age_ms": 0,
    "holdfast.connection.idle_ms": 120,
    "holdfast.answered_by": "upstream",
    "holdfast.route": "inventory",
    "http.request.body.size": 0,
    "http.response.body.size": 100,
    "http.response.status_code": 200,
  });
  assert.equal(server.status.code, SpanStatusCode.UNSET);
  near(toMs(server.startTime), EPOCH_MS);
  near(toMs(server.duration), 3);

  assert.equal(client.name, "GET");
  assert.equal(client.parentSpanContext?.spanId, server.spanContext().spanId);
  assert.equal(client.spanContext().traceId, server.spanContext().traceId);
  assert.deepEqual(client.attributes, {
    "http.request.method": "GET",
    "server.address": "inventory.internal",
    "server.port": 8081,
    "url.scheme": "http",
    "url.full": "http://inventory.internal:8081/items?id=7&sig=REDACTED",
    "holdfast.direction": "outbound",
    "network.peer.address": "10.0.0.2",
    "network.peer.port": 8081,
    "network.protocol.version": "1.1",
    "http.conn.reused": true,
    "http.conn.wasidle": true,
    "holdfast.connection.id": 7,
    "holdfast.connection.request_index": 12,
    "holdfast.connection.age_ms": 9000,
    "holdfast.connection.idle_limit_ms": 55_000,
    "holdfast.connection.idle_limit_source": "configured",
    "holdfast.connection.idle_ms": 240,
    "http.response.status_code": 200,
  });
  assert.equal(JSON.stringify([server.attributes, client.attributes]).includes("Bearer"), false);
});

test("the upstream gets the CLIENT span as its parent, per attempt; filters get the SERVER span", () => {
  const { driver, of } = recorder();
  const exchange = exchangeFacts();
  const hooks = driver.begin(exchange);
  const server = exchange.trace;
  driver.connect(exchange, hooks, connectionFacts({ exchanges: 3 }));
  const first = parseTraceparent(exchange.request.headers.get("traceparent") ?? "");
  exchange.elapsedMs = 2;
  hooks?.retry?.(staleFailure());
  exchange.attemptStartedAtEpochMs = EPOCH_MS + 2;
  driver.connect(exchange, hooks, connectionFacts());
  const second = parseTraceparent(exchange.request.headers.get("traceparent") ?? "");
  hooks?.end?.(outcomeFacts({ durationMs: 6, stale: "retried" }));

  const [retried, final] = of(SpanKind.CLIENT);
  const span = one(of(SpanKind.SERVER)).spanContext();
  assert.deepEqual(server, { traceId: span.traceId, spanId: span.spanId, sampled: true });
  assert.equal(first?.spanId, retried?.spanContext().spanId);
  assert.equal(second?.spanId, final?.spanContext().spanId);
  assert.equal(second?.traceId, span.traceId);
  assert.equal(second?.flags, 1);
  assert.equal(exchange.request.headers.getAll("traceparent").length, 1);

  assert.equal(retried?.attributes["error.type"], "HF_UPSTREAM_CLOSED");
  assert.equal(retried?.status.code, SpanStatusCode.ERROR);
  assert.equal(retried?.attributes["http.request.resend_count"], undefined);
  near(toMs(retried!.duration), 2);
  assert.equal(final?.attributes["http.request.resend_count"], 1);
  assert.equal(final?.status.code, SpanStatusCode.UNSET);
  near(toMs(final!.startTime), EPOCH_MS + 2);
  near(toMs(final!.duration), 4);
  const served = one(of(SpanKind.SERVER));
  assert.equal(served.attributes["holdfast.stale"], "retried");
  assert.equal(served.status.code, SpanStatusCode.UNSET);
});

test("a sampled parent is continued, tracestate is kept", () => {
  const { driver, of } = recorder("parentbased_traceidratio", 0);
  const exchange = exchangeFacts({
    headers: ["traceparent", `00-${TRACE}-${SPAN}-03`, "tracestate", "a=1", "tracestate", "b=2"],
  });
  driver.run(exchange, connectionFacts());
  const server = one(of(SpanKind.SERVER));
  assert.equal(server.spanContext().traceId, TRACE);
  assert.equal(server.parentSpanContext?.spanId, SPAN);
  assert.equal(server.parentSpanContext?.isRemote, true);
  assert.equal(server.spanContext().traceState?.serialize(), "a=1,b=2");
  assert.deepEqual(exchange.request.headers.getAll("tracestate"), ["a=1", "b=2"]);
  // The random flag stays as the caller set it.
  assert.match(exchange.request.headers.get("traceparent") ?? "", new RegExp(`^00-${TRACE}-[0-9a-f]{16}-03$`));
});

test("an unsampled parent is forwarded as it is: no span is started, no hook is called", () => {
  const { driver, spans, started } = recorder();
  const header = `00-${TRACE}-${SPAN}-00`;
  const exchange = exchangeFacts({ headers: ["traceparent", header, "tracestate", "a=1"] });
  const before = started();
  assert.equal(driver.begin(exchange), undefined);
  assert.equal(started(), before);
  assert.equal(spans().length, 0);
  assert.deepEqual(
    [...exchange.request.headers],
    [
      ["traceparent", header],
      ["tracestate", "a=1"],
    ],
  );
  assert.deepEqual(exchange.trace, { traceId: TRACE, spanId: SPAN, sampled: false });
});

test("an unsampled root sends a valid traceparent with flags 00 and starts no span", () => {
  const { driver, started } = recorder("parentbased_traceidratio", 0);
  const exchange = exchangeFacts({ headers: ["tracestate", "left=over"] });
  assert.equal(driver.begin(exchange), undefined);
  assert.equal(started(), 0);
  const sent = parseTraceparent(exchange.request.headers.get("traceparent") ?? "");
  assert.equal(sent?.flags, 0);
  assert.deepEqual(exchange.trace, { traceId: sent?.traceId, spanId: sent?.spanId, sampled: false });
  assert.equal(exchange.request.headers.has("tracestate"), false);
});

test("a sampler that is not parent-based clears the flag of a parent that it does not follow", () => {
  const { driver, started } = recorder("always_off");
  const exchange = exchangeFacts({ headers: ["traceparent", `00-${TRACE}-${SPAN}-01`] });
  assert.equal(driver.begin(exchange), undefined);
  assert.equal(started(), 0);
  assert.match(
    exchange.request.headers.get("traceparent") ?? "",
    new RegExp(`^00-${TRACE}-(?!${SPAN})[0-9a-f]{16}-00$`),
  );
});

test("a traceparent that is not valid, or stands twice, starts a new trace and drops tracestate", () => {
  for (const headers of [
    ["traceparent", "nonsense", "tracestate", "a=1"],
    ["traceparent", `00-${TRACE}-${SPAN}-01`, "traceparent", `00-${TRACE}-${SPAN}-01`, "tracestate", "a=1"],
  ]) {
    const { driver, of } = recorder();
    const exchange = exchangeFacts({ headers });
    driver.run(exchange, connectionFacts());
    const { traceId } = one(of(SpanKind.SERVER)).spanContext();
    assert.notEqual(traceId, TRACE);
    assert.equal(exchange.request.headers.getAll("traceparent").length, 1);
    assert.equal(parseTraceparent(exchange.request.headers.get("traceparent") ?? "")?.traceId, traceId);
    assert.equal(exchange.request.headers.has("tracestate"), false);
  }
});

test("a traceparent that is not valid, or stands twice, is replaced where nothing is recorded too", () => {
  const valid = `00-${TRACE}-${SPAN}-01`;
  for (const lines of [
    ["Traceparent: nonsense", "Tracestate: a=1"],
    [`traceparent: 00-${"0".repeat(32)}-${SPAN}-01`, "tracestate: a=1"],
    [`traceparent: ${valid}`, "tracestate: a=1", `TRACEPARENT: ${valid}`, "TraceState: b=2"],
  ]) {
    const bytes = Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n${lines.join("\r\n")}\r\n\r\n`);
    const request = parseRequestHead(bytes, 0, bytes.length, LIMITS, false);
    const { driver, started } = recorder("always_off");
    const exchange = exchangeFacts({}, { request });
    assert.equal(driver.begin(exchange), undefined);
    assert.equal(started(), 0);
    const [first = "", ...more] = request.headers.getAll("traceparent");
    assert.deepEqual(more, []);
    const sent = parseTraceparent(first);
    assert.notEqual(sent?.traceId, TRACE);
    assert.deepEqual(exchange.trace, { traceId: sent?.traceId, spanId: sent?.spanId, sampled: false });
    assert.match(request.headers.toText(), /^Host: a\r\ntraceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-00\r\n$/i);
  }
});

test("the ratio decides by the trace id that is then used", () => {
  const { driver, of } = recorder("parentbased_traceidratio", 0.5);
  const sampled = sampledBy("traceidratio", 0.5);
  let recorded = 0;
  for (let index = 0; index < 200; index++) {
    const exchange = exchangeFacts();
    const hooks = driver.begin(exchange);
    if (hooks !== undefined) recorded++;
    assert.equal(sampled(exchange.trace?.traceId ?? "", undefined), hooks !== undefined);
    hooks?.end?.(outcomeFacts({ answeredBy: "plugin" }));
  }
  assert.equal(of(SpanKind.SERVER).length, recorded);
  // 200 tosses of a coin outside 50 to 150 happen less than once in 10^12 runs.
  assert.ok(recorded > 50 && recorded < 150, `${recorded} of 200`);
});

test("an unknown method is HTTP with _OTHER and its original", () => {
  const { driver, of } = recorder();
  driver.run(exchangeFacts({ method: "BREW" }), connectionFacts());
  for (const span of [one(of(SpanKind.SERVER)), one(of(SpanKind.CLIENT))]) {
    assert.equal(span.name, "HTTP");
    assert.equal(span.attributes["http.request.method"], "_OTHER");
    assert.equal(span.attributes["http.request.method_original"], "BREW");
  }
});

test("a new connection has a setup span with its phases, and the CLIENT span links to it", () => {
  const { driver, of, named } = recorder();
  const connection = connectionFacts({
    id: 8,
    secure: true,
    origin: { scheme: "https", host: "inventory.internal", port: 443 },
    setup: {
      startedAtEpochMs: EPOCH_MS,
      dnsMs: 0.5,
      connectMs: 1.5,
      tlsMs: 4,
      tlsVersion: "TLSv1.3",
      tlsResumed: true,
    },
  });
  driver.open(connection);
  driver.run(exchangeFacts(), connection);

  const setup = one(named("HTTP connection_setup inventory.internal:443"));
  assert.equal(setup.kind, SpanKind.INTERNAL);
  assert.equal(setup.parentSpanContext, undefined);
  assert.equal(setup.attributes["holdfast.connection.id"], 8);
  near(toMs(setup.startTime), EPOCH_MS);
  near(toMs(setup.duration), 6);
  const phases = ["DNS lookup", "socket connect", "TLS client handshake"].map((name) => one(named(name)));
  for (const phase of phases) assert.equal(phase.parentSpanContext?.spanId, setup.spanContext().spanId);
  assert.deepEqual(
    phases.map((phase) =>
      [toMs(phase.startTime) - EPOCH_MS, toMs(phase.duration)].map((ms) => Math.round(ms * 10) / 10),
    ),
    [
      [0, 0.5],
      [0.5, 1.5],
      [2, 4],
    ],
  );
  assert.equal(phases[0]?.attributes["dns.question.name"], "inventory.internal");
  assert.equal(phases[2]?.attributes["tls.protocol.version"], "1.3");
  assert.equal(phases[2]?.attributes["tls.resumed"], true);

  const client = one(of(SpanKind.CLIENT));
  assert.deepEqual(
    client.links.map((link) => link.context.spanId),
    [setup.spanContext().spanId],
  );
  assert.notEqual(client.spanContext().traceId, setup.spanContext().traceId);
  assert.equal(client.attributes["http.conn.reused"], false);
  assert.equal(client.attributes["holdfast.connection.dns_ms"], 0.5);
  assert.equal(client.attributes["holdfast.connection.connect_ms"], 1.5);
  assert.equal(client.attributes["holdfast.connection.tls_ms"], 4);
});

test("every exchange on a connection links to the same setup span; phases that did not happen have none", () => {
  const { driver, of, named } = recorder();
  const connection = connectionFacts({ setup: { ...connectionFacts().setup, connectMs: 1 } });
  driver.open(connection);
  for (let exchanges = 1; exchanges <= 3; exchanges++) {
    connection.exchanges = exchanges;
    driver.run(exchangeFacts(), connection);
  }
  const setup = one(named("HTTP connection_setup inventory.internal:8081"));
  assert.equal(of(SpanKind.CLIENT).length, 3);
  for (const client of of(SpanKind.CLIENT)) assert.equal(client.links[0]?.context.spanId, setup.spanContext().spanId);
  assert.equal(named("DNS lookup").length, 0);
  assert.equal(named("TLS client handshake").length, 0);
});

test("a closed connection leaves a span with what it carried and why it closed", () => {
  const { driver, named } = recorder();
  const connection = connectionFacts({
    setup: { ...connectionFacts().setup, startedAtEpochMs: EPOCH_MS, connectMs: 2 },
  });
  const hooks = driver.open(connection);
  Object.assign(connection, { exchanges: 42, bytesRead: 9000, bytesWritten: 4000, ageMs: 60_000 });
  hooks.close?.("idle_timeout");
  const setup = one(named("HTTP connection_setup inventory.internal:8081"));
  const span = one(named("HTTP connection inventory.internal:8081"));
  assert.equal(span.parentSpanContext?.spanId, setup.spanContext().spanId);
  assert.equal(span.attributes["holdfast.connection.requests"], 42);
  assert.equal(span.attributes["holdfast.connection.bytes_read"], 9000);
  assert.equal(span.attributes["holdfast.connection.bytes_written"], 4000);
  assert.equal(span.attributes["holdfast.connection.close_reason"], "idle_timeout");
  assert.equal(span.status.code, SpanStatusCode.UNSET);
  near(toMs(span.startTime), EPOCH_MS + 2);
  near(toMs(span.duration), 60_000);
});

test("a downstream connection is named by our listener, not by the port its peer happens to have", () => {
  const { driver, named } = recorder();
  const hooks = driver.open(connectionFacts({ side: "downstream" }));
  hooks.close?.("peer_reset");
  const span = one(named("HTTP connection 10.0.0.1:15001"));
  assert.equal(span.parentSpanContext, undefined);
  assert.equal(span.attributes["error.type"], "peer_reset");
  assert.equal(span.status.code, SpanStatusCode.ERROR);
});

test("a connection that never opened is a failed setup span and nothing else", () => {
  const { driver, spans } = recorder();
  const connection = connectionFacts({
    closeReason: "connect_failed",
    error: new Error("connect ECONNREFUSED"),
    exchanges: 0,
  });
  driver.open(connection).close?.("connect_failed");
  const setup = one(spans());
  assert.equal(setup.name, "HTTP connection_setup inventory.internal:8081");
  assert.equal(setup.attributes["error.type"], "connect_failed");
  assert.deepEqual(setup.status, { code: SpanStatusCode.ERROR, message: "connect ECONNREFUSED" });
});

test("a connection that the sampler left out is recorded once a recorded exchange uses it", () => {
  const { driver, named, spans } = recorder("parentbased_always_off");
  const connection = connectionFacts();
  const unused = connectionFacts();
  const hooks = driver.open(connection);
  const unusedHooks = driver.open(unused);
  assert.equal(spans().length, 0);
  driver.run(exchangeFacts({ headers: ["traceparent", `00-${TRACE}-${SPAN}-01`] }), connection);
  hooks.close?.("drain");
  unusedHooks.close?.("drain");
  const setup = one(named("HTTP connection_setup inventory.internal:8081"));
  // A trace of its own: a continued trace must not leak into the next root.
  assert.notEqual(setup.spanContext().traceId, TRACE);
  one(named("HTTP connection inventory.internal:8081"));
});

test("a wait for a connection is a span of its own, and only when there was one", () => {
  const { driver, named, of } = recorder();
  driver.run(exchangeFacts(), connectionFacts());
  assert.equal(named("HTTP wait_for_connection").length, 0);
  driver.run(exchangeFacts({}, { queuedMs: 2 }), connectionFacts());
  const wait = one(named("HTTP wait_for_connection"));
  assert.equal(wait.parentSpanContext?.spanId, of(SpanKind.CLIENT)[1]?.spanContext().spanId);
  near(toMs(wait.startTime), EPOCH_MS);
  near(toMs(wait.duration), 2);
});

test("an attempt that found no connection still has a CLIENT span, with the failure", () => {
  const { driver, of } = recorder();
  const exchange = exchangeFacts();
  const hooks = driver.begin(exchange);
  exchange.attempts = 1;
  const error = new HoldfastError("HF_UPSTREAM_REFUSED", "inventory.internal:8081 refused the connection");
  hooks?.end?.(outcomeFacts({ status: 502, answeredBy: "holdfast", error, durationMs: 1 }));
  const client = one(of(SpanKind.CLIENT));
  assert.equal(client.attributes["error.type"], "HF_UPSTREAM_REFUSED");
  assert.equal(client.attributes["http.response.status_code"], undefined);
  assert.equal(client.attributes["server.address"], "inventory.internal");
  assert.equal(client.attributes["http.conn.reused"], undefined);
  assert.equal(client.links.length, 0);
  const server = one(of(SpanKind.SERVER));
  assert.equal(server.attributes["error.type"], "HF_UPSTREAM_REFUSED");
  assert.equal(server.attributes["http.response.status_code"], 502);
  assert.deepEqual(server.status, { code: SpanStatusCode.ERROR, message: error.message });
});

test("a plugin's reply has no CLIENT span", () => {
  const { driver, of } = recorder();
  const hooks = driver.begin(exchangeFacts());
  hooks?.end?.(outcomeFacts({ status: 403, answeredBy: "plugin" }));
  assert.equal(of(SpanKind.CLIENT).length, 0);
  const server = one(of(SpanKind.SERVER));
  assert.equal(server.attributes["holdfast.answered_by"], "plugin");
  assert.equal(server.status.code, SpanStatusCode.UNSET);
});

for (const { status, server, client } of [
  { status: 404, server: undefined, client: "404" },
  { status: 503, server: "503", client: "503" },
]) {
  test(`status ${status} from the upstream`, () => {
    const { driver, of } = recorder();
    driver.run(exchangeFacts(), connectionFacts(), outcomeFacts({ status }));
    assert.equal(one(of(SpanKind.SERVER)).attributes["error.type"], server);
    assert.equal(one(of(SpanKind.CLIENT)).attributes["error.type"], client);
    const codes = [one(of(SpanKind.SERVER)), one(of(SpanKind.CLIENT))].map((span) => span.status.code);
    assert.deepEqual(codes, [server === undefined ? SpanStatusCode.UNSET : SpanStatusCode.ERROR, SpanStatusCode.ERROR]);
  });
}

test("a caller who goes away is no fault of the SERVER span", () => {
  const { driver, of } = recorder();
  const error = new HoldfastError("HF_DOWNSTREAM_ABORTED", "the caller went away");
  driver.run(exchangeFacts(), connectionFacts(), outcomeFacts({ status: undefined, answeredBy: "none", error }));
  const server = one(of(SpanKind.SERVER));
  assert.equal(server.attributes["error.type"], "HF_DOWNSTREAM_ABORTED");
  assert.equal(server.attributes["http.response.status_code"], undefined);
  assert.equal(server.status.code, SpanStatusCode.UNSET);
  assert.equal(one(of(SpanKind.CLIENT)).status.code, SpanStatusCode.ERROR);
});

test("a failed plugin hook is an event of the SERVER span", () => {
  const { driver, of } = recorder();
  const exchange = exchangeFacts({}, { elapsedMs: 1 });
  const hooks = driver.begin(exchange);
  hooks?.pluginFailed?.({
    plugin: "flaky",
    hook: "request",
    error: new TypeError("no such thing"),
    onError: "continue",
    connection: exchange.downstream,
    exchange,
  });
  hooks?.end?.(outcomeFacts());
  const [event] = one(of(SpanKind.SERVER)).events;
  assert.equal(event?.name, "holdfast.plugin_failed");
  assert.deepEqual(event?.attributes, {
    "holdfast.plugin.name": "flaky",
    "holdfast.plugin.hook": "request",
    "holdfast.plugin.on_error": "continue",
    "exception.type": "TypeError",
    "exception.message": "no such thing",
  });
  near(toMs(event!.time), EPOCH_MS + 1);
});
