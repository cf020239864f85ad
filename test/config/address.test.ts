import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  formatHostPort,
  isHost,
  isOwnListener,
  overlaps,
  parseHostPort,
  parseOrigin,
  parseRouteHost,
} from "../../src/config/address.ts";

const port = fc.integer({ min: 0, max: 65_535 });
const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());

test("every address survives being written and read", () => {
  fc.assert(
    fc.property(host, port, (hostText, portNumber) => {
      const address = { host: hostText, port: portNumber };
      assert.deepEqual(parseHostPort(formatHostPort(address)), address);
    }),
  );
});

test("IPv6 addresses stand in brackets, and port 0 is allowed", () => {
  assert.deepEqual(parseHostPort("[::1]:80"), { host: "::1", port: 80 });
  assert.deepEqual(parseHostPort("localhost:0"), { host: "localhost", port: 0 });
  assert.equal(formatHostPort({ host: "::", port: 15006 }), "[::]:15006");
});

test("what is not host:port is refused with what is allowed", () => {
  const message = 'must be host:port with a port from 0 to 65535: "127.0.0.1:15001" or "[::1]:15001"';
  const wrong = [
    "",
    "15001",
    ":15001",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:65536",
    "127.0.0.1:-1",
    "127.0.0.1:8o",
    "999.0.0.1:80",
    "1.2.3:80",
    "::1:80",
    "[::1]",
    "[127.0.0.1]:80",
    "[fe80::g]:80",
    "a b:80",
    "-a:80",
    "http://a:80",
    "a:80/",
    "*:80",
  ];
  for (const text of wrong) assert.throws(() => parseHostPort(text), { name: "TypeError", message }, text);
});

test("an origin has a scheme, a host and a port, which the scheme gives when left out", () => {
  assert.deepEqual(parseOrigin("http://127.0.0.1:8080"), { scheme: "http", host: "127.0.0.1", port: 8080 });
  assert.deepEqual(parseOrigin("https://Inventory.Internal/"), {
    scheme: "https",
    host: "inventory.internal",
    port: 443,
  });
  assert.deepEqual(parseOrigin("HTTP://[::1]"), { scheme: "http", host: "::1", port: 80 });
});

test("an origin with anything more is refused", () => {
  const message = 'must be an origin without a path: "http://127.0.0.1:8080" or "https://host"';
  for (const text of [
    "",
    "127.0.0.1:8080",
    "ftp://a",
    "http://",
    "http://a/b",
    "http://a?b",
    "http://a#b",
    "http://a:0",
    "http://a:x",
    "http://a b",
  ]) {
    assert.throws(() => parseOrigin(text), { name: "TypeError", message }, text);
  }
  assert.throws(() => parseOrigin("http://user:secret@host"), { message: "must not carry credentials" });
});

test("a route's host is a name, a name with a port, or every name under one", () => {
  assert.deepEqual(parseRouteHost("Inventory.internal"), { host: "inventory.internal", port: undefined });
  assert.deepEqual(parseRouteHost("inventory.internal:8080"), { host: "inventory.internal", port: 8080 });
  assert.deepEqual(parseRouteHost("*.Example.com"), { host: "*.example.com", port: undefined });
  assert.deepEqual(parseRouteHost("*.example.com:443"), { host: "*.example.com", port: 443 });
  assert.deepEqual(parseRouteHost("[::1]:80"), { host: "::1", port: 80 });
  for (const text of ["", "*", "*.", "*.10.0.0.1", "a.*.b", "*a.b", "http://a", "a:0", "a/b", "::1"]) {
    assert.throws(() => parseRouteHost(text), TypeError, text);
  }
});

test("host names are letters, digits, hyphens and underscores in labels of at most 63", () => {
  for (const text of ["a", "a-b.c_d", "x".repeat(63), "10.0.0.1", "::1", "_srv.name"]) assert.ok(isHost(text), text);
  for (const text of ["", "a..b", "a.", "-a", "a-", "x".repeat(64), "10.0.0.256", "a:1", "a/b"])
    assert.ok(!isHost(text), text);
});

test("a wildcard listener overlaps every address with its port, port 0 none", () => {
  assert.ok(overlaps({ host: "0.0.0.0", port: 80 }, { host: "127.0.0.1", port: 80 }));
  assert.ok(overlaps({ host: "127.0.0.1", port: 80 }, { host: "::", port: 80 }));
  assert.ok(!overlaps({ host: "127.0.0.1", port: 80 }, { host: "127.0.0.2", port: 80 }));
  assert.ok(!overlaps({ host: "127.0.0.1", port: 80 }, { host: "127.0.0.1", port: 81 }));
  assert.ok(!overlaps({ host: "127.0.0.1", port: 0 }, { host: "127.0.0.1", port: 0 }));
});

test("an origin on loopback is our own listener when that listens everywhere", () => {
  const origin = { scheme: "http", host: "127.0.0.1", port: 15_006 } as const;
  assert.ok(isOwnListener({ host: "0.0.0.0", port: 15_006 }, origin));
  assert.ok(isOwnListener({ host: "127.0.0.1", port: 15_006 }, origin));
  assert.ok(!isOwnListener({ host: "10.0.0.1", port: 15_006 }, origin));
  assert.ok(!isOwnListener({ host: "0.0.0.0", port: 15_007 }, origin));
  assert.ok(!isOwnListener({ host: "0.0.0.0", port: 15_006 }, { ...origin, host: "10.0.0.1" }));
});
