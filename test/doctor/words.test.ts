import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { chainsOf, type Sources } from "../../src/doctor/chain.ts";
import { hopOf } from "../../src/doctor/preset.ts";
import { PRESETS } from "../../src/doctor/presets.ts";
import { override, parseWord } from "../../src/doctor/words.ts";

const FILES: Readonly<Record<string, unknown>> = {
  "chain.json": { chain: ["node"] },
  "speed.json": { chain: ["node", "node"], speed: 1 },
  "rtt.json": { chain: ["node", "node"], rtt: "2 s" },
  "rate.json": { chain: ["node", "node"], requestsPerSecond: -1 },
  "entry.json": { chain: ["node", 5] },
  "list.json": { chain: "node" },
  "probe.json": { format: "holdfast-probe/1", results: [] },
  "sidecar.json": {},
};

const sources: Sources = {
  readJson: async (file) => FILES[file],
  sidecar: async () => [
    { key: "service", value: "orders" },
    { key: "inbound.upstream", value: "http://127.0.0.1:8080" },
  ],
  running: () => assert.fail("nothing runs"),
  probe: () => assert.fail("nothing is probed"),
};

test("words are a name and settings; colons of URLs and paths stay", () => {
  const parsed = (text: string) => {
    const { use, overrides } = parseWord(text);
    return [use, Object.fromEntries(overrides)];
  };
  assert.deepEqual(parsed("node"), ["node", {}]);
  assert.deepEqual(parsed("aws-alb:idle=120s,rtt=2ms"), ["aws-alb", { idle: "120s", rtt: "2ms" }]);
  assert.deepEqual(parsed("admin=http://127.0.0.1:15000"), ["admin=http://127.0.0.1:15000", {}]);
  assert.deepEqual(parsed("probe=http://a:80/x:rtt=1ms"), ["probe=http://a:80/x", { rtt: "1ms" }]);
  assert.deepEqual(parsed("a/sidecar.json:upstream=http://127.0.0.1:8080,rtt=1ms"), [
    "a/sidecar.json",
    { upstream: "http://127.0.0.1:8080", rtt: "1ms" },
  ]);
});

test("settings come out of a word as they went in", () => {
  const key = fc.stringMatching(/^[a-z][a-z.-]{0,10}$/);
  const value = fc.stringMatching(/^[a-z0-9:/.]{0,10}$/);
  fc.assert(
    fc.property(fc.constantFrom(...PRESETS.keys()), fc.dictionary(key, value, { minKeys: 1 }), (use, settings) => {
      const text = `${use}:${Object.entries(settings)
        .map(([name, each]) => `${name}=${each}`)
        .join(",")}`;
      const word = parseWord(text);
      assert.equal(word.use, use);
      assert.deepEqual(Object.fromEntries(word.overrides), { ...settings });
    }),
  );
});

test("settings change one side or both, and what is announced follows the limit", () => {
  const changed = (text: string) => {
    const { use, overrides } = parseWord(text);
    const hop = override(hopOf(PRESETS.get(use)!), overrides);
    assert.ok(hop.kind === "http");
    return hop;
  };
  const both = changed("aws-alb:idle=120s");
  assert.equal(both.downstream?.idleMs, 120_000);
  assert.equal(both.upstream?.idleMs, 120_000);
  const one = changed("aws-alb:upstream.idle=120s,name=edge,tls=on");
  assert.equal(one.downstream?.idleMs, 60_000);
  assert.equal(one.upstream?.idleMs, 120_000);
  assert.equal(one.name, "edge");
  assert.equal(one.tls, true);
  assert.equal(changed("node:idle=65s").downstream?.announcedMs, 65_000);
  assert.equal(changed("node:idle=65s,hint=off").downstream?.announcedMs, undefined);
  assert.equal(changed("node:hint=3s,idle=65s").downstream?.announcedMs, 3000);
  assert.equal(changed("gunicorn:idle=65s").downstream?.announcedMs, undefined);
});

test("what is wrong with a chain is one line that says what is allowed", async () => {
  const cases: [string[], RegExp][] = [
    [["node"], /a chain needs two hops or more/],
    [["something", "node"], /--presets lists them/],
    [["aws-alb:idel=1s", "node"], /aws-alb: unknown key "idel"; did you mean idle\?/],
    [["aws-alb:idle=60", "node"], /aws-alb: idle=60 is not valid; must be a duration with a unit/],
    [["aws-alb:idle=1s,idle=2s", "node"], /idle stands twice/],
    [["aws-alb:keepalive=maybe", "node"], /must be on or off/],
    [["aws-alb:max=0", "node"], /whole number above 0/],
    [["node", "aws-nlb:rtt=1s", "node"], /aws-nlb: unknown key "rtt"/],
    [["node", "probe.json"], /holds 0 results/],
    [["chain.json"], /a chain needs two hops or more/],
    [["node", "chain.json"], /chain\.json: is a whole chain, which cannot be a hop of another$/],
    [["rate.json"], /rate\.json: requestsPerSecond: -1 is not valid; must be a number above 0/],
    [["speed.json"], /speed\.json: speed is not valid; allowed are chain, rtt/],
    [["rtt.json"], /rtt\.json: rtt: must be a duration/],
    [["entry.json"], /entry\.json: chain\[1\] must be text/],
    [["list.json"], /list\.json: chain must be a list/],
    [["node", "sidecar.json:upstream=nobody"], /no such way through the sidecar; there is direction=inbound/],
    [["sidecar.json:upstream=nobody"], /no such way through the sidecar; there is direction=inbound/],
    [["aws-nlb", "node"], /aws-nlb follows the connections between two hops: put it between them/],
    [["aws-alb", "node", "aws-nlb"], /aws-nlb follows the connections between two hops: put it between them/],
    [["aws-nlb", "aws-nlb"], /aws-nlb follows the connections between two hops: put it between them/],
  ];
  for (const [words, says] of cases) {
    await assert.rejects(chainsOf(words, sources), (error: Error) => {
      assert.equal(error.name, "ChainError", words.join(" "));
      assert.match(error.message, says);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
  }
});
