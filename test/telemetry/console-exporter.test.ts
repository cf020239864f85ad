import assert from "node:assert/strict";
import { test } from "node:test";
import { AlwaysOnSampler, TracerProvider } from "@opentelemetry/sdk-trace";
import { HoldfastError } from "../../src/errors.ts";
import { ConsoleSpanProcessor } from "../../src/telemetry/console-exporter.ts";
import { KNOWN_METHODS } from "../../src/telemetry/http-semantics.ts";
import { sampledBy, TraceIds } from "../../src/telemetry/sampling.ts";
import { SdkSpans } from "../../src/telemetry/sdk-spans.ts";
import { tracingFilter } from "../../src/telemetry/traces.ts";
import { connectionFacts, Driver, EPOCH_MS, exchangeFacts, outcomeFacts, staleFailure } from "./facts.ts";

function terminal(isTTY = false) {
  const written: string[] = [];
  const ids = new TraceIds();
  const provider = new TracerProvider({
    sampler: new AlwaysOnSampler(),
    idGenerator: ids,
    spanProcessors: [new ConsoleSpanProcessor({ isTTY, write: (text) => written.push(text) })],
  });
  const filter = tracingFilter({
    spans: new SdkSpans(provider.getTracer("test"), ids),
    sampled: sampledBy("always_on", 1),
    knownMethods: KNOWN_METHODS,
  });
  return { written, driver: new Driver(filter) };
}

test("a reused connection", () => {
  const { written, driver } = terminal();
  const connection = connectionFacts({ id: 7, exchanges: 12 });
  driver.open(connection);
  driver.run(exchangeFacts({}, { upstreamIdleMs: 240 }), connection, outcomeFacts({ durationMs: 3.1 }));
  assert.deepEqual(written, ["GET 200 3.1 ms  ↑ conn 7 reused, request 12, idle 240 ms\n"]);
});

test("a new connection with the time each phase took", () => {
  const { written, driver } = terminal();
  const setup = { ...connectionFacts().setup, dnsMs: 0.1, connectMs: 0.4, tlsMs: 3.2 };
  driver.run(exchangeFacts(), connectionFacts({ id: 8, setup }));
  driver.run(exchangeFacts(), connectionFacts({ id: 9, setup: { ...connectionFacts().setup, connectMs: 0.4 } }));
  driver.run(exchangeFacts(), connectionFacts({ id: 10 }));
  assert.deepEqual(written, [
    "GET 200 3.0 ms  ↑ conn 8 new (dns 0.1, tcp 0.4, tls 3.2 ms)\n",
    "GET 200 3.0 ms  ↑ conn 9 new (tcp 0.4 ms)\n",
    "GET 200 3.0 ms  ↑ conn 10 new\n",
  ]);
});

test("a retry shows both connections", () => {
  const { written, driver } = terminal();
  const exchange = exchangeFacts({}, { upstreamIdleMs: 5001 });
  const hooks = driver.begin(exchange);
  driver.connect(exchange, hooks, connectionFacts({ id: 7, exchanges: 13 }));
  exchange.elapsedMs = 1;
  hooks?.retry?.(staleFailure());
  Object.assign(exchange, { attemptStartedAtEpochMs: EPOCH_MS + 1, upstreamIdleMs: 0 });
  driver.connect(exchange, hooks, connectionFacts({ id: 8 }));
  hooks?.end?.(outcomeFacts({ durationMs: 5.4, stale: "retried" }));
  assert.deepEqual(written, [
    "GET 200 5.4 ms  ↑ conn 7 reused, request 13, idle 5001 ms, HF_UPSTREAM_CLOSED  ↻ conn 8 new\n",
  ]);
});

test("failures and replies of plugins", () => {
  const { written, driver } = terminal();
  const refused = new HoldfastError("HF_UPSTREAM_REFUSED", "refused");
  const unreached = exchangeFacts({}, { attempts: 1 });
  driver.begin(unreached)?.end?.(outcomeFacts({ status: 502, answeredBy: "holdfast", error: refused }));
  const noRoute = new HoldfastError("HF_NO_ROUTE", "no route");
  driver
    .begin(exchangeFacts({ method: "BREW" }))
    ?.end?.(outcomeFacts({ status: 403, answeredBy: "holdfast", error: noRoute }));
  driver.begin(exchangeFacts())?.end?.(outcomeFacts({ status: 429, answeredBy: "plugin" }));
  driver.run(exchangeFacts(), connectionFacts({ id: 1 }), outcomeFacts({ status: 404 }));
  const aborted = new HoldfastError("HF_DOWNSTREAM_ABORTED", "gone");
  driver.run(
    exchangeFacts(),
    connectionFacts({ id: 2 }),
    outcomeFacts({ status: undefined, answeredBy: "none", error: aborted }),
  );
  assert.deepEqual(written, [
    "GET 502 3.0 ms  ↑ no connection, HF_UPSTREAM_REFUSED\n",
    "BREW 403 3.0 ms  HF_NO_ROUTE\n",
    "GET 429 3.0 ms  answered by a plugin\n",
    "GET 404 3.0 ms  ↑ conn 1 new\n",
    "GET --- 3.0 ms  ↑ conn 2 new, HF_DOWNSTREAM_ABORTED\n",
  ]);
});

test("colours on a terminal only", () => {
  const colour = terminal(true);
  colour.driver.run(exchangeFacts(), connectionFacts({ id: 1 }), outcomeFacts({ status: 503 }));
  assert.equal(colour.written[0], "GET \u001b[31m503\u001b[39m 3.0 ms  ↑ conn 1 new\n");
});
