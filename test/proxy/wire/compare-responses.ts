/**
 * Node's HTTP client as the judge of what the wire forwarder makes of responses: it gets the bytes directly, and once
 * more through the forwarder. What it finds then may be 502 or a response that breaks off, for reasons that are written
 * down here; it may never be another response, nor a whole one where it finds none directly.
 */
import http from "node:http";
import { type Duplex, duplexPair } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { allowedTrailers, splitHopByHop } from "../../../src/proxy/headers.ts";
import { type Cut, memoryWire, writeCut } from "../../support/memory-wire.ts";
import { explainLooser, explainStricter, type Looser, type Stricter, type Verdict } from "./verdict.ts";

/** Where node:http takes a response that we refuse. */
const STRICTER: readonly Stricter[] = [
  {
    name: "a control character in the reason (RFC 9112 §4)",
    said: /the status line is not one/,
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
    text: /^HTTP\/1\.[01] \d{3} .*[\x00-\x08\x0a-\x1f\x7f]/m,
  },
  { name: "a status below 100 (RFC 9110 §15)", said: /not a number from 100/, text: /^HTTP\/1\.[01] 0/m },
  {
    name: "a version other than 1.0 and 1.1 (RFC 9112 §2.3)",
    said: /does not speak HTTP|does not begin with HTTP/,
    text: /^HTTP\/(?:0\.9|2\.0) /m,
  },
  {
    name: "empty lines before a status line (RFC 9112 §4)",
    said: /does not speak HTTP|does not begin with HTTP|ends in a bare LF/,
    text: /(?:^|\r\n\r\n)[\r\n]+HTTP/,
  },
  {
    name: "101 that nobody asked for (RFC 9110 §7.8)",
    said: /switched protocols unasked/,
    text: /^HTTP\/1\.[01] 101/m,
  },
  {
    name: "Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1)",
    said: /Transfer-Encoding in an HTTP\/1\.0/,
    text: /HTTP\/1\.0 \d+.*\r\n(.+\r\n)*transfer-encoding:/i,
  },
  {
    name: "transfer codings besides chunked, and empty ones (RFC 9112 §6.1)",
    said: /other than one chunked|Transfer-Encoding is empty/,
    text: /^transfer-encoding:[ \t]*(?!chunked[ \t]*\r)|^transfer-encoding:[\s\S]*^transfer-encoding:/im,
  },
  {
    name: "a Content-Length beyond counting (RFC 9110 §8.6)",
    said: /Content-Length is not a number/,
    text: /^content-length: *\d{16}/im,
  },
  {
    name: "a chunk size of more than 13 digits (RFC 9112 §7.1)",
    said: /chunk size is too large/,
    text: /^[0-9a-f]{14,}/im,
  },
];

/** Where node:http refuses what we take. */
const LOOSER: readonly Looser[] = [
  {
    name: "framing fields in trailer sections, which are dropped (RFC 9110 §6.5.1)",
    code: /^HPE_INVALID_(?:CONTENT_LENGTH|TRANSFER_ENCODING)$|^HPE_UNEXPECTED_CONTENT_LENGTH$/,
    text: /^0+(?:;.*)?\r\n(?:.+\r\n)*(?:content-length|transfer-encoding):/im,
  },
  {
    name: "close or HTTP/1.0 in an interim response, where the final one tells what is true (RFC 9112 §9.6)",
    code: /^HPE_CLOSED_CONNECTION$/,
    text: /^HTTP\/1\.0 1\d\d|^HTTP\/1\.[01] 1\d\d.*\r\n(?:.+\r\n)*(?:proxy-)?connection:.*close/im,
  },
  {
    name: "chunk extensions, which are not read (RFC 9112 §7.1.1)",
    code: /^HPE_(?:STRICT|INVALID_CHUNK_SIZE)$/,
    text: /^[0-9a-f]+;/im,
  },
];

/** Optional white space is no part of a value (RFC 9110 §5.5). */
const TAB_BEHIND_CHUNKED = /^transfer-encoding:[ \t]*chunked[ \t]*\t[ \t]*\r$/im;

interface Head {
  readonly status: number;
  readonly reason: string;
  readonly fields: readonly string[];
}

/** What a client saw. */
interface Seen {
  readonly interim: Head[];
  head: Head | undefined;
  body: string;
  trailers: readonly string[];
  complete: boolean;
  upgraded: boolean;
  error: string | undefined;
}

const TURNS = 6;
let moves = 0;

function ask(method: string, connection: Duplex): Seen {
  const seen: Seen = {
    interim: [],
    head: undefined,
    body: "",
    trailers: [],
    complete: false,
    upgraded: false,
    error: undefined,
  };
  const failed = (error: NodeJS.ErrnoException): void => {
    moves++;
    seen.error ??= error.code ?? error.message;
  };
  const request = http.request({
    method,
    createConnection: () => connection,
    headers: ["Host", "a.example", "Connection", "keep-alive"],
  });
  request.on("information", ({ statusCode, statusMessage, rawHeaders }) => {
    moves++;
    seen.interim.push({ status: statusCode, reason: statusMessage, fields: rawHeaders });
  });
  request.on("upgrade", (_response, socket) => {
    seen.upgraded = true;
    socket.destroy();
  });
  request.on("response", (response) => {
    moves++;
    seen.head = { status: response.statusCode!, reason: response.statusMessage!, fields: response.rawHeaders };
    response.on("data", (bytes: Buffer) => {
      moves++;
      seen.body += bytes.toString("latin1");
    });
    response.on("end", () => {
      moves++;
      seen.complete = response.complete;
      seen.trailers = response.rawTrailers;
    });
    response.on("error", failed);
  });
  request.on("error", failed);
  request.end();
  return seen;
}

async function quiet(): Promise<void> {
  for (let turns = 0, before = moves; turns < TURNS; turns++) {
    await turn();
    if (moves !== before) turns = 0;
    before = moves;
  }
}

async function direct(method: string, bytes: Buffer): Promise<Seen> {
  const [near, far] = duplexPair();
  const seen = ask(method, near);
  far.on("error", () => {});
  far.once("data", () => {
    far.resume();
    far.end(bytes);
  });
  await quiet();
  near.destroy();
  far.destroy();
  return seen;
}

async function through(method: string, bytes: Buffer, cut: Cut) {
  const wire = memoryWire({
    cut,
    onUpstream(far) {
      far.once("data", async () => {
        far.resume();
        await writeCut(far, bytes, cut, true);
        moves++;
      });
    },
  });
  const peer = wire.connect();
  const seen = ask(method, peer);
  const isOver = (): boolean => seen.complete || seen.error !== undefined || seen.upgraded;
  await quiet();
  for (let turns = 0; turns < 1000 && !isOver(); turns++) await turn();
  const isStuck = !isOver();
  peer.destroy();
  await turn();
  return { seen, isStuck, failure: wire.failed[0], isReused: wire.upstreams[0]?.state === "idle" };
}

/** Compares; `cut` says in which pieces our side reads. */
export async function compareResponses(method: string, text: string, cut: Cut): Promise<Verdict> {
  const bytes = Buffer.from(text, "latin1");
  const judged = await direct(method, bytes);
  const { seen, isStuck, failure } = await through(method, bytes, cut);
  const said = failure === undefined ? "" : `${failure.code}: ${failure.message}`;
  const isOurs = seen.head !== undefined && /\r\nProxy-Status\r\n/i.test(`\r\n${seen.head.fields.join("\r\n")}\r\n`);
  const isWhole = seen.complete && !isOurs;
  const outcome = (difference?: string, explanation?: string): Verdict => ({
    accepted: isWhole,
    explanation,
    difference,
  });
  const difference = (what: string): Verdict =>
    outcome(`${what}; we said ${JSON.stringify(said)}, node:http ${JSON.stringify(judged.error ?? "")}`);

  const loosely = explainLooser(LOOSER, judged.error, text);
  if (seen.error?.startsWith("HPE_")) {
    // Only where node:http refuses it too when it comes directly.
    const reason = loosely === undefined ? undefined : explainLooser(LOOSER, seen.error, text);
    return reason !== undefined
      ? outcome(undefined, loosely)
      : difference(`what went downstream is not valid: ${seen.error}`);
  }
  if (isStuck) return difference("nothing moves any more");
  const interim = interimOf(seen);
  const expectedInterim = interimOf(judged);
  if (!isDeepStrictEqual(interim, expectedInterim.slice(0, interim.length))) {
    if (loosely !== undefined) return outcome(undefined, loosely);
    return difference(`interim ${JSON.stringify(interim)} instead of ${JSON.stringify(expectedInterim)}`);
  }
  if (isWhole && !judged.complete) {
    return loosely === undefined ? difference("we found a whole response") : outcome(undefined, loosely);
  }
  if (!judged.complete) return outcome();
  if (!isWhole) {
    const reason = explainStricter(STRICTER, said, text);
    return reason === undefined ? difference("we found no whole response") : outcome(undefined, reason);
  }
  if (interim.length !== expectedInterim.length) return difference("interim responses are missing");
  const [head, expected] = [comparable(seen.head!), comparable(judged.head!)];
  if (!isDeepStrictEqual(head, expected)) {
    return difference(`head ${JSON.stringify(head)} instead of ${JSON.stringify(expected)}`);
  }
  if (seen.body !== judged.body) {
    if (TAB_BEHIND_CHUNKED.test(text)) {
      return outcome(undefined, "a tab behind chunked, for which node:http reads to the end (RFC 9110 §5.5)");
    }
    return difference(`body ${JSON.stringify(seen.body)} instead of ${JSON.stringify(judged.body)}`);
  }
  const trailers = allowedTrailers(judged.trailers);
  if (!isDeepStrictEqual(seen.trailers, trailers)) {
    return difference(`trailers ${JSON.stringify(seen.trailers)} instead of ${JSON.stringify(trailers)}`);
  }
  return outcome();
}

/** Interim heads; a second 100 says nothing new and is not passed on. */
function interimOf({ interim }: Seen) {
  const first = interim.findIndex(({ status }) => status === 100);
  return interim.filter(({ status }, index) => status !== 100 || index === first).map(comparable);
}

/** A head without what belongs to one hop, and what an interim head must not say. */
function comparable({ status, reason, fields }: Head) {
  const { end } = splitHopByHop(fields);
  end.remove("date");
  if (status < 200 || status === 204) end.remove("content-length");
  return { status, reason, fields: end.flat };
}
