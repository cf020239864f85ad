import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { ChunkedBody } from "../../../src/proxy/grammar/chunked-body.ts";

interface Chunk {
  readonly payload: string;
  readonly size: string;
  readonly extension: string;
}

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array).toString("latin1"));

/** Payload that looks like framing is the interesting one. */
const payload = fc.oneof(
  fc.constantFrom("0\r\n\r\n", "\r\n", "\n", "5\r\nhello\r\n", "GET / HTTP/1.1\r\n\r\n", "\0"),
  bytes(40),
  fc.integer({ min: 1, max: 3000 }).map((length) => "x".repeat(length)),
);
const extension = fc.constantFrom("", "", "", ";a", ";a=b", ';a="x;y"', "; a = b", `;${"e".repeat(200)}`);
const chunk: fc.Arbitrary<Chunk> = fc
  .record({ payload: payload.filter((text) => text.length > 0), upper: fc.boolean(), zeros: fc.nat(3), extension })
  .map(({ payload, upper, zeros, extension }) => {
    const hex = "0".repeat(zeros) + payload.length.toString(16);
    return { payload, size: upper ? hex.toUpperCase() : hex, extension };
  });
const trailer = fc.constantFrom("X-A: 1", "x-b:", "X-C:  spaces \t", "X-D: caf\xe9");
const body = fc.record({
  chunks: fc.array(chunk, { maxLength: 6 }),
  last: fc.record({ zeros: fc.integer({ min: 1, max: 4 }), extension }),
  trailers: fc.array(trailer, { maxLength: 3 }),
  after: fc.constantFrom("", "GET / HTTP/1.1\r\n", "\r\n", "0\r\n\r\n"),
});

function encode({ chunks, last, trailers, after }: typeof body extends fc.Arbitrary<infer T> ? T : never) {
  const carried = chunks.map(({ payload, size, extension }) => `${size}${extension}\r\n${payload}\r\n`).join("");
  const trailer = trailers.map((line) => `${line}\r\n`).join("");
  const whole = `${carried}${"0".repeat(last.zeros)}${last.extension}\r\n${trailer}\r\n`;
  return { carried, trailer, whole, text: whole + after, payload: chunks.map(({ payload }) => payload).join("") };
}

/** Feeds the text in pieces that end at these places, each from memory that is overwritten afterwards. */
function follow(text: string, cuts: readonly number[]) {
  const follower = new ChunkedBody();
  const memory = Buffer.alloc(text.length + 16);
  let payload = "";
  let sent = "";
  follower.onPayload = (start, end) => {
    payload += memory.toString("latin1", start, end);
  };
  const ends = [...new Set([...cuts.map((cut) => cut % (text.length + 1)), text.length])].sort((a, b) => a - b);
  let from = 0;
  for (const end of ends) {
    if (end === from) continue;
    const offset = from % 16;
    memory.fill("~").write(text.slice(from, end), offset, "latin1");
    follower.feed(memory, offset, offset + end - from);
    if (follower.fault !== undefined) break;
    sent += follower.prefix + memory.toString("latin1", follower.start, follower.end);
    if (follower.done) return { follower, payload, sent, end: from + follower.consumed - offset };
    from = end;
  }
  return { follower, payload, sent, end: undefined };
}

const cuts = fc.oneof(
  fc.array(fc.nat(), { maxLength: 12 }),
  // Byte by byte.
  fc.constant(Array.from({ length: 5000 }, (_, index) => index)),
);

test("any chunked body in any pieces passes as it is, up to its last chunk", () => {
  fc.assert(
    fc.property(body, cuts, (parts, cuts) => {
      const { carried, trailer, whole, text, payload } = encode(parts);
      const result = follow(text, cuts);
      assert.equal(result.follower.fault, undefined);
      assert.equal(result.end, whole.length);
      assert.equal(result.sent, carried);
      assert.equal(result.payload, payload);
      assert.equal(result.follower.payloadBytes, payload.length);
      assert.equal(result.follower.trailer, trailer);
    }),
    { numRuns: 1500 },
  );
});

/** The grammar of RFC 9112 §7.1, whole and at once, with our limits. */
const GRAMMAR =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what may not stand there
  /^([0-9A-Fa-f]{1,13})((?:;[^\x00-\x08\x0a-\x1f\x7f]*)?)\r\n/;
const FIELD_LINE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what may not stand there
  /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n/;

/** @returns where the body ends; `undefined` if it is not valid or not whole */
function endOf(text: string): number | undefined {
  let at = 0;
  for (;;) {
    const line = GRAMMAR.exec(text.slice(at));
    if (line === null) return undefined;
    at += line[0].length;
    const size = Number.parseInt(line[1]!, 16);
    if (size === 0) break;
    if (text.slice(at + size, at + size + 2) !== "\r\n") return undefined;
    at += size + 2;
  }
  while (!text.startsWith("\r\n", at)) {
    const line = FIELD_LINE.exec(text.slice(at));
    if (line === null) return undefined;
    at += line[0].length;
  }
  return at + 2;
}

const mutation = fc.oneof(
  fc.record({ kind: fc.constant("drop" as const), at: fc.nat(), length: fc.integer({ min: 1, max: 3 }) }),
  fc.record({
    kind: fc.constant("insert" as const),
    at: fc.nat(),
    text: fc.oneof(
      fc.constantFrom("\r", "\n", "\r\n", " ", "\t", "0", "f", ";", ":", "\0", "+", "x", "\x7f"),
      bytes(2),
    ),
  }),
);

test("a damaged body is found valid or not as the grammar says, in whatever pieces it comes", () => {
  let refused = 0;
  fc.assert(
    fc.property(body, fc.array(mutation, { minLength: 1, maxLength: 3 }), cuts, (parts, mutations, cuts) => {
      let { text } = encode(parts);
      for (const mutation of mutations) {
        const at = mutation.at % (text.length + 1);
        text =
          mutation.kind === "drop"
            ? text.slice(0, at) + text.slice(at + mutation.length)
            : text.slice(0, at) + mutation.text + text.slice(at);
      }
      const expected = endOf(text);
      const whole = follow(text, []);
      const split = follow(text, cuts);
      assert.equal(whole.end, expected);
      assert.equal(split.end, expected);
      assert.equal(split.follower.fault, whole.follower.fault);
      if (expected === undefined) refused++;
      else {
        assert.equal(split.sent, whole.sent);
        assert.equal(split.payload, whole.payload);
        assert.equal(split.follower.trailer, whole.follower.trailer);
      }
    }),
    { numRuns: 3000 },
  );
  assert.ok(refused > 300, `${refused} were refused`);
});

test("what a size line and a trailer section may hold is limited", () => {
  const faults = [
    ["00000000000001\r\nx\r\n", "a chunk size is too large"],
    [`1;${"e".repeat(5000)}\r\nx\r\n`, "a chunk extension is too long"],
    [`0\r\n${`X-A: ${"a".repeat(1000)}\r\n`.repeat(20)}\r\n`, "the trailer section is not valid or too long"],
  ] as const;
  for (const [text, fault] of faults) {
    assert.equal(follow(text, []).follower.fault, fault);
    assert.equal(follow(text, [1, 2, 100, 4000, 9000]).follower.fault, fault);
  }
});
