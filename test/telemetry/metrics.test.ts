import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HoldfastError } from "../../src/errors.ts";
import { KNOWN_METHODS } from "../../src/telemetry/http-semantics.ts";
import {
  type HistogramMetric,
  HistogramSeries,
  Instruments,
  type NumberMetric,
  type SeriesAttributes,
} from "../../src/telemetry/instruments.ts";
import { metricsFilter } from "../../src/telemetry/metrics.ts";
import { connectionFacts, Driver, EPOCH_MS, exchangeFacts, outcomeFacts, staleFailure } from "./facts.ts";

const ORIGIN = {
  "server.address": "inventory.internal",
  "server.port": 8081,
  "url.scheme": "http",
  "holdfast.direction": "outbound",
};

function outbound(maxOrigins?: number) {
  const instruments = new Instruments();
  const filter = metricsFilter(instruments, {
    direction: "outbound",
    knownMethods: KNOWN_METHODS,
    ...(maxOrigins === undefined ? {} : { maxOrigins }),
  });
  return { instruments, filter, driver: new Driver(filter) };
}

/** Values of a metric by those attributes that differ from `common`. */
function values(metric: NumberMetric, common: SeriesAttributes = {}): Record<string, number> {
  return Object.fromEntries(Array.from(metric.series, ({ attributes, value }) => [rest(attributes, common), value]));
}

function counts(metric: HistogramMetric, common: SeriesAttributes = {}): Record<string, [number, number]> {
  return Object.fromEntries(
    Array.from(metric.series, ({ attributes, count, sum }) => [
      rest(attributes, common),
      [count, Math.round(sum * 1e6) / 1e6],
    ]),
  );
}

function rest(attributes: SeriesAttributes, common: SeriesAttributes): string {
  return Object.entries(attributes)
    .filter(([name, value]) => common[name] !== value)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}

test("an exchange counts downstream and upstream", () => {
  const { instruments, driver } = outbound();
  const exchange = exchangeFacts({}, { attemptStartedAtEpochMs: EPOCH_MS + 1 });
  const hooks = driver.begin(exchange);
  const active = { "http.request.method": "GET", "url.scheme": "http", "holdfast.direction": "outbound" };
  assert.deepEqual(values(instruments.serverActiveRequests, active), { "": 1 });
  driver.connect(exchange, hooks, connectionFacts());
  assert.deepEqual(values(instruments.clientActiveRequests, { ...active, ...ORIGIN }), { "": 1 });
  hooks?.end?.(outcomeFacts({ durationMs: 5 }));

  assert.deepEqual(values(instruments.serverActiveRequests, active), { "": 0 });
  assert.deepEqual(values(instruments.clientActiveRequests, { ...active, ...ORIGIN }), { "": 0 });
  const answered = { ...active, "network.protocol.version": "1.1", "http.response.status_code": 200 };
  assert.deepEqual(counts(instruments.serverRequestDuration, answered), { "": [1, 0.005] });
  assert.deepEqual(counts(instruments.clientRequestDuration, { ...answered, ...ORIGIN }), { "": [1, 0.004] });
});

test("a retry is two attempts of one exchange, and a stale connection", () => {
  const { instruments, driver } = outbound();
  const exchange = exchangeFacts();
  const hooks = driver.begin(exchange);
  driver.connect(exchange, hooks, connectionFacts({ exchanges: 5 }));
  exchange.elapsedMs = 2;
  hooks?.retry?.(staleFailure());
  exchange.attemptStartedAtEpochMs = EPOCH_MS + 2;
  driver.connect(exchange, hooks, connectionFacts());
  hooks?.end?.(outcomeFacts({ durationMs: 6, stale: "retried" }));

  const common = { ...ORIGIN, "http.request.method": "GET", "network.protocol.version": "1.1" };
  assert.deepEqual(counts(instruments.clientRequestDuration, common), {
    "error.type=HF_UPSTREAM_CLOSED": [1, 0.002],
    "http.response.status_code=200": [1, 0.004],
  });
  assert.deepEqual(values(instruments.clientActiveRequests, common), { "": 0 });
  assert.deepEqual(values(instruments.upstreamStale, ORIGIN), { "result=retried": 1 });
});

test("an attempt that found no connection is counted with its failure", () => {
  const { instruments, driver } = outbound();
  const exchange = exchangeFacts({}, { attempts: 1 });
  const error = new HoldfastError("HF_UPSTREAM_REFUSED", "refused");
  driver.begin(exchange)?.end?.(outcomeFacts({ status: 502, answeredBy: "holdfast", error, durationMs: 1 }));
  assert.deepEqual(counts(instruments.clientRequestDuration, { ...ORIGIN, "http.request.method": "GET" }), {
    "error.type=HF_UPSTREAM_REFUSED": [1, 0.001],
  });
  assert.equal(instruments.clientActiveRequests.size, 0);
});

test("a plugin's reply counts downstream only", () => {
  const { instruments, driver } = outbound();
  driver.begin(exchangeFacts())?.end?.(outcomeFacts({ status: 403, answeredBy: "plugin" }));
  assert.equal(instruments.serverRequestDuration.size, 1);
  assert.equal(instruments.clientRequestDuration.size, 0);
});

test("tunnels and upgrades have no request duration; refused ones do", () => {
  for (const [kind, status, measured] of [
    ["tunnel", 200, 0],
    ["upgrade", 101, 0],
    ["tunnel", 405, 1],
    ["upgrade", 426, 1],
  ] as const) {
    const { instruments, driver } = outbound();
    driver.run(exchangeFacts({}, { kind }), connectionFacts(), outcomeFacts({ status }));
    assert.equal(instruments.serverRequestDuration.size, measured, `${kind} ${status}`);
    assert.equal(instruments.clientRequestDuration.size, measured, `${kind} ${status}`);
    assert.deepEqual(
      [...instruments.clientActiveRequests.series].map((series) => series.value),
      [0],
    );
  }
});

test("upstream connections are counted by state, and measured as they close", () => {
  const { instruments, driver } = outbound();
  const connection = connectionFacts();
  const open = () => values(instruments.clientOpenConnections, ORIGIN);
  const hooks = driver.open(connection);
  assert.deepEqual(open(), { "http.connection.state=idle": 1 });
  hooks.active?.(exchangeFacts());
  hooks.active?.(exchangeFacts());
  assert.deepEqual(open(), { "http.connection.state=idle": 0, "http.connection.state=active": 1 });
  hooks.idle?.();
  assert.deepEqual(open(), { "http.connection.state=idle": 1, "http.connection.state=active": 0 });
  Object.assign(connection, { exchanges: 7, ageMs: 1500 });
  hooks.close?.("peer_closed");
  assert.deepEqual(open(), { "http.connection.state=idle": 0, "http.connection.state=active": 0 });
  const side = { "holdfast.connection.side": "upstream", "holdfast.direction": "outbound" };
  assert.deepEqual(counts(instruments.clientConnectionDuration, ORIGIN), { "": [1, 1.5] });
  assert.deepEqual(counts(instruments.connectionRequests, side), { "": [1, 7] });
  assert.deepEqual(values(instruments.connectionsClosed, side), {
    "holdfast.connection.close_reason=peer_closed": 1,
  });
});

test("a downstream connection counts on its own side, without its peer's address", () => {
  const { instruments, driver } = outbound();
  const hooks = driver.open(connectionFacts({ side: "downstream" }));
  const common = { "holdfast.direction": "outbound" };
  assert.deepEqual(values(instruments.downstreamOpenConnections, common), { "http.connection.state=idle": 1 });
  hooks.close?.("idle_timeout");
  assert.deepEqual(values(instruments.downstreamOpenConnections, common), { "http.connection.state=idle": 0 });
  assert.equal(instruments.clientConnectionDuration.size, 0);
  assert.equal(instruments.clientOpenConnections.size, 0);
});

test("a connection that never opened is only counted as closed", () => {
  const { instruments, driver } = outbound();
  driver.open(connectionFacts({ closeReason: "connect_failed", exchanges: 0 })).close?.("connect_failed");
  assert.equal(instruments.clientOpenConnections.size, 0);
  assert.equal(instruments.connectionRequests.size, 0);
  assert.equal([...instruments.connectionsClosed.series][0]?.value, 1);
});

test("idle time before reuse is measured on both sides, not on fresh connections", () => {
  const { instruments, driver } = outbound();
  driver.run(exchangeFacts(), connectionFacts());
  assert.equal(instruments.connectionIdleAtReuse.size, 0);
  const again = exchangeFacts({}, { downstreamIndex: 2, downstreamIdleMs: 300, upstreamIdleMs: 4900 });
  driver.run(again, connectionFacts({ exchanges: 2 }));
  assert.deepEqual(counts(instruments.connectionIdleAtReuse, { "holdfast.direction": "outbound" }), {
    "holdfast.connection.side=downstream": [1, 0.3],
    "holdfast.connection.side=upstream": [1, 4.9],
  });
});

test("idle limits of an origin are shown by source, and go away when there is none", () => {
  const { instruments, driver } = outbound();
  const connection = connectionFacts({ hint: { timeoutMs: 5000, maxRequests: undefined } });
  const hooks = driver.open(connection);
  hooks.idle?.();
  const shown = () => values(instruments.upstreamIdleTimeout, ORIGIN);
  assert.deepEqual(shown(), { "source=configured": 55, "source=hint": 5 });
  connection.learned = {
    idleTimeoutMs: 4000,
    confidence: 0.9,
    leaveAfterMs: 3900,
    maxRequests: undefined,
    maxAgeMs: undefined,
  };
  hooks.idle?.();
  assert.deepEqual(shown(), { "source=configured": 55, "source=hint": 5, "source=learned": 4 });
  connection.learned = undefined;
  connection.keepAlive.idleTimeoutMs = Number.POSITIVE_INFINITY;
  connection.hint = undefined;
  hooks.idle?.();
  assert.deepEqual(shown(), {});
});

test("failed plugin hooks are counted by plugin and hook", () => {
  const { instruments, filter } = outbound();
  for (const hook of ["request", "request", "end"]) {
    filter.pluginFailed?.({
      plugin: "flaky",
      hook,
      error: new Error("x"),
      onError: "continue",
      connection: undefined,
      exchange: undefined,
    });
  }
  const common = { "holdfast.direction": "outbound", "holdfast.plugin.name": "flaky" };
  assert.deepEqual(values(instruments.pluginErrors, common), {
    "holdfast.plugin.hook=request": 2,
    "holdfast.plugin.hook=end": 1,
  });
});

test("callers cannot make up series without end", () => {
  const { instruments, driver } = outbound(3);
  for (let index = 0; index < 100; index++) {
    const origin = { scheme: "http", host: `host-${index}.example`, port: 80 } as const;
    const exchange = exchangeFacts({ method: `M${index}`, authority: `evil-${index}` });
    exchange.route = { name: `r${index}`, origin, backend: undefined };
    driver.open(connectionFacts({ origin }));
    driver.run(exchange, connectionFacts({ origin }));
  }
  assert.equal(instruments.serverRequestDuration.size, 1);
  assert.equal(instruments.clientRequestDuration.size, 4);
  assert.equal(instruments.clientOpenConnections.size, 4);
  const open = [...instruments.clientOpenConnections.series];
  assert.deepEqual(open.find(({ attributes }) => attributes["server.address"] === "_OTHER")?.value, 97);
});

test("past its series a metric counts the rest in one", () => {
  const { pluginErrors } = new Instruments();
  for (let index = 0; index < 3000; index++) pluginErrors.at(`${index}`, () => ({ index })).value++;
  assert.equal(pluginErrors.size, 2000);
  const overflow = [...pluginErrors.series].at(-1);
  assert.deepEqual(overflow?.attributes, { "otel.metric.overflow": true });
  assert.equal(overflow?.value, 1001);
});

test("a histogram puts every value into the bucket with the smallest boundary at or above it", () => {
  const boundaries = [1, 2, 5];
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 10, noNaN: true })), (samples) => {
      const series = new HistogramSeries({}, boundaries);
      for (const sample of samples) series.record(sample);
      const expected = [0, 0, 0, 0];
      for (const sample of samples) {
        const bucket = boundaries.findIndex((boundary) => sample <= boundary);
        expected[bucket === -1 ? 3 : bucket]!++;
      }
      assert.deepEqual(series.counts, expected);
      assert.equal(series.count, samples.length);
    }),
  );
});
