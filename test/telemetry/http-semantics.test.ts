import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fullUrl, queryNames, redactQuery, serverOf, splitTarget } from "../../src/telemetry/http-semantics.ts";

test("values of signatures and keys are redacted, nothing else", () => {
  assert.equal(redactQuery("q=1&sig=secret&x=2"), "q=1&sig=REDACTED&x=2");
  assert.equal(redactQuery("Signature=a&AWSAccessKeyId=b"), "Signature=REDACTED&AWSAccessKeyId=REDACTED");
  assert.equal(
    redactQuery("X-Amz-Signature=a&X-Amz-Credential=b&X-Amz-Security-Token=c&X-Goog-Signature=d"),
    "X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&X-Amz-Security-Token=REDACTED&X-Goog-Signature=REDACTED",
  );
  assert.equal(redactQuery("design=1&sig"), "design=1&sig");
});

test("no value of a redacted key is left in the query", () => {
  const part = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  fc.assert(
    fc.property(fc.array(fc.tuple(part, part)), (pairs) => {
      const query = [...pairs.map(([name, value]) => `${name}=${value}`), "sig=TOPSECRET", "z=1"].join("&");
      assert.ok(!redactQuery(query).includes("TOPSECRET"));
      assert.ok(redactQuery(query).endsWith("&z=1") || pairs.length === 0);
    }),
  );
});

test("query names stand without values", () => {
  assert.equal(queryNames("a=1&b=x=y&c"), "a&b&c");
  assert.deepEqual(splitTarget("/p?a=1?b"), { path: "/p", query: "a=1?b" });
  assert.deepEqual(splitTarget("/p"), { path: "/p", query: undefined });
});

test("URL of a request at its origin", () => {
  assert.equal(fullUrl({ scheme: "http", host: "a", port: 80 }, "/x?sig=1"), "http://a:80/x?sig=REDACTED");
  assert.equal(fullUrl({ scheme: "https", host: "::1", port: 443 }, "/"), "https://[::1]:443/");
  assert.equal(fullUrl({ scheme: "http", host: "a", port: 80 }, "*"), "http://a:80");
});

test("host and port that a request named", () => {
  const of = (authority: string) => serverOf(authority, "http");
  assert.deepEqual(of("a.example"), { host: "a.example", port: 80 });
  assert.deepEqual(of("a.example:8080"), { host: "a.example", port: 8080 });
  assert.deepEqual(of("[::1]:99"), { host: "::1", port: 99 });
  assert.deepEqual(of("[::1]"), { host: "::1", port: 80 });
});
