import assert from "node:assert/strict";
import { test } from "node:test";
import { chainsOf, type Sources } from "../../src/doctor/chain.ts";
import { type Diagnosis, diagnose, type Traffic } from "../../src/doctor/diagnose.ts";
import { drawn } from "../../src/doctor/draw.ts";
import { doctorDocument } from "../../src/doctor/json.ts";
import type { CallerState, OriginState } from "../../src/doctor/running.ts";
import type { Value } from "../../src/doctor/sidecar-hop.ts";
import { originState } from "./origin-state.ts";

const NOTHING_SAID: Traffic = { rttMs: undefined, requestsPerSecond: undefined, connections: undefined };
const IDLE = { timeoutMs: 5000, leaveAfterMs: 4900, confidence: 0.998, closes: 8 };
const BUSY = {
  enough: 12,
  reusedShare: 0.997,
  handshakesPerSecond: 0.4,
  arrivalsPerSecond: 123.46,
  exchangeMs: 50,
  meanBusy: 6,
  peakBusy: 19,
  unavoidableShare: 0,
  setupMs: 40,
  oneMore: { bytesHere: 8192, bytesThere: 15_360, savesHandshakesPerSecond: 0.2, savesMsPerSecond: 7 },
};

interface Said {
  readonly origins?: readonly OriginState[];
  readonly callers?: readonly CallerState[];
  /** On top of a sidecar with one upstream inbound, the three plugins and their defaults. */
  readonly values?: Readonly<Record<string, unknown>>;
  readonly traffic?: Partial<Traffic>;
}

/** What the doctor finds in each chain that the words stand for, where `admin=x` is a sidecar that says this. */
async function diagnosed(words: readonly string[], said: Said): Promise<Diagnosis[]> {
  const all = {
    service: "orders",
    "inbound.upstream": "http://127.0.0.1:8080",
    "plugins[0].use": "keep-alive",
    "plugins[0].config.downstream.advertise": true,
    "plugins[1].use": "idle-timeout",
    "plugins[1].config.downstream": "65s",
    "plugins[1].config.upstream": "55s",
    "plugins[1].config.margin": "5s",
    "plugins[1].config.learn": true,
    ...said.values,
  };
  const values: readonly Value[] = Object.entries(all).map(([key, value]) => ({ key, value }));
  const sources: Sources = {
    readJson: () => assert.fail("no file"),
    sidecar: () => assert.fail("no file"),
    running: async () => ({ values, origins: said.origins ?? [], callers: said.callers ?? [] }),
    probe: () => assert.fail("nothing is probed"),
  };
  const chains = await chainsOf(words, sources);
  return chains.map(({ hops }) => diagnose(hops, { ...NOTHING_SAID, ...said.traffic }));
}

async function one(words: readonly string[], said: Said): Promise<Diagnosis> {
  const [diagnosis, ...others] = await diagnosed(words, said);
  assert.equal(others.length, 0);
  return diagnosis!;
}

test("a running sidecar alone is drawn with all that it has measured of both sides, and is sound", async () => {
  const origin = originState({
    pool: { connections: 14, idle: 12, watched: 1, queued: 2 },
    idleLimit: { effectiveMs: 4900, source: "learned", configuredMs: 55_000, hintMs: null },
    learned: { idle: IDLE, openAtMs: 4988 },
    roundTripMs: 0.8,
    poolSize: { idleKept: "off", advice: BUSY },
  });
  const callers: CallerState = {
    direction: "inbound",
    idle: { timeoutMs: 60_000, confidence: 0.97, closes: 5 },
    closedByUs: { count: 1, of: 20 },
  };
  const diagnosis = await one(["admin=x"], { origins: [origin], callers: [callers] });
  assert.deepEqual(diagnosis.findings, []);
  assert.deepEqual(diagnosis.unknown, []);
  assert.equal(
    drawn(diagnosis).join("\n"),
    `  callers
    │ sends on connections idle up to 60s
    │
    │ closes connections idle for 65s, says 65s
    │   callers close after 60s, learned, 97 % sure from 5 closes
    │   closed 1 of the last 20 idle ones itself
  holdfast (orders, inbound)
    │ sends on connections idle up to 4.9s
    │   that is learned, 99.8 % sure from 8 closes; configured 55s
    │   14 connections, 12 idle, 1 left alone to learn from, 2 requests waiting for one; 123 requests/s
    │
    │ closes connections idle for 5s, 1ms away
  http://127.0.0.1:8080

no faults`,
  );
  const [{ hops } = { hops: [] }] = doctorDocument([diagnosis]).chains;
  const [, sidecar] = hops as Record<string, Record<string, unknown>>[];
  assert.deepEqual(sidecar!["measured"], { requestsPerSecond: 123.46, connections: 14, rttMs: 0.8 });
  assert.deepEqual(sidecar!["upstream"]!["idleEvidence"], { source: "learned", confidence: 0.998, closes: 8 });
  assert.deepEqual(sidecar!["downstream"]!["closedHere"], { count: 1, of: 20 });
});

test("a limit that is learned and not heeded is a fault, told with the traffic that was measured", async () => {
  const origin = originState({
    pool: { connections: 4, idle: 4, watched: 0, queued: 0 },
    idleLimit: { effectiveMs: 55_000, source: "configured", configuredMs: 55_000, hintMs: null },
    learned: { idle: IDLE },
    poolSize: { idleKept: "off", advice: { ...BUSY, arrivalsPerSecond: 2 } },
  });
  const said = { origins: [origin], values: { "plugins[1].config.learn": false } };
  const { findings } = await one(["admin=x"], said);
  assert.deepEqual(
    findings.map(({ rule, between }) => [rule, ...between]),
    [["idle-order", "holdfast (orders, inbound)", "http://127.0.0.1:8080"]],
  );
  assert.match(findings[0]!.wrong, /up to 55s, which is above the 5s after which/);
  assert.match(findings[0]!.often, /at 2 requests\/s over 4 connections$/);
  // What is said on the command line may be about the traffic to come.
  const more = await one(["admin=x"], { ...said, traffic: { requestsPerSecond: 9, connections: 3 } });
  assert.match(more.findings[0]!.often, /at 9 requests\/s over 3 connections$/);
});

test("what was measured of the next hop outranks what is said of it, and the difference is told", async () => {
  const learned = originState({
    idleLimit: { effectiveMs: 140, source: "learned", configuredMs: 55_000, hintMs: null },
    learned: { idle: { timeoutMs: 150, leaveAfterMs: 140, confidence: 0.9, closes: 3 } },
  });
  const { findings, unknown } = await one(["admin=x", "kestrel"], { origins: [learned] });
  assert.deepEqual(findings, []);
  assert.deepEqual(unknown, [
    {
      hop: "kestrel",
      what: "whether it keeps idle connections 130s, as is said here: holdfast (orders, inbound) saw them closed after 150ms",
    },
  ]);
  // Node.js closes a second later than it says: no reason to doubt, and no fault.
  const later = originState({
    idleLimit: { effectiveMs: 5880, source: "learned", configuredMs: 55_000, hintMs: null },
    learned: { idle: { timeoutMs: 6000, leaveAfterMs: 5880, confidence: 1, closes: 9 } },
  });
  const node = await one(["admin=x", "node"], { origins: [later] });
  assert.deepEqual([...node.findings, ...node.unknown], []);
  // Seen open beyond what is said of it.
  const open = originState({
    idleLimit: { effectiveMs: 55_000, source: "configured", configuredMs: 55_000, hintMs: null },
    learned: { openAtMs: 54_990 },
  });
  const gunicorn = await one(["admin=x", "gunicorn"], { origins: [open] });
  assert.deepEqual(gunicorn.findings, []);
  assert.match(gunicorn.unknown[0]!.what, /^how long it keeps idle connections beyond 54\.99s/);
  assert.match(gunicorn.unknown[1]!.what, /2s, as is said here: .* saw them open after 54\.99s$/);
});

test("hints, limits of requests and age, TLS and the way come from what was measured", async () => {
  const origin = originState({
    origin: "https://api.internal:8443",
    idleLimit: { effectiveMs: 55_000, source: "hint", configuredMs: "off", hintMs: 60_000 },
    learned: {
      requests: { max: 2, announced: true },
      age: { maxMs: 600_000, announced: false },
      openAtMs: 50_000,
    },
    roundTripMs: 30,
  });
  const values = { "inbound.upstream": "https://api.internal:8443", "plugins[1].config.upstream": "off" };
  const diagnosis = await one(["admin=x"], { origins: [origin], values });
  const rules = diagnosis.findings.map(({ rule }) => rule);
  // The limit on requests is announced, that on age is not.
  assert.deepEqual(rules.sort(), ["keep-alive-off", "max-age"]);
  const far = diagnosis.findings.find(({ rule }) => rule === "keep-alive-off")!;
  assert.match(far.wrong, /carry only 2 requests, and opening one takes 60ms/);
  const text = drawn(diagnosis).join("\n");
  assert.match(text, /that is what the origin announces, less a margin; configured without limit/);
  assert.match(
    text,
    /closes connections idle for 50s or more, says 60s, after 2 requests, at 10m of age without a word, 30ms away/,
  );

  const closes = originState({ learned: { requests: { max: 1, announced: true } }, roundTripMs: 30 });
  const { findings } = await one(["admin=x"], { origins: [closes] });
  assert.match(findings[0]!.wrong, /are not kept by http:\/\/127\.0\.0\.1:8080, and opening one takes 30ms/);
});

test("addresses behind one name that differ are told apart, and the shortest limit counts", async () => {
  const learned = (timeoutMs: number) => ({
    idle: { timeoutMs, leaveAfterMs: timeoutMs - 100, confidence: 1, closes: 9 },
    requests: null,
    age: null,
    openAtMs: 0,
  });
  const origin = originState({
    // The newest connection leads to the patient one.
    idleLimit: { effectiveMs: 55_000, source: "configured", configuredMs: 55_000, hintMs: null },
    learned: learned(5000),
    addresses: [
      { address: "10.0.0.9", ...learned(5000) },
      { address: "10.0.0.10", ...learned(60_000) },
    ],
  });
  const diagnosis = await one(["admin=x"], { origins: [origin] });
  assert.deepEqual(diagnosis.findings, []);
  assert.match(drawn(diagnosis).join("\n"), /│ {3}addresses differ: 10\.0\.0\.9 after 5s, 10\.0\.0\.10 after 60s\n/);
});

test("callers that outlast the sidecar are a fault, whatever is said of them", async () => {
  const callers = (count: number): CallerState => ({ direction: "inbound", idle: null, closedByUs: { count, of: 20 } });
  const alone = await one(["admin=x"], { callers: [callers(12)] });
  assert.equal(alone.chain[0]!.name, "callers");
  assert.match(
    alone.findings[0]!.wrong,
    /^idle connections from callers outlast the 65s after which holdfast .* closes them: of the last 20 that ended, it/,
  );
  assert.equal(
    alone.findings[0]!.fixes[0]!.setting,
    'sidecar.json: { "use": "idle-timeout", "config": { "downstream": "…" } }, above the idle limit of callers',
  );
  const behindAlb = await one(["aws-alb:deregistration=1s", "admin=x"], { callers: [callers(12)] });
  assert.deepEqual(
    behindAlb.findings.map(({ rule }) => rule),
    ["idle-order"],
  );
  // Said to be sound, and seen to be.
  assert.deepEqual((await one(["aws-alb:deregistration=1s", "admin=x"], { callers: [callers(9)] })).findings, []);
  // Nobody knows how long they keep them, but that they close first.
  const first = await one(["admin=x"], { callers: [callers(0)], origins: [originState({ learned: { idle: IDLE } })] });
  assert.deepEqual([...first.findings, ...first.unknown], []);
  const few = await one(["admin=x"], { callers: [{ ...callers(0), closedByUs: { count: 0, of: 3 } }] });
  assert.match(few.unknown[0]!.what, /how long it keeps idle connections to the next hop/);
  // Another limit is another question.
  const raised = ["aws-alb:deregistration=1s", "admin=x:downstream.idle=120s"];
  assert.deepEqual((await one(raised, { callers: [callers(12)] })).findings, []);
});

test("what a configured load balancer keeps is not less than what its connections were seen to", async () => {
  const callers: CallerState = {
    direction: "inbound",
    idle: { timeoutMs: 90_000, confidence: 1, closes: 9 },
    closedByUs: { count: 0, of: 9 },
  };
  const values = { "inbound.loadBalancer.name": "alb", "inbound.loadBalancer.idleTimeout": "60s" };
  const { findings } = await one(["admin=x"], { callers: [callers], values });
  assert.match(findings[0]!.wrong, /^alb sends on connections idle for up to 90s/);
  const shorter = { ...callers, idle: { timeoutMs: 10_000, confidence: 1, closes: 9 } };
  const health = await one(["admin=x"], {
    callers: [shorter],
    values: { ...values, "plugins[1].config.downstream": "50s" },
  });
  assert.match(health.findings[0]!.wrong, /^alb sends on connections idle for up to 60s/);
});

test("origins that no route names are ways through the sidecar too", async () => {
  const seen = originState({ direction: "outbound", origin: "http://10.0.0.7:9000" });
  const named = originState({ direction: "outbound", origin: "http://10.0.0.9:80", backend: "inventory" });
  const values = { "outbound.routes[0].upstream": "inventory" };
  const chains = await diagnosed(["admin=x"], { origins: [seen, named], values });
  assert.deepEqual(
    chains.map(({ chain }) => chain.at(-1)!.name),
    ["http://127.0.0.1:8080", "inventory", "http://10.0.0.7:9000"],
  );
});

test("which of several ways is meant has to be said", async () => {
  const values = { "outbound.routes[0].upstream": "inventory", "outbound.routes[1].upstream": "billing" };
  await assert.rejects(one(["admin=x:direction=outbound", "node"], { values }), {
    message: "admin=x:direction=outbound: leads to 2 upstreams; choose one with upstream=…, of inventory, billing",
  });
  const { chain } = await one(["admin=x:direction=outbound,upstream=billing", "node"], { values });
  assert.equal(chain[0]!.name, "holdfast (orders, outbound)");
});
