import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseDuration } from "../../src/config/units.ts";
import { Pace } from "../../src/probe/pace.ts";
import { hostField, parsePeer } from "../../src/probe/peer.ts";
import { reportLines, suggestionLines } from "../../src/probe/report.ts";
import type { IdleMeasured, ProbeResult } from "../../src/probe/result.ts";
import { median, withReuse } from "../../src/probe/setup.ts";
import { leaveBefore, suggestLines } from "../../src/probe/suggest.ts";
import { maxTruth, timeoutTruth } from "../../src/probe/truth.ts";

function idle(closedMs: readonly number[], waitedMs = 90_000, stillAnswers = true): IdleMeasured {
  return {
    shortestMs: closedMs.length === 0 ? null : Math.min(...closedMs),
    longestMs: closedMs.length === 0 ? null : Math.max(...closedMs),
    waitedMs,
    stillAnswers: closedMs.length === 0 ? stillAnswers : null,
    connections: closedMs.map((idleMs) => ({ address: "10.0.0.9", idleMs, end: "fin", said: null })),
  };
}

function result(change: Partial<ProbeResult> = {}): ProbeResult {
  return {
    url: "http://inventory.internal:8081/",
    host: null,
    method: "GET",
    addresses: ["10.0.0.9"],
    status: 200,
    version: "1.1",
    keepAlive: {
      http11: "kept",
      http11KeepAlive: "kept",
      http11Close: "closed",
      http10: "closed",
      http10KeepAlive: "kept",
    },
    hint: null,
    idle: { afterRequest: idle([60_010]), beforeRequest: null },
    requests: { answered: 200, end: "not reached" },
    setup: null,
    hintTruth: { timeout: "none", maxRequests: "none" },
    notMeasured: [],
    interrupted: false,
    ...change,
  };
}

function backend(change: Partial<ProbeResult>): unknown {
  return Object.values(suggestLines([result(change)])!.backends)[0];
}

test("an advertised timeout is judged by when connections were closed", () => {
  assert.equal(timeoutTruth(undefined, idle([5000])), "none");
  assert.equal(timeoutTruth(5000, null), "unknown");
  assert.equal(timeoutTruth(5000, idle([5001])), "true");
  // Node.js announces 5 s and closes after 6 s.
  assert.equal(timeoutTruth(5000, idle([6003])), "true");
  assert.equal(timeoutTruth(5000, idle([4910, 5003])), "true");
  assert.equal(timeoutTruth(5000, idle([4890, 5003])), "closes early");
  assert.equal(timeoutTruth(1000, idle([960])), "true");
  assert.equal(timeoutTruth(1000, idle([940])), "closes early");
  assert.equal(timeoutTruth(5000, idle([4000, 5003])), "closes early");
  assert.equal(timeoutTruth(5000, idle([15_000])), "closes late");
  assert.equal(timeoutTruth(5000, idle([], 90_000)), "closes late");
  assert.equal(timeoutTruth(120_000, idle([], 90_000)), "unknown");
});

test("an advertised max is judged by the requests that were answered; who counts the first one is left open", () => {
  assert.equal(maxTruth(undefined, { answered: 5, end: "announced" }), "none");
  assert.equal(maxTruth(100, null), "unknown");
  assert.equal(maxTruth(100, { answered: 100, end: "announced" }), "true");
  assert.equal(maxTruth(100, { answered: 101, end: "unannounced" }), "true");
  assert.equal(maxTruth(100, { answered: 99, end: "announced" }), "closes early");
  assert.equal(maxTruth(100, { answered: 102, end: "announced" }), "closes late");
  assert.equal(maxTruth(100, { answered: 50, end: "not reached" }), "unknown");
  assert.equal(maxTruth(100, { answered: 50, end: "refused" }), "unknown");
});

test("the margin is a tenth, at least 100 ms and at most 5 s", () => {
  const cases = [
    [75_000, 70_000],
    [60_000, 55_000],
    [5000, 4500],
    [1000, 900],
    [500, 400],
    [100, 50],
  ];
  for (const [limitMs, expected] of cases) assert.equal(leaveBefore(limitMs!, 0, 0), expected);
  assert.equal(leaveBefore(5000, 0, 600), 3800);
  assert.equal(leaveBefore(60_000, 6000, 0), 54_000);
});

test("a connection is always left before the limit, and never before half of it", () => {
  const ms = fc.double({ min: 2, max: 4e6, noNaN: true });
  fc.assert(
    fc.property(ms, ms, ms, (limitMs, spreadMs, roundTripMs) => {
      const leaveMs = leaveBefore(limitMs, spreadMs, roundTripMs);
      assert.ok(leaveMs < limitMs, `${leaveMs}`);
      assert.ok(leaveMs >= limitMs / 2 - 1000 && leaveMs >= limitMs * 0.45 - 1, `${leaveMs}`);
    }),
  );
});

test("lines for sidecar.json: what was seen and what was said, the smaller of both", () => {
  const address = { address: "inventory.internal", port: 8081 };
  assert.deepEqual(backend({}), { ...address, keepaliveTime: "55s" });
  assert.deepEqual(backend({ hint: { timeoutMs: 20_000, maxRequests: null, onlyWhenAsked: false } }), {
    ...address,
    keepaliveTime: "18s",
  });
  assert.deepEqual(backend({ url: "https://a.example/x" }), {
    address: "a.example",
    port: 443,
    tls: true,
    keepaliveTime: "55s",
  });
  // Nobody knows for how much longer than was waited.
  assert.deepEqual(backend({ idle: { afterRequest: idle([], 90_000), beforeRequest: null } }), {
    ...address,
    keepaliveTime: "85s",
  });
  assert.deepEqual(backend({ idle: { afterRequest: idle([], 90_000, false), beforeRequest: null } }), {
    ...address,
    tcpKeepalive: { enable: true, time: "30s" },
  });
  assert.deepEqual(backend({ idle: { afterRequest: null, beforeRequest: null } }), address);
  assert.equal(suggestLines([result({ status: null })]), null);
  const lines = suggestLines([
    result({ requests: { answered: 7, end: "unannounced" } }),
    result({ url: "http://[::1]:80/", requests: { answered: 3, end: "unannounced" } }),
  ]);
  assert.deepEqual(lines?.plugins[0], { use: "keep-alive", config: { upstream: { maxRequests: 3 } } });
  assert.deepEqual(lines?.outbound.routes, [
    { host: "inventory.internal:8081", upstream: "inventory.internal-8081" },
    { host: "[::1]", upstream: "1" },
  ]);
});

test("a suggested time is one that sidecar.json takes, for any limit", () => {
  fc.assert(
    fc.property(fc.double({ min: 5, max: 3e6, noNaN: true }), (limitMs) => {
      const { keepaliveTime } = backend({ idle: { afterRequest: idle([limitMs]), beforeRequest: null } }) as {
        keepaliveTime: string;
      };
      assert.ok(parseDuration(keepaliveTime) < limitMs);
    }),
  );
});

test("URLs are read with their port, and refused with a reason", () => {
  const host = (url: string) => {
    const parsed = parsePeer(url);
    return "wrong" in parsed ? parsed.wrong : hostField(parsed.peer);
  };
  assert.equal(host("http://A.example/x"), "a.example");
  assert.equal(host("https://a.example:443"), "a.example");
  assert.equal(host("http://a.example:443"), "a.example:443");
  assert.equal(host("http://[::1]:8080/"), "[::1]:8080");
  assert.match(host("a.example"), /is not a URL/);
  assert.match(host("ftp://a.example"), /is not a URL/);
  assert.match(host("http://a:0/"), /port 0/);
  assert.equal(host("http://user:secret@a.example/"), "a URL must not carry credentials");
});

test("the middle, and what a reuse saves", () => {
  assert.equal(median([]), null);
  assert.equal(median([undefined, 3]), 3);
  assert.equal(median([9, 1, 2]), 2);
  assert.equal(median([1, 2]), 1.5);
  const opening = {
    dnsMs: 1,
    tcpMs: 10,
    tlsMs: 20,
    tlsVersion: null,
    tlsResumes: null,
    tlsResumedMs: null,
    firstByteMs: 12,
  };
  assert.equal(withReuse(opening, [10, 11, 12]).savedMs, 32);
  assert.equal(withReuse(opening, []).savedMs, null);
});

test("a pace gives turns no faster than it says, and an abort ends the wait", async () => {
  const pace = new Pace(100);
  const stop = new AbortController();
  const startedAtMs = performance.now();
  for (let turn = 0; turn < 4; turn++) await pace.turn(stop.signal);
  // Timers of Node.js may be a millisecond early.
  assert.ok(performance.now() - startedAtMs >= 30 - 3);
  const slow = new Pace(0.001);
  await slow.turn(stop.signal);
  const waiting = slow.turn(stop.signal);
  stop.abort();
  await assert.rejects(waiting, { name: "AbortError" });
});

test("the report says what was found in words", () => {
  const text = reportLines(
    result({
      hint: { timeoutMs: 5000, maxRequests: 100, onlyWhenAsked: true },
      hintTruth: { timeout: "closes early", maxRequests: "unknown" },
      idle: {
        afterRequest: idle([4000, 4700]),
        beforeRequest: idle([], 90_000, false),
      },
      requests: { answered: 7, end: "unannounced" },
      keepAlive: {
        http11: "kept",
        http11KeepAlive: "kept",
        http11Close: "kept",
        http10: "broken",
        http10KeepAlive: null,
      },
      notMeasured: [{ what: "set-up", why: "interrupted" }],
      interrupted: true,
    }),
  ).join("\n");
  for (const line of [
    "http://inventory.internal:8081/  GET 200, HTTP/1.1, 10.0.0.9",
    "  keep-alive               kept",
    "    when asked to close    kept, although it should be closed",
    "    HTTP/1.0               closed after the response, although it says that it stays",
    "    HTTP/1.0 keep-alive    not measured",
    "  idle after a request     closed after 4.00 s to 4.70 s by FIN (2 of 2 connections)",
    "  idle before a request    open after 90.0 s, but does not answer any more: something on the way forgot the connection",
    "  advertised               timeout=5: not true, it closes earlier; max=100: not seen to be true or not (only to requests with Connection: keep-alive)",
    "  requests per connection  7, then closed without a word",
    "  not measured: set-up: interrupted",
    "  interrupted: this is what was known by then",
  ]) {
    assert.ok(text.split("\n").includes(line), `${line}\nis not in\n${text}`);
  }
});

test("URLs of one origin are one backend, left before the shortest limit; HTTP and HTTPS of one name are two", () => {
  const at = (url: string, closedMs: number) =>
    result({ url, idle: { afterRequest: idle([closedMs]), beforeRequest: null } });
  const { outbound, backends } = suggestLines([
    at("http://a.internal:81/x", 2000),
    at("http://a.internal:81/y", 60_000),
    at("http://example.com/", 5000),
    at("https://example.com/", 60_000),
    at("http://a.internal-81/", 10_000),
  ])!;
  assert.deepEqual(outbound.routes, [
    { host: "a.internal:81", upstream: "a.internal-81" },
    { host: "example.com", upstream: "example.com" },
    { host: "example.com:443", upstream: "example.com-443" },
    { host: "a.internal-81", upstream: "a.internal-81-2" },
  ]);
  assert.deepEqual(backends, {
    "a.internal-81": { address: "a.internal", port: 81, keepaliveTime: "1800ms" },
    "example.com": { address: "example.com", port: 80, keepaliveTime: "4500ms" },
    "example.com-443": { address: "example.com", port: 443, tls: true, keepaliveTime: "55s" },
    "a.internal-81-2": { address: "a.internal-81", port: 80, keepaliveTime: "9s" },
  });
});

test("instances behind one name are one backend with the shortest limit, by that name", () => {
  const instance = (url: string, closedMs: number): ProbeResult =>
    result({ url, host: "inventory.internal", idle: { afterRequest: idle([closedMs]), beforeRequest: null } });
  const lines = suggestLines(
    [instance("https://10.0.0.9:8443/", 60_000), instance("https://10.0.0.10:8443/", 5000)],
    "/etc/ca.pem",
  )!;
  assert.deepEqual(lines.outbound.routes, [{ host: "inventory.internal", upstream: "inventory.internal" }]);
  assert.deepEqual(lines.backends, {
    "inventory.internal": {
      address: "inventory.internal",
      port: 8443,
      tls: { ca: "/etc/ca.pem" },
      keepaliveTime: "4500ms",
    },
  });
  assert.match(
    reportLines(instance("https://10.0.0.9:8443/", 60_000))[0]!,
    /^https:\S+ as inventory\.internal {2}GET 200/,
  );
});

test("a time that is only how long was waited is not shown as a limit", () => {
  const open = result({ idle: { afterRequest: idle([]), beforeRequest: null } });
  const text = (...results: ProbeResult[]) => suggestionLines(suggestLines(results)!, results)[0];
  assert.equal(text(open, result()), "keepaliveTime is only how long was waited: http://inventory.internal:8081/");
  assert.equal(text(result()), "sidecar.json:");
  const hint = { timeoutMs: 5000, maxRequests: null, onlyWhenAsked: false };
  assert.equal(text({ ...open, hint }), "sidecar.json:");
});

test("responses that tell little of others are noted", () => {
  const note = (status: number) => reportLines(result({ status })).find((line) => line.startsWith("  note "));
  assert.match(note(429)!, /give a lower --rate/);
  assert.match(note(404)!, /better measure a URL that answers 200/);
  assert.match(note(302)!, /a redirect, which is not followed/);
  assert.equal(note(204), undefined);
});
