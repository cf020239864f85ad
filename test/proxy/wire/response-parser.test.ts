import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { FieldList } from "../../../src/proxy/headers.ts";
import { parseResponseHead, SMALL_BYTES } from "../../../src/proxy/wire/response-parser.ts";

const MAX_FIELDS = 100;

/** The head at the beginning of what was received, and its size. */
function parse(text: string, method = "GET") {
  const head = parseResponseHead(Buffer.from(text, "latin1"), 0, text.length, method, MAX_FIELDS);
  assert.equal(head.size, text.indexOf("\r\n\r\n") + 4);
  return head;
}

function lengthHead(bytes: number): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\n\r\n`;
}

test("a body is read with its head where all of it is there and the two are little", () => {
  const small = `${lengthHead(5)}hello`;
  assert.equal(parse(small).text, small);
  assert.equal(parse(`${small}HTTP/1.1 200`).text, small, "without what follows");

  const bodyBytes = SMALL_BYTES - lengthHead(10_000).length;
  const largest = lengthHead(bodyBytes) + "b".repeat(bodyBytes);
  assert.equal(largest.length, SMALL_BYTES);
  assert.equal(parse(largest).text, largest);
  assert.equal(parse(`${largest}and more`).text, largest);
});

test("a head is read alone where its body is long, not all there, or of no length", () => {
  const bodyBytes = SMALL_BYTES - lengthHead(10_000).length + 1;
  for (const [head, rest] of [
    [lengthHead(bodyBytes), "b".repeat(bodyBytes)],
    [lengthHead(6), "hello"],
    ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"],
    ["HTTP/1.1 200 OK\r\n\r\n", "hello"],
    ["HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", `${lengthHead(5)}hello`],
  ] as const) {
    assert.equal(parse(head + rest).text, head, head);
  }
});

test("what stood in the memory before is no part of a head, wherever it is cut", () => {
  const whole = `${lengthHead(5)}hello`;
  const size = lengthHead(5).length;
  for (let length = 0; length < size; length++) {
    for (const stale of [whole.slice(length), `X-More: 1\r\n${whole.slice(length)}`, "\n\r\nhello", "\r\n\r\nhello"]) {
      const bytes = Buffer.from(whole.slice(0, length) + stale, "latin1");
      assert.throws(
        () => parseResponseHead(bytes, 0, length, "GET", MAX_FIELDS),
        { code: "HF_UPSTREAM_BAD_RESPONSE" },
        `${length} bytes, then ${JSON.stringify(stale)}`,
      );
    }
  }
});

test("reasons that take turns are each their own", () => {
  const reasons = ["OK", "", "Not Found", "Internal Server Error", "OK", "KO", "caf\xe9", "Internal Server Errox"];
  for (const reason of [...reasons, ...reasons]) {
    assert.equal(parse(`HTTP/1.1 200 ${reason}\r\n\r\n`).reason, reason);
  }
});

test("values that somebody keeps do not keep the bodies of their responses alive", () => {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  for (const read of [
    (headers: FieldList) => headers.get("etag"),
    (headers: FieldList) => headers.getAll("etag"),
    (headers: FieldList) => [...headers],
  ]) {
    const kept: unknown[] = [];
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let at = 0; at < 1000; at++) {
      const etag = `ETag: "${String(at).padStart(30, "0")}"\r\n`;
      const { headers } = parse(`HTTP/1.1 200 OK\r\n${etag}Content-Length: 12000\r\n\r\n${"b".repeat(12_000)}`);
      const lines = headers.toText(null);
      kept.push(read(headers));
      assert.equal(headers.toText(null), lines);
    }
    collect();
    const bytes = process.memoryUsage().heapUsed - before;
    assert.ok(bytes < 3_000_000, `${kept.length} keep ${bytes} bytes`);
  }
});
