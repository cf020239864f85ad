import assert from "node:assert/strict";
import type http from "node:http";
import { test } from "node:test";
import fc from "fast-check";
import { RequestLines } from "../../../src/proxy/http-proxy-3/request-lines.ts";

/** A request as it stands on the wire, and as a parser shows it. */
interface Sample {
  readonly text: string;
  /** Where its head ends in the text. */
  readonly headEnd: number;
  readonly shown: http.IncomingMessage;
  readonly exact: boolean;
}

const chunk = (text: string): string => `${text.length.toString(16)};a=b\r\n${text}\r\n`;
/** What looks like requests, where it is not. */
const data = fc.array(fc.constantFrom("GET /a HTTP/1.1\r\n", "\r\n", "GET  /a HTTP/1.1\r\n\r\n", "0\r\n\r\n", "x"), {
  minLength: 1,
  maxLength: 4,
});

const sample: fc.Arbitrary<Sample> = fc
  .record({
    method: fc.constantFrom("GET", "POST"),
    url: fc.constantFrom("/a", "*", "/b?c"),
    version: fc.constantFrom("1.1", "1.0"),
    empty: fc.constantFrom("", "\r\n", "\r\n\r\n"),
    fault: fc.constantFrom(undefined, undefined, undefined, undefined, "  ", "RTSP", "\n"),
    framing: fc.constantFrom("none", "length", "chunked"),
    data,
  })
  .map(({ method, url, version, empty, fault, framing, data: pieces }) => {
    const body = pieces.join("");
    const line = `${method}${fault === "  " ? "  " : " "}${url} ${fault === "RTSP" ? "RTSP" : "HTTP"}/${version}\r\n`;
    const field = { none: "", length: `Content-Length: ${body.length}\r\n`, chunked: "Transfer-Encoding: chunked\r\n" };
    const head = `${empty}${fault === "\n" ? "\n" : ""}${line}Host: a\r\n${field[framing as "none"]}\r\n`;
    const bodies = { none: "", length: body, chunked: `${pieces.map(chunk).join("")}0\r\nX-T: 1\r\n\r\n` };
    const headers = {
      none: {},
      length: { "content-length": `${body.length}` },
      chunked: { "transfer-encoding": "chunked" },
    };
    return {
      text: head + bodies[framing as "none"],
      headEnd: head.length,
      shown: {
        method,
        url,
        httpVersion: version,
        headers: headers[framing as "none"],
      } as unknown as http.IncomingMessage,
      exact: fault === undefined,
    };
  });

test("request lines are found wherever requests and reads begin, and only those that stand there are exact", () => {
  fc.assert(
    fc.property(
      fc.array(sample, { minLength: 1, maxLength: 6 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 60 })),
      (samples, sizes) => {
        const bytes = Buffer.from(samples.map(({ text }) => text).join(""), "latin1");
        const lines = new RequestLines(1 << 20);
        let next = 0;
        let start = 0;
        for (let at = 0; at < bytes.length; ) {
          const size = sizes.next().value ?? 1;
          lines.saw(bytes.subarray(at, at + size));
          at += size;
          // As a parser would: it tells of each head that is whole by now.
          while (next < samples.length && start + samples[next]!.headEnd <= Math.min(at, bytes.length)) {
            const { shown, exact, text } = samples[next]!;
            assert.equal(lines.isExact(shown), exact, JSON.stringify(text));
            // Nothing after a request that is refused matters.
            if (!exact) return;
            start += text.length;
            next++;
          }
        }
        assert.equal(next, samples.length);
      },
    ),
    { numRuns: 1000 },
  );
});

test("what follows a request in the same read is given up whole", () => {
  const shown = { method: "GET", url: "/", httpVersion: "1.1", headers: {} } as unknown as http.IncomingMessage;
  const lines = new RequestLines(1000);
  lines.saw(Buffer.from("GET / HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\nHo"));
  assert.equal(lines.isExact(shown), true);
  assert.equal(String(lines.takeRest()), "GET /next HTTP/1.1\r\nHo");
  assert.equal(lines.takeRest().length, 0);
});

test("empty lines without end are not kept, and a head without end is not kept for ever", () => {
  const shown = { method: "GET", url: "/", httpVersion: "1.1", headers: {} } as unknown as http.IncomingMessage;
  const patient = new RequestLines(100);
  for (let count = 0; count < 1000; count++) patient.saw(Buffer.from("\r\n\r\n"));
  patient.saw(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
  assert.equal(patient.isExact(shown), true);

  const endless = new RequestLines(100);
  for (let count = 0; count < 1000; count++) endless.saw(Buffer.from("GET / HTTP/1.1"));
  assert.ok(endless.takeRest().length < 130);
});
