import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { FailureCode } from "../../src/errors.ts";
import { HoldfastError } from "../../src/errors.ts";
import { type CheckedHead, checkRequestHead, isAuthority, type ReceivedHead } from "../../src/proxy/request-rules.ts";

const LIMITS = { headBytes: 1000, fields: 10, targetBytes: 200, replayBytes: 0, streams: 100 };

function check(parts: Partial<ReceivedHead> = {}): CheckedHead {
  return checkRequestHead(
    { method: "GET", target: "/", version: "1.1", fields: ["Host", "a.example"], secure: false, ...parts },
    LIMITS,
  );
}

function refused(code: FailureCode, parts: Partial<ReceivedHead>): void {
  assert.throws(
    () => check(parts),
    (error) => error instanceof HoldfastError && error.code === code && !error.message.includes("\n"),
    `${code}: ${JSON.stringify(parts)}`,
  );
}

const withFields = (...fields: string[]): Partial<ReceivedHead> => ({ fields: ["Host", "a.example", ...fields] });

test("the framing of a request (RFC 9112 §6.3)", () => {
  assert.deepEqual(check().framing, { kind: "none" });
  assert.deepEqual(check(withFields("Content-Length", "0")).framing, { kind: "length", bytes: 0 });
  assert.deepEqual(check(withFields("content-LENGTH", "007")).framing, { kind: "length", bytes: 7 });
  assert.deepEqual(check(withFields("Content-Length", String(Number.MAX_SAFE_INTEGER))).framing, {
    kind: "length",
    bytes: Number.MAX_SAFE_INTEGER,
  });
  for (const coding of ["chunked", "Chunked", "CHUNKED", " chunked\t"]) {
    assert.deepEqual(check(withFields("Transfer-Encoding", coding)).framing, { kind: "chunked" }, coding);
  }
});

test("framing that leaves a doubt is refused", () => {
  const chunked = ["Transfer-Encoding", "chunked"];
  refused("HF_BAD_FRAMING", withFields("Content-Length", "5", ...chunked));
  refused("HF_BAD_FRAMING", withFields(...chunked, "Content-Length", "5"));
  refused("HF_BAD_FRAMING", withFields(...chunked, ...chunked));
  refused("HF_BAD_FRAMING", withFields("Content-Length", "5", "Content-Length", "5"));
  refused("HF_BAD_FRAMING", { ...withFields(...chunked), version: "1.0" });
  for (const length of ["", "+5", "-5", "0x5", "5 5", "5,5", "5.0", "5e0", "\u00a05", "five", "٥"]) {
    assert.throws(() => check(withFields("Content-Length", length)), HoldfastError, length);
  }
  for (const length of ["9007199254740992", "18446744073709551616", "9".repeat(400)]) {
    refused("HF_BODY_TOO_LARGE", withFields("Content-Length", length));
  }
  for (const coding of [
    "",
    ",chunked",
    "chunked, ",
    "gzip,,chunked",
    "identity",
    "chunked, gzip",
    "chunked;a=b",
    "xchunked",
    "chunked, chunked",
    "\u00a0chunked",
  ]) {
    refused("HF_BAD_FRAMING", withFields("Transfer-Encoding", coding));
  }
  refused("HF_CODING_NOT_SUPPORTED", withFields("Transfer-Encoding", "gzip, chunked"));
  refused("HF_CODING_NOT_SUPPORTED", withFields("Transfer-Encoding", "gzip", "Transfer-Encoding", "chunked"));
});

test("Connection cannot take the framing away", () => {
  const { framing, headers } = check(withFields("Connection", "Content-Length, Host", "Content-Length", "5"));
  assert.deepEqual(framing, { kind: "length", bytes: 5 });
  assert.equal(headers.get("content-length"), "5");
  const chunked = check(withFields("Connection", "Transfer-Encoding", "Transfer-Encoding", "chunked"));
  assert.deepEqual(chunked.framing, { kind: "chunked" });
});

test("exactly one valid Host on HTTP/1.1", () => {
  refused("HF_BAD_HOST", { fields: [] });
  refused("HF_BAD_HOST", { fields: ["Host", "a", "host", "a"] });
  refused("HF_BAD_HOST", { fields: ["Host", "a/b"] });
  assert.equal(check({ fields: ["Host", ""] }).authority, "");
  assert.equal(check({ fields: [], version: "1.0" }).authority, "");
  refused("HF_BAD_HOST", { fields: ["Host", "a", "Host", "b"], version: "1.0" });
  assert.equal(check({ fields: ["hOST", "A.example:81"] }).authority, "A.example:81");
});

test("what is a host with an optional port", () => {
  const valid = [
    "a",
    "a.example",
    "A-b_c~d.example:80",
    "1.2.3.4",
    "[::1]",
    "[::ffff:1.2.3.4]:443",
    "a:",
    "a:0",
    "a:65535",
    "a%2eb",
    "[fe80::1%25eth0]:80",
  ];
  for (const text of valid) assert.equal(isAuthority(text), true, text);
  const invalid = [
    "",
    ":80",
    "a:65536",
    "a:080800",
    "a:b",
    "a:-1",
    "a b",
    "a/b",
    "a?b",
    "a#b",
    "u@a",
    "u:p@a",
    "[]",
    "[::1",
    "::1",
    "[:::]",
    "[g::1]",
    "[1.2.3.4]",
    "a%2",
    "a%zz",
    "a\\b",
    'a"b',
    "a,b c",
    "a\u00e9",
    "a\t",
    "a[b]",
  ];
  for (const text of invalid) assert.equal(isAuthority(text), false, text);
});

test("the forms of a target (RFC 9112 §3.2)", () => {
  const form = (method: string, target: string, parts: Partial<ReceivedHead> = {}) => {
    const head = check({ method, target, ...parts });
    return [head.form, head.target, head.scheme, head.authority];
  };
  assert.deepEqual(form("GET", "/a?b"), ["origin", "/a?b", "http", "a.example"]);
  assert.deepEqual(form("GET", "/", { secure: true }), ["origin", "/", "https", "a.example"]);
  assert.deepEqual(form("GET", "//b.example/"), ["origin", "//b.example/", "http", "a.example"]);
  assert.deepEqual(form("OPTIONS", "*"), ["asterisk", "*", "http", "a.example"]);
  assert.deepEqual(form("GET", "http://b.example:81/c?d"), ["absolute", "/c?d", "http", "b.example:81"]);
  assert.deepEqual(form("GET", "HTTPS://b.example"), ["absolute", "/", "https", "b.example"]);
  assert.deepEqual(form("GET", "http://b.example?d"), ["absolute", "/?d", "http", "b.example"]);
  assert.deepEqual(form("OPTIONS", "http://b.example"), ["absolute", "*", "http", "b.example"]);
  assert.deepEqual(form("OPTIONS", "http://b.example/"), ["absolute", "/", "http", "b.example"]);
  assert.deepEqual(form("CONNECT", "b.example:443"), ["authority", "b.example:443", "http", "b.example:443"]);
  assert.deepEqual(form("CONNECT", "[::1]:443"), ["authority", "[::1]:443", "http", "[::1]:443"]);
  for (const target of [
    "",
    "a",
    "*",
    "b.example:80",
    "http://",
    "http:///a",
    "http:/a",
    "http://u@b/",
    "ftp://b/",
    "/a b",
    "/a#b",
    "/\t",
    "/\u007f",
    "/caf\u00e9",
    "http://b:99999/",
  ]) {
    refused("HF_BAD_TARGET", { target });
  }
  for (const target of ["/", "*", "b", "b:", "b:0", "b:00", "b:99999", ":443", "http://b:443", "u@b:443", "b:443/"]) {
    refused("HF_BAD_TARGET", { method: "CONNECT", target });
  }
  for (const target of ["**", "*a"]) refused("HF_BAD_TARGET", { method: "OPTIONS", target });
});

test("methods, versions, names and values", () => {
  for (const method of ["", "G T", "G\u00c9T", "GET\0", "G:T"]) refused("HF_BAD_REQUEST", { method });
  assert.equal(check({ method: "x-Own!" }).method, "x-Own!");
  for (const version of ["", "0.9", "1", "1.2", "1.10", "2.0", "3", "9.9"])
    refused("HF_VERSION_NOT_SUPPORTED", { version });
  for (const name of ["", "a b", "a:", "a\u00e9", "(a)"]) refused("HF_BAD_REQUEST", withFields(name, "1"));
  for (const value of ["\0", "\r", "\n", "a\x7f", "\x0b", "\u0100"]) refused("HF_BAD_REQUEST", withFields("a", value));
  assert.equal(check(withFields("a", "\t\u00e9 !")).headers.get("a"), "\t\u00e9 !");
});

test("expectations (RFC 9110 §10.1.1)", () => {
  assert.equal(check().expectsContinue, false);
  assert.equal(check(withFields("Expect", "100-Continue")).expectsContinue, true);
  assert.equal(check({ ...withFields("Expect", "100-continue"), version: "1.0" }).expectsContinue, false);
  for (const value of ["", "100", "100-continue, a", "100-continue;a"]) {
    refused("HF_EXPECTATION_FAILED", withFields("Expect", value));
  }
});

test("limits hold exactly", () => {
  assert.equal(check({ target: `/${"a".repeat(199)}` }).target.length, 200);
  refused("HF_TARGET_TOO_LONG", { target: `/${"a".repeat(200)}` });
  const lines = (count: number) => withFields(...Array.from({ length: count * 2 }, () => "a"));
  assert.equal(check(lines(9)).headers.size, 10);
  refused("HF_HEAD_TOO_LARGE", lines(10));
  const empty = "GET / HTTP/1.1\r\nHost: a.example\r\na: \r\n\r\n".length;
  check(withFields("a", "b".repeat(LIMITS.headBytes - empty)));
  refused("HF_HEAD_TOO_LARGE", withFields("a", "b".repeat(LIMITS.headBytes - empty + 1)));
});

test("whatever comes: a checked head or a HoldfastError for the peer, and what is checked holds", () => {
  const name = fc.oneof(
    fc.constantFrom(
      "Host",
      "Content-Length",
      "Transfer-Encoding",
      "Connection",
      "Expect",
      "Upgrade",
      "TE",
      "Cookie",
      "X",
    ),
    fc.string({ unit: "binary", maxLength: 4 }),
  );
  const value = fc.oneof(
    fc.constantFrom(
      "a.example",
      "chunked",
      "gzip, chunked",
      "5",
      "0",
      "close",
      "Host",
      "Content-Length",
      "100-continue",
    ),
    fc.string({ unit: "binary", maxLength: 6 }),
  );
  const target = fc.oneof(
    fc.constantFrom("/", "*", "/a?b", "http://b.example/c", "http://b.example", "b.example:443"),
    fc.string({ unit: "binary", maxLength: 8 }),
  );
  fc.assert(
    fc.property(
      fc.constantFrom("GET", "POST", "OPTIONS", "CONNECT", "G T"),
      target,
      fc.constantFrom("1.1", "1.0", "2.0"),
      fc.array(fc.tuple(name, value), { maxLength: 6 }),
      fc.boolean(),
      (method, wanted, version, lines, hasHost) => {
        const fields = [...(hasHost ? ["Host", "a.example"] : []), ...lines.flat()];
        let head: CheckedHead;
        try {
          head = check({ method, target: wanted, version, fields });
        } catch (error) {
          assert.ok(error instanceof HoldfastError);
          assert.equal(error.source, "downstream");
          return;
        }
        const all = lines.filter(([field]) => /^(content-length|transfer-encoding)$/i.test(field));
        assert.ok(all.length <= 1 || head.framing.kind === "chunked", "one framing");
        assert.equal(head.framing.kind === "none", all.length === 0);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
        assert.match(head.target, /^(\/[^\x00-\x20\x7f#]*|\*|[^/]+:\d+)$/);
        assert.ok(head.authority === "" || isAuthority(head.authority));
        assert.ok(!head.headers.has("connection") && !head.headers.has("transfer-encoding"));
        assert.ok(head.headers.getAll("host").length <= 1);
      },
    ),
    { numRuns: 5000 },
  );
});
