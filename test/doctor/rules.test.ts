import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { leaveAfter as pluginLeaveAfter } from "../../plugins/idle-timeout.ts";
import { RULES } from "../../src/doctor/diagnose.ts";
import { lossesPerDay, mostRacesPerDay, racesPerDay } from "../../src/doctor/expectation.ts";
import { type Circumstances, fix, type Judgement, type Rule } from "../../src/doctor/finding.ts";
import { type Device, type Hop, type HttpHop, leaveAfter, linksOf, type Setting } from "../../src/doctor/hop.ts";
import { hopOf } from "../../src/doctor/preset.ts";
import { PRESETS } from "../../src/doctor/presets.ts";
import { keepAliveOff } from "../../src/doctor/rules-distance.ts";
import { drainBelowDeregistration } from "../../src/doctor/rules-drain.ts";
import { idleOrder } from "../../src/doctor/rules-idle.ts";
import { maxAge, maxRequests } from "../../src/doctor/rules-limits.ts";
import { pathForgets, tcpKeepaliveTooLate } from "../../src/doctor/rules-path.ts";
import { shown } from "../../src/doctor/shown.ts";
import { override, parseWord } from "../../src/doctor/words.ts";

const NOBODY_SAID: Circumstances = { requestsPerSecond: undefined, connections: 10 };

function hop(text: string): Hop {
  const { use, overrides } = parseWord(text);
  return override(hopOf(PRESETS.get(use)!), overrides);
}

function judged(rule: Rule, words: readonly string[], rttMs?: number): Judgement {
  const [link] = linksOf(words.map(hop), rttMs);
  return rule.judge(link!, NOBODY_SAID);
}

function isSound(rule: Rule, words: readonly string[], rttMs?: number): boolean {
  return judged(rule, words, rttMs).findings.length === 0;
}

const sends = (settings: string): string => `other:name=a,upstream.${settings}`;
const takes = (settings: string): string => `other:name=b,downstream.${settings}`;

test("idle-order: below by a round trip and a little is sound, equal and above is not", () => {
  assert.ok(isSound(idleOrder, [sends("idle=59s"), takes("idle=60s")]));
  assert.ok(!isSound(idleOrder, [sends("idle=60s"), takes("idle=60s")]));
  assert.ok(!isSound(idleOrder, [sends("idle=61s"), takes("idle=60s")]));
  assert.ok(!isSound(idleOrder, [sends("idle=59s"), takes("idle=60s")], 600));
  assert.ok(isSound(idleOrder, [sends("idle=off"), takes("idle=off")]));
  assert.ok(!isSound(idleOrder, [sends("idle=off"), takes("idle=1h")]));
  const [{ wrong } = { wrong: "" }] = judged(idleOrder, [sends("idle=off"), takes("idle=1h")]).findings;
  assert.match(wrong, /^a sends on connections however long they were idle, but b closes them after 1h$/);
});

test("idle-order: a hint that is read shortens, a side that keeps nothing ends the question", () => {
  assert.ok(isSound(idleOrder, [`${sends("idle=60s")},reads-hint=on`, `${takes("idle=5s")},hint=5s`]));
  assert.ok(!isSound(idleOrder, [sends("idle=60s"), `${takes("idle=5s")},hint=5s`]));
  // Apache httpd and Tomcat announce only to who says Connection: keep-alive.
  const shy = `${takes("idle=5s")},hint=5s,hint-if-asked=on`;
  assert.ok(!isSound(idleOrder, [`${sends("idle=60s")},reads-hint=on`, shy]));
  assert.ok(isSound(idleOrder, [`${sends("idle=60s")},reads-hint=on,asks-hint=on`, shy]));
  // It says 60 s and closes after 5 s.
  assert.ok(!isSound(idleOrder, [`${sends("idle=60s")},reads-hint=on`, `${takes("idle=5s")},hint=60s`]));
  assert.ok(isSound(idleOrder, [`${sends("idle=60s")},upstream.keepalive=off`, takes("idle=5s")]));
  assert.ok(isSound(idleOrder, [sends("idle=60s"), `${takes("idle=5s")},downstream.keepalive=off`]));
});

test("idle-order: each change that has a value ends the fault, over any way and whatever is announced", () => {
  const ms = fc.integer({ min: 1, max: 200_000 });
  const announced = fc.oneof(fc.constantFrom("off", "as it is"), ms);
  const way = fc.integer({ min: 1, max: 2000 });
  const margin = fc.integer({ min: 0, max: 6000 });
  fc.assert(
    fc.property(ms, ms, way, announced, margin, (sendsMs, takesMs, rttMs, hint, marginMs) => {
      const before = (idle: string) => `${sends(`idle=${idle}`)},reads-hint=on,hint-margin=${marginMs}ms`;
      const after = (idle: string) =>
        `${takes(`idle=${idle}`)},hint=${typeof hint === "number" ? `${hint}ms` : hint === "off" ? hint : idle}`;
      const { findings } = judged(idleOrder, [before(`${sendsMs}ms`), after(`${takesMs}ms`)], rttMs);
      for (const { hop: name, setting } of findings[0]?.fixes ?? []) {
        const value = setting.split(": ")[1]!;
        const chain = name === "b" ? [before(`${sendsMs}ms`), after(value)] : [before(value), after(`${takesMs}ms`)];
        assert.ok(isSound(idleOrder, chain, rttMs), `${setting}, ${rttMs} ms away`);
      }
    }),
    { numRuns: 2000 },
  );
});

test("idle-order: what nobody knows is said, and is no fault", () => {
  assert.deepEqual(judged(idleOrder, ["other:name=a", takes("idle=5s")]).unknown, [
    { hop: "a", what: "how long it keeps idle connections to the next hop" },
  ]);
  const { unknown, findings } = judged(idleOrder, [sends("idle=5s"), "other:name=b"]);
  assert.equal(findings.length, 0);
  assert.match(unknown[0]!.what, /holdfast probe/);
});

test("idle-order: each of the changes it names ends it, for any limits", () => {
  const limit = fc.integer({ min: 1000, max: 7_200_000 });
  fc.assert(
    fc.property(limit, limit, (theirsMs, limitMs) => {
      const words = [sends(`idle=${theirsMs}ms`), takes(`idle=${limitMs}ms`)];
      for (const { fixes } of judged(idleOrder, words).findings) {
        assert.equal(fixes.length, 2);
        for (const { hop: name, setting } of fixes) {
          const value = /: (\w+)$/.exec(setting)![1]!;
          const changed = name === "a" ? [sends(`idle=${value}`), words[1]!] : [words[0]!, takes(`idle=${value}`)];
          assert.ok(isSound(idleOrder, changed), `${changed.join(" ")}`);
        }
      }
    }),
  );
});

test("path-forgets: neither end closes or probes before a device forgets", () => {
  const nat = "nat:forgets=5m";
  assert.ok(!isSound(pathForgets, [sends("idle=10m"), nat, takes("idle=20m")]));
  assert.ok(!isSound(pathForgets, [sends("idle=5m"), nat, takes("idle=20m")]));
  assert.ok(isSound(pathForgets, [sends("idle=4m"), nat, takes("idle=20m")]));
  assert.ok(isSound(pathForgets, [sends("idle=10m"), nat, takes("idle=4m")]));
  assert.ok(isSound(pathForgets, [`${sends("idle=10m")},upstream.tcp-keepalive=1m`, nat, takes("idle=20m")]));
  assert.ok(isSound(pathForgets, [sends("idle=10m"), nat, `${takes("idle=20m")},downstream.tcp-keepalive=1m`]));
  assert.ok(isSound(pathForgets, [`${sends("idle=10m")},upstream.keepalive=off`, nat, takes("idle=20m")]));
  const silent = judged(pathForgets, [sends("idle=10m"), nat, takes("idle=20m")]).findings[0]!;
  assert.match(silent.symptom, /hangs/);
  const loud = judged(pathForgets, [sends("idle=10m"), `${nat},reset=on`, takes("idle=20m")]).findings[0]!;
  assert.match(loud.symptom, /reset/);
});

test("tcp-keepalive-too-late: probes that begin after a device has forgotten", () => {
  const nat = "nat:forgets=5m";
  const probing = (time: string): string => `${sends("idle=10m")},upstream.tcp-keepalive=${time}`;
  assert.ok(!isSound(tcpKeepaliveTooLate, [probing("2h"), nat, takes("idle=20m")]));
  assert.ok(!isSound(tcpKeepaliveTooLate, [probing("5m"), nat, takes("idle=20m")]));
  assert.ok(isSound(tcpKeepaliveTooLate, [probing("4m"), nat, takes("idle=20m")]));
  assert.ok(isSound(tcpKeepaliveTooLate, [sends("idle=10m"), nat, takes("idle=20m")]));
  // Two devices, one of them patient.
  assert.equal(
    judged(tcpKeepaliveTooLate, [probing("4m"), nat, "nat:forgets=2m", takes("idle=20m")]).findings.length,
    1,
  );
});

test("path-forgets and tcp-keepalive-too-late: each change that is named ends the fault", () => {
  const ms = fc.integer({ min: 1000, max: 7_200_000 });
  const keepalive = fc.option(fc.integer({ min: 1000, max: 7_200_000 }), { nil: undefined });
  const keys = new Map([
    ["TCP keepalive time of outgoing connections", "upstream.tcp-keepalive"],
    ["TCP keepalive time of incoming connections", "downstream.tcp-keepalive"],
    ["idle timeout of outgoing connections", "upstream.idle"],
  ]);
  const rules = [pathForgets, tcpKeepaliveTooLate];
  fc.assert(
    fc.property(ms, ms, ms, keepalive, (sendsMs, takesMs, forgetsMs, probeMs) => {
      const set = new Map([["upstream.idle", `${sendsMs}ms`]]);
      if (probeMs !== undefined) set.set("upstream.tcp-keepalive", `${probeMs}ms`);
      const chain = (changes: ReadonlyMap<string, string>): string[] => {
        const settings = [...new Map([...set, ...changes])].map(([key, value]) => `,${key}=${value}`);
        const own = settings.filter((text) => text.startsWith(",up")).join("");
        const others = settings.filter((text) => text.startsWith(",down")).join("");
        return [`other:name=a${own}`, `nat:forgets=${forgetsMs}ms`, `${takes(`idle=${takesMs}ms`)}${others}`];
      };
      const found = rules.flatMap((rule) => judged(rule, chain(new Map())).findings);
      assert.ok(found.length <= 1);
      for (const { setting } of found[0]?.fixes ?? []) {
        const [what, value] = setting.split(": ") as [string, string];
        const changed = chain(new Map([[keys.get(what)!, value]]));
        for (const rule of rules) assert.ok(isSound(rule, changed), `${setting} for ${changed.join(" ")}`);
      }
    }),
    { numRuns: 1000 },
  );
});

test("max-requests and max-age: only limits that come without a word", () => {
  const silent = (settings: string): string => `${takes(settings)},announces-end=off`;
  assert.ok(!isSound(maxRequests, [sends("max=1000"), silent("max=100")]));
  assert.ok(isSound(maxRequests, [sends("max=100"), silent("max=100")]));
  assert.ok(isSound(maxRequests, [sends("max=1000"), takes("max=100")]));
  assert.ok(!isSound(maxAge, [sends("age=off"), silent("age=10m")]));
  assert.ok(!isSound(maxAge, [sends("age=10m"), silent("age=10m")]));
  assert.ok(isSound(maxAge, [sends("age=9m"), silent("age=10m")]));
  assert.ok(isSound(maxAge, [sends("age=off"), silent("age=off")]));
});

test("keep-alive-off: only where opening costs something, and somebody said so", () => {
  const off = `${sends("keepalive=off")}`;
  assert.ok(isSound(keepAliveOff, [off, takes("idle=60s")]));
  const [unknown] = judged(keepAliveOff, [off, takes("idle=60s")]).unknown;
  assert.deepEqual(unknown, {
    hop: "a",
    what: "how far a and b are apart: each request opens a connection; give rtt=",
  });
  assert.deepEqual(judged(keepAliveOff, [sends("idle=50s"), takes("idle=60s")]).unknown, []);
  assert.ok(isSound(keepAliveOff, [off, takes("idle=60s")], 1));
  assert.ok(!isSound(keepAliveOff, [off, takes("idle=60s")], 30));
  // TLS takes another round trip.
  assert.ok(isSound(keepAliveOff, [off, takes("idle=60s")], 3));
  assert.ok(!isSound(keepAliveOff, [off, `${takes("idle=60s")},tls=on`], 3));
  assert.ok(!isSound(keepAliveOff, [sends("max=2"), takes("idle=60s")], 30));
  assert.ok(isSound(keepAliveOff, [sends("max=1000"), takes("idle=60s")], 30));
});

test("drain-below-deregistration: only where both are known", () => {
  const balancer = "other:name=a,deregistration=60s";
  assert.ok(!isSound(drainBelowDeregistration, [balancer, "other:name=b,drain=30s"]));
  assert.ok(isSound(drainBelowDeregistration, [balancer, "other:name=b,drain=60s"]));
  assert.ok(isSound(drainBelowDeregistration, [balancer, "other:name=b"]));
  assert.ok(isSound(drainBelowDeregistration, ["other:name=a", "other:name=b,drain=1s"]));
});

test("how often: against a simulation of requests at random", () => {
  // xorshift32 with a fixed seed: the same numbers each time.
  let state = 20_260_115;
  const random = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 1) / 4_294_967_297;
  };
  const [limitMs, rttMs, ratePerMs] = [1000, 99, 0.002];
  let races = 0;
  let elapsedMs = 0;
  for (let request = 0; request < 400_000; request++) {
    const gapMs = -Math.log(random()) / ratePerMs;
    elapsedMs += gapMs;
    if (gapMs > limitMs && gapMs <= limitMs + rttMs + 1) races++;
  }
  const perDay = (races / elapsedMs) * 86_400_000;
  const expected = racesPerDay(ratePerMs, 1, limitMs, rttMs);
  assert.ok(Math.abs(perDay / expected - 1) < 0.05, `${perDay} and ${expected}`);
  // Spread over ten connections it is ten times one with a tenth of the requests.
  assert.ok(Math.abs(racesPerDay(0.02, 10, limitMs, rttMs) / (10 * expected) - 1) < 1e-9);
  assert.ok(Math.abs(lossesPerDay(ratePerMs, 1, limitMs) / (86_400_000 * ratePerMs * Math.exp(-2)) - 1) < 1e-9);
});

test("how often: the most there can be is not exceeded at any rate", () => {
  fc.assert(
    fc.property(
      fc.double({ min: 1e-7, max: 1, noNaN: true }),
      fc.double({ min: 1000, max: 1e6, noNaN: true }),
      (rate, limitMs) => {
        assert.ok(racesPerDay(rate, 1, limitMs, 1) <= mostRacesPerDay(limitMs, 1) * 1.01);
      },
    ),
  );
});

test("fixes are rounded to the safe side, and left out where the unit is too large", () => {
  const envoy = hop("envoy");
  const nginx = hop("nginx-keepalive");
  const fastly = hop("fastly");
  assert.ok(envoy.kind === "http" && nginx.kind === "http" && fastly.kind === "http");
  assert.match(fix(envoy, "upstreamIdle", 1600)[0]!.setting, /idle_timeout: 1\.6s$/);
  assert.match(fix(nginx, "downstreamIdle", 60_001)[0]!.setting, /^keepalive_timeout 61s;$/);
  assert.match(fix(fastly, "upstreamIdle", 4900)[0]!.setting, /keepalive_time: 4$/);
  assert.deepEqual(fix(fastly, "upstreamIdle", 900), []);
  assert.deepEqual(fix(fastly, "downstreamIdle", 900), []);
});

test("fixes stay within what a product takes", () => {
  const settings = (name: string): readonly [HttpHop | Device, (setting: Setting, value: number) => string[]] => {
    const found = hop(name);
    return [found, (setting, value) => fix(found, setting, value).map((each) => each.setting)];
  };
  const [, nlb] = settings("aws-nlb");
  assert.match(nlb("forgets", 3_610_000)[0]!, /seconds,Value=3610$/);
  assert.match(nlb("forgets", 20_000)[0]!, /seconds,Value=60$/);
  assert.deepEqual(nlb("forgets", 7_210_000), []);
  const [, azure] = settings("azure-lb");
  assert.match(azure("forgets", 3_610_000)[0]!, /--idle-timeout 61 /);
  assert.deepEqual(azure("forgets", 7_210_000), []);
  const [, digitalocean] = settings("digitalocean-lb-keepalive");
  assert.match(digitalocean("upstreamIdle", 61_000)[0]!, /--http-idle-timeout-seconds 61 \(which also ends exchanges/);
  assert.deepEqual(digitalocean("upstreamIdle", 4000), []);
  const [, cloudfront] = settings("cloudfront");
  assert.match(cloudfront("upstreamIdle", 1500)[0]!, /Timeout: 1$/);
});

test("path-forgets: a device is not told to remember for ever", () => {
  const { fixes } = judged(pathForgets, ["python-requests", "aws-nlb", "kestrel:idle=off"]).findings[0]!;
  assert.deepEqual(
    fixes.map(({ hop: name }) => name),
    ["python-requests"],
  );
});

test("an announced timeout is left as the idle-timeout plugin leaves it", () => {
  const ms = fc.integer({ min: 1, max: 1_000_000 });
  fc.assert(
    fc.property(ms, fc.integer({ min: 0, max: 100_000 }), (announcedMs, marginMs) => {
      assert.equal(leaveAfter(announcedMs, marginMs), pluginLeaveAfter(announcedMs, marginMs));
    }),
  );
});

test("every rule and every preset has what its page and messages need", () => {
  for (const { doc } of RULES) assert.match(doc, /\.$|\.\s/);
  assert.equal(new Set(RULES.map(({ name }) => name)).size, RULES.length);
  for (const [name, preset] of PRESETS) {
    assert.match(name, /^[a-z0-9-]+$/);
    if (name !== "other") assert.ok(preset.sources.length > 0, name);
    for (const source of preset.sources) assert.match(source, /^https:\/\//);
    assert.equal(hopOf(preset).name, name);
  }
});

test("durations are shown in the unit in which they are compared", () => {
  assert.deepEqual([60_000, 65_000, 1500, 350, 240_000, 3_600_000, undefined, Number.POSITIVE_INFINITY].map(shown), [
    "60s",
    "65s",
    "1.5s",
    "350ms",
    "4m",
    "1h",
    "unknown",
    "for ever",
  ]);
});
