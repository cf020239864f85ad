import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseRange } from "../../src/config/address.ts";
import { TrustedPeers } from "../../src/proxy/trusted-peers.ts";

const peers = (...ranges: string[]) => new TrustedPeers(ranges.map(parseRange));

test("which addresses are trusted", () => {
  const trusted = peers("10.0.0.0/8", "192.0.2.1", "fd00::/8", "2001:db8::1", "100.64.0.0/10");
  for (const address of ["10.255.0.1", "192.0.2.1", "fd12::1", "2001:db8::1", "2001:DB8:0::1", "100.127.0.1"]) {
    assert.ok(trusted.has(address), address);
    assert.ok(trusted.has(address), `${address}, asked again`);
  }
  for (const address of [
    "11.0.0.1",
    "192.0.2.2",
    "fe80::1",
    "2001:db8::2",
    "",
    "unknown",
    "10.0.0.0/8",
    "100.128.0.1",
  ]) {
    assert.ok(!trusted.has(address), address);
  }
});

test("the client is the last address that is not trusted, and nothing before it counts", () => {
  const trusted = peers("10.0.0.0/8", "::1");
  const cases: [peer: string, forwardedFor: string[], client: string][] = [
    ["203.0.113.1", ["198.51.100.1"], "203.0.113.1"],
    ["10.0.0.1", [], "10.0.0.1"],
    ["10.0.0.1", ["198.51.100.1"], "198.51.100.1"],
    ["10.0.0.1", ["6.6.6.6, 198.51.100.1", "10.0.0.2"], "198.51.100.1"],
    ["::1", ["198.51.100.1:4711,10.0.0.2:80"], "198.51.100.1"],
    ["10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"],
    ["10.0.0.1", ["2001:db8::1"], "2001:db8::1"],
    ["10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"],
    ["10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"],
    ["10.0.0.1", ["198.51.100.1, "], "10.0.0.1"],
    ["10.0.0.1", ["_hidden"], "10.0.0.1"],
    ["10.0.0.1", ["999.1.1.1"], "10.0.0.1"],
  ];
  for (const [peer, forwardedFor, client] of cases) {
    assert.equal(trusted.clientOf(peer, forwardedFor), client, `${peer} ${forwardedFor.join(" | ")}`);
  }
});

test("whatever a caller writes, it cannot make up where it came from", () => {
  const trusted = peers("10.0.0.0/8");
  const caller = "203.0.113.7";
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6())), fc.nat(3), (written, hops) => {
      // Each trusted proxy adds the address that it was called from.
      const proxies = Array.from({ length: hops + 1 }, (_, index) => `10.0.0.${index}`);
      const chain = [...written, caller, ...proxies.slice(0, -1)];
      assert.equal(trusted.clientOf(proxies.at(-1)!, [chain.join(", ")]), caller);
      assert.equal(trusted.clientOf(proxies.at(-1)!, chain), caller);
      assert.equal(trusted.clientOf(caller, written), caller);
    }),
  );
});

test("what is a range of addresses", () => {
  assert.deepEqual(parseRange("10.0.0.0/8"), { address: "10.0.0.0", prefix: 8, family: "ipv4" });
  assert.deepEqual(parseRange("192.0.2.1"), { address: "192.0.2.1", prefix: 32, family: "ipv4" });
  assert.deepEqual(parseRange("fd00::/8"), { address: "fd00::", prefix: 8, family: "ipv6" });
  assert.deepEqual(parseRange("0.0.0.0/0"), { address: "0.0.0.0", prefix: 0, family: "ipv4" });
  for (const text of [
    "",
    "10.0.0.0/33",
    "::/129",
    "10.0.0.0/",
    "10.0.0/8",
    "lb.internal",
    "fe80::1%eth0",
    "10.0.0.0/8/8",
    "1.2.3.4 ",
  ]) {
    assert.throws(() => parseRange(text), TypeError, text);
  }
});
