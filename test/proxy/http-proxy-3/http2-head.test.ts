import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { HoldfastError } from "../../../src/errors.ts";
import { headOfStream } from "../../../src/proxy/http-proxy-3/http2-head.ts";
import { checkRequestHead } from "../../../src/proxy/request-rules.ts";

const LIMITS = { headBytes: 65_536, fields: 200, targetBytes: 16_384, replayBytes: 65_536, streams: 100 };
const GET = [":method", "GET", ":scheme", "https", ":authority", "a.example", ":path", "/x?y"];

function codeOf(raw: readonly string[]): string {
  try {
    checkRequestHead(headOfStream(raw, false, false), LIMITS);
  } catch (error) {
    assert.ok(error instanceof HoldfastError);
    return error.code;
  }
  return "";
}

test("pseudo-header fields become a request line and Host; the rest stays in its order", () => {
  const raw = [...GET, "accept", "*/*", "cookie", "a=1", "x-a", "1", "cookie", "b=2", "x-a", "2"];
  assert.deepEqual(headOfStream(raw, true, true), {
    method: "GET",
    target: "/x?y",
    version: "2",
    fields: ["host", "a.example", "accept", "*/*", "cookie", "a=1; b=2", "x-a", "1", "x-a", "2"],
    secure: true,
    bodyFollows: true,
  });
});

test("a body without a length is chunked, one with a length has it, none is none", () => {
  const framing = (raw: readonly string[], bodyFollows: boolean) =>
    checkRequestHead(headOfStream(raw, false, bodyFollows), LIMITS).framing;
  assert.deepEqual(framing(GET, false), { kind: "none" });
  assert.deepEqual(framing(GET, true), { kind: "chunked" });
  assert.deepEqual(framing([...GET, "content-length", "5"], true), { kind: "length", bytes: 5 });
  assert.deepEqual(framing([...GET, "content-length", "0"], false), { kind: "length", bytes: 0 });
});

// node:http2 lets none of this through; these are checked again here, because much depends on it.
test("what could become something else in HTTP/1.1 is refused, whoever else refuses it", () => {
  const instead = (name: string, value: string): string[] =>
    GET.map((text, at) => (at % 2 === 1 && GET[at - 1] === name ? value : text));
  assert.equal(codeOf([...GET, "transfer-encoding", "chunked"]), "HF_BAD_FRAMING");
  assert.equal(codeOf([...GET, "content-length", "5", "content-length", "5"]), "HF_BAD_FRAMING");
  assert.equal(codeOf([...GET, "content-length", "5, 5"]), "HF_BAD_FRAMING");
  assert.equal(codeOf([...GET, "x-a", "1\r\nx-b: 2"]), "HF_BAD_REQUEST");
  assert.equal(codeOf([...GET, "x-a", "1\0"]), "HF_BAD_REQUEST");
  assert.equal(codeOf([...GET, "x-a", " 1"]), "HF_BAD_REQUEST");
  assert.equal(codeOf([...GET, "x a", "1"]), "HF_BAD_REQUEST");
  assert.equal(codeOf([...GET, ":path", "/other"]), "HF_BAD_REQUEST");
  assert.equal(codeOf([":protocol", "websocket", ...GET]), "HF_BAD_REQUEST");
  assert.equal(codeOf(instead(":method", "GET / HTTP/1.1\r\n")), "HF_BAD_REQUEST");
  assert.equal(codeOf(instead(":method", "CONNECT")), "HF_METHOD_NOT_ALLOWED");
  assert.equal(codeOf(instead(":scheme", "ftp")), "HF_BAD_REQUEST");
  assert.equal(codeOf(instead(":path", "http://other/")), "HF_BAD_TARGET");
  assert.equal(codeOf(instead(":path", "/ HTTP/1.1\r\n")), "HF_BAD_TARGET");
  assert.equal(codeOf(instead(":path", "")), "HF_BAD_TARGET");
  assert.equal(codeOf(instead(":authority", "a\r\nb")), "HF_BAD_HOST");
  assert.equal(codeOf(instead(":authority", "")), "HF_BAD_HOST");
  assert.equal(codeOf([...GET, "host", "other"]), "HF_BAD_HOST");
  assert.equal(codeOf([...GET, "host", "a.example", "host", "a.example"]), "HF_BAD_HOST");
});

test("whatever comes, what is accepted has no character that would end a line, and one Host", () => {
  const text = fc.string({
    unit: fc.constantFrom("a", "/", ":", "\r", "\n", "\0", " ", "\t", "\xe9", ",", "="),
    maxLength: 8,
  });
  const name = fc.constantFrom(":method", ":path", ":authority", ":scheme", "host", "cookie", "x-a", "content-length");
  fc.assert(
    fc.property(fc.array(fc.tuple(name, text), { maxLength: 6 }), (extra) => {
      const named = new Set<string>(extra.map(([given]) => given));
      const base = GET.filter((_, at) => !named.has(GET[at - (at % 2)]!));
      try {
        const head = checkRequestHead(headOfStream([...base, ...extra.flat()], false, true), LIMITS);
        const all = [head.method, head.target, head.authority, ...head.headers.flat];
        assert.ok(all.every((piece) => !/[\r\n\0]/.test(piece)));
        assert.equal(head.headers.getAll("host").length, 1);
        assert.ok(head.headers.getAll("cookie").length <= 1);
      } catch (error) {
        assert.ok(error instanceof HoldfastError, String(error));
      }
    }),
  );
});
