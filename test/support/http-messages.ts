/** Valid requests and responses of every kind, made by fast-check, and a plain reader of responses. */
import assert from "node:assert/strict";
import fc from "fast-check";

/** How a body is delimited on the wire. */
type Framing = "none" | "length" | "chunked" | "close";

/** One request with the response it gets. */
export interface Pair {
  readonly method: string;
  readonly target: string;
  /** Fields of the request, end to end, as lines. */
  readonly fields: readonly string[];
  readonly body: Body;
  readonly interim: readonly string[];
  readonly status: number;
  readonly responseFields: readonly string[];
  readonly response: Body;
  /** Whether the origin says `Connection: close` and closes. */
  readonly originCloses: boolean;
}

/** A body and how it goes on the wire. */
export interface Body {
  readonly framing: Framing;
  readonly payload: string;
  /** Lengths of the chunks; the last one takes the rest. */
  readonly chunks: readonly number[];
  readonly extension: string;
  /** Trailer lines. */
  readonly trailers: readonly string[];
}

const binary = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString("latin1"));
const payload = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom("0\r\n\r\n", "\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"),
  },
  { weight: 3, arbitrary: binary },
  {
    weight: 2,
    arbitrary: fc.integer({ min: 1, max: 3000 }).map((length) => "payload ".repeat(length).slice(0, length)),
  },
  // Beyond what is read or written at once.
  {
    weight: 1,
    arbitrary: fc.integer({ min: 16_000, max: 150_000 }).map((length) => "large ".repeat(length).slice(0, length)),
  },
);

function body(framings: readonly Framing[]): fc.Arbitrary<Body> {
  return fc
    .record({
      framing: fc.constantFrom(...framings),
      payload: fc.oneof(fc.constant(""), payload),
      chunks: fc.array(fc.integer({ min: 1, max: 40_000 }), { maxLength: 5 }),
      extension: fc.constantFrom("", "", ";a", ';a="b;c"'),
      trailers: fc.array(fc.constantFrom("X-Sum: 1", "x-other:  caf\xe9", "X-Empty:"), { maxLength: 2 }),
    })
    .map((parts) => (parts.framing === "none" ? { ...parts, payload: "" } : parts));
}

const field = fc.constantFrom(
  "Accept: */*",
  "X-Empty:",
  "x-spaces:   a b \t",
  "Cookie: a=1",
  "Cookie: b=2",
  "X-Latin: caf\xe9",
  'ETag: "a"',
  "Cache-Control: no-store",
  `X-Long: ${"long ".repeat(300)}`,
);

/** One request with its response. */
export const pair: fc.Arbitrary<Pair> = fc
  .record({
    method: fc.constantFrom("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"),
    target: fc.constantFrom("/", "/a?b=/c", "/%2f//../x", `/${"deep/".repeat(100)}`),
    fields: fc.array(field, { maxLength: 4 }),
    body: body(["none", "none", "length", "chunked"]),
    interim: fc.array(fc.constantFrom("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 102 \r\n\r\n"), {
      maxLength: 2,
    }),
    status: fc.constantFrom(200, 200, 200, 201, 204, 304, 404, 500),
    responseFields: fc.array(field, { maxLength: 4 }),
    response: body(["length", "length", "chunked", "close"]),
    originCloses: fc.boolean(),
  })
  .map((parts) => {
    const isBodyless = parts.method === "HEAD" || parts.status === 204 || parts.status === 304;
    const originCloses = parts.originCloses || (parts.response.framing === "close" && !isBodyless);
    return { ...parts, originCloses };
  });

/** The body as it goes on the wire. */
export function encode({ framing, payload, chunks, extension, trailers }: Body): string {
  if (framing !== "chunked") return payload;
  let text = "";
  let at = 0;
  for (const length of [...chunks, payload.length]) {
    const piece = payload.slice(at, at + length);
    if (piece === "") break;
    text += `${piece.length.toString(16)}${extension}\r\n${piece}\r\n`;
    at += piece.length;
  }
  return `${text}0${extension}\r\n${trailers.map((line) => `${line}\r\n`).join("")}\r\n`;
}

function framingLine({ framing, payload }: Body): string {
  if (framing === "length") return `Content-Length: ${payload.length}\r\n`;
  return framing === "chunked" ? "Transfer-Encoding: chunked\r\n" : "";
}

/** The request as it goes on the wire. */
export function requestBytes({ method, target, fields, body }: Pair, index: number): Buffer {
  const lines = fields.map((line) => `${line}\r\n`).join("");
  return Buffer.from(
    `${method} ${target} HTTP/1.1\r\nHost: h.example\r\nX-Index: ${index}\r\n${lines}${framingLine(body)}\r\n${encode(body)}`,
    "latin1",
  );
}

/** The response as the origin gives it. */
export function responseBytes({ method, status, interim, responseFields, response, originCloses }: Pair): Buffer {
  const lines = responseFields.map((line) => `${line}\r\n`).join("");
  const closes = originCloses ? "Connection: close\r\n" : "";
  const isBodyless = method === "HEAD" || status === 204 || status === 304;
  const framing = status === 204 ? "" : framingLine(response);
  return Buffer.from(
    `${interim.join("")}HTTP/1.1 ${status} Reason\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n${lines}${closes}${framing}\r\n${isBodyless ? "" : encode(response)}`,
    "latin1",
  );
}

/** A response as a reader of RFC 9112 finds it. */
export interface ReadResponse {
  readonly interim: readonly number[];
  readonly status: number;
  /** Field lines as `name: value` with the name as received and the value without white space around it. */
  readonly fields: readonly string[];
  readonly payload: string;
  readonly trailers: readonly string[];
}

/** Field lines with white space around the value taken off. */
export function trimmed(lines: readonly string[]): string[] {
  return lines.map((line) => {
    const colon = line.indexOf(":");
    return `${line.slice(0, colon)}: ${line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "")}`;
  });
}

/**
 * Reads responses to requests with these methods, which all are delimited by length or chunks.
 *
 * @throws Error when the text is anything but those responses, whole
 */
export function readResponses(text: string, methods: readonly string[]): ReadResponse[] {
  let at = 0;
  function head(): { status: number; fields: string[] } {
    const end = text.indexOf("\r\n\r\n", at);
    if (end === -1) throw new Error(`no head in ${JSON.stringify(text.slice(at, at + 200))}`);
    const [start = "", ...fields] = text.slice(at, end).split("\r\n");
    const status = /^HTTP\/1\.1 (\d{3}) /.exec(start)?.[1];
    if (status === undefined) throw new Error(`no status line: ${JSON.stringify(start)}`);
    at = end + 4;
    return { status: Number(status), fields: trimmed(fields) };
  }
  function line(): string {
    const end = text.indexOf("\r\n", at);
    if (end === -1) throw new Error(`no line in ${JSON.stringify(text.slice(at, at + 200))}`);
    const found = text.slice(at, end);
    at = end + 2;
    return found;
  }
  function bytes(length: number): string {
    if (text.length - at < length) throw new Error(`${length} bytes wanted, ${text.length - at} there`);
    at += length;
    return text.slice(at - length, at);
  }
  const responses = methods.map((method) => {
    const interim: number[] = [];
    let { status, fields } = head();
    for (; status < 200; { status, fields } = head()) interim.push(status);
    const value = (name: string) =>
      fields.find((field) => field.toLowerCase().startsWith(`${name}: `))?.slice(name.length + 2);
    let payload = "";
    let trailers: string[] = [];
    if (method !== "HEAD" && status !== 204 && status !== 304) {
      if (value("transfer-encoding") === "chunked") {
        for (let size = -1; size !== 0; ) {
          size = Number.parseInt(line(), 16);
          payload += bytes(size);
          if (size > 0 && line() !== "") throw new Error("no CRLF behind a chunk");
        }
        for (let found = line(); found !== ""; found = line()) trailers = [...trailers, found];
      } else payload = bytes(Number(value("content-length")));
    }
    return { interim, status, fields, payload, trailers: trimmed(trailers) };
  });
  if (at !== text.length) throw new Error(`more than the responses: ${JSON.stringify(text.slice(at, at + 200))}`);
  return responses;
}

/** A request as the origin saw it. */
export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  readonly fields: readonly string[];
  readonly payload: string;
  readonly trailers: readonly string[];
}

/** Names and values in turn → lines. */
export function lines(flat: readonly string[]): string[] {
  return flat.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${flat[at + 1]}`] : []));
}

function expectedResponse(pair: Pair): Omit<ReadResponse, "fields"> {
  const { method, status, response, interim } = pair;
  const isBodyless = method === "HEAD" || status === 204 || status === 304;
  return {
    interim: interim.map((head) => Number(head.slice(9, 12))),
    status,
    payload: isBodyless ? "" : response.payload,
    trailers: isBodyless || response.framing !== "chunked" ? [] : trimmed(response.trailers),
  };
}

const HOP = /^(?:connection|transfer-encoding|date|host|x-index|content-length):/i;

/**
 * Asserts that every request arrived at the origin, and every response at the peer, as they were sent.
 *
 * @param text - all that the peer received
 */
export function assertArrived(pairs: readonly Pair[], seen: readonly SeenRequest[], text: string): void {
  assert.equal(seen.length, pairs.length);
  const responses = readResponses(
    text,
    pairs.map(({ method }) => method),
  );
  for (const [index, pair] of pairs.entries()) {
    const { fields, ...request } = seen[index]!;
    assert.deepEqual(request, {
      method: pair.method,
      target: pair.target,
      payload: pair.body.payload,
      trailers: pair.body.framing === "chunked" ? trimmed(pair.body.trailers) : [],
    });
    assert.deepEqual(
      fields.filter((line) => !HOP.test(line)),
      trimmed(pair.fields),
    );
    const { fields: responseFields, ...response } = responses[index]!;
    assert.deepEqual(response, expectedResponse(pair));
    assert.deepEqual(
      responseFields.filter((line) => !HOP.test(line)),
      trimmed(pair.responseFields),
    );
  }
}
