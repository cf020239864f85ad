import assert from "node:assert/strict";
import { test } from "node:test";
import pino from "pino";
import { HoldfastError } from "../../src/errors.ts";
import { accessLogFilter } from "../../src/telemetry/access-log.ts";
import { connectionFacts, Driver, exchangeFacts, outcomeFacts } from "./facts.ts";

function recorded(level: pino.LevelWithSilent = "info") {
  const lines: Record<string, unknown>[] = [];
  const log = pino(
    { level, base: null, timestamp: false, formatters: { level: (label) => ({ level: label }) } },
    { write: (line: string) => lines.push(JSON.parse(line)) },
  );
  return { lines, log, driver: new Driver(accessLogFilter(log)) };
}

test("one line per exchange, with the connections it used and without secrets", () => {
  const { lines, driver } = recorded();
  const exchange = exchangeFacts(
    { method: "POST", target: "/pay?card=4111&x=1", headers: ["Authorization", "Bearer x", "Cookie", "s=1"] },
    { id: 31, downstreamIndex: 2, downstreamIdleMs: 15, upstreamIdleMs: 240.12345, attempts: 0 },
  );
  exchange.downstream = connectionFacts({ id: 3, side: "downstream" });
  exchange.trace = { traceId: "a".repeat(32), spanId: "b".repeat(16), sampled: true };
  const hooks = driver.begin(exchange);
  exchange.request.target = "/rewritten";
  driver.connect(exchange, hooks, connectionFacts({ id: 7, exchanges: 12, closeReason: "max_requests" }));
  hooks?.end?.(outcomeFacts({ status: 201, durationMs: 3.10049, requestBytes: 10, responseBytes: 20 }));

  assert.deepEqual(lines, [
    {
      level: "info",
      exchange: 31,
      method: "POST",
      host: "inventory.internal",
      path: "/pay?card&x",
      status: 201,
      durationMs: 3.1,
      requestBytes: 10,
      responseBytes: 20,
      answeredBy: "upstream",
      traceId: "a".repeat(32),
      spanId: "b".repeat(16),
      downstream: { id: 3, request: 2, idleMs: 15, address: "10.0.0.9" },
      route: "inventory",
      upstream: {
        id: 7,
        request: 12,
        idleMs: 240.123,
        closeReason: "max_requests",
        reused: true,
        address: "10.0.0.2:8081",
      },
      msg: "POST /pay?card&x 201",
    },
  ]);
});

test("a failure of ours is a warning with its code; a stale retry is named", () => {
  const { lines, driver } = recorded();
  const exchange = exchangeFacts({}, { attempts: 2, queuedMs: 1.5 });
  const error = new HoldfastError("HF_UPSTREAM_CLOSED", "inventory.internal:8081 closed the connection");
  driver.begin(exchange)?.end?.(outcomeFacts({ status: 502, answeredBy: "holdfast", error, stale: "refused" }));
  const [line] = lines;
  assert.equal(line?.["level"], "warn");
  assert.deepEqual(line?.["error"], { code: "HF_UPSTREAM_CLOSED", message: error.message });
  assert.equal(line?.["stale"], "refused");
  assert.equal(line?.["attempts"], 2);
  assert.equal(line?.["queuedMs"], 1.5);
  assert.equal(line?.["upstream"], undefined);
});

test("what the upstream or the caller did is not our warning", () => {
  const { lines, driver } = recorded();
  driver.run(exchangeFacts(), connectionFacts(), outcomeFacts({ status: 500 }));
  const error = new HoldfastError("HF_DOWNSTREAM_ABORTED", "the caller went away");
  driver.run(exchangeFacts(), connectionFacts(), outcomeFacts({ status: undefined, answeredBy: "none", error }));
  assert.deepEqual(
    lines.map((line) => [line["level"], line["msg"]]),
    [
      ["info", "GET /items 500"],
      ["info", "GET /items -"],
    ],
  );
});

test("nothing is done while the level is off, and the level can change", () => {
  const { lines, log, driver } = recorded("silent");
  assert.equal(driver.begin(exchangeFacts()), undefined);
  log.level = "warn";
  const hooks = driver.begin(exchangeFacts());
  hooks?.end?.(outcomeFacts());
  assert.equal(lines.length, 0);
  log.level = "info";
  driver.run(exchangeFacts(), connectionFacts());
  assert.equal(lines.length, 1);
});
