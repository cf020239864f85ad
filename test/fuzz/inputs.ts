/** What one downstream connection is given: requests, valid and not, and what has been used to smuggle them. */
import { requestCase } from "../proxy/wire/fuzz-messages.ts";
import { Random } from "../proxy/wire/random.ts";

/** One connection's worth of bytes. */
export interface Conversation {
  readonly seed: number;
  /** Latin-1: a few inputs, then a request for {@link markerTarget}. */
  readonly text: string;
  /** Where the bytes are cut into writes. */
  readonly cuts: readonly number[];
  /** How long to wait before each further write, in milliseconds: what came may have gone on by then. */
  readonly pauseMs: number;
  /** How many requests of it, the last one included, must all be answered; `undefined`: that depends. */
  readonly answered: number | undefined;
}

/** Target of the request that follows the inputs of a conversation on the same connection. */
export function markerTarget(seed: number): string {
  return `/marker/${seed}`;
}

/** A request that would do harm if an upstream took it for one of its own. */
const INNER = "GET /smuggled HTTP/1.1\r\nHost: inner\r\n\r\n";
const HEX = INNER.length.toString(16);

/** Ways to write `Transfer-Encoding: chunked` that some parser takes for it and another does not. */
const CODINGS = [
  "Transfer-Encoding: chunked",
  "Transfer-Encoding : chunked",
  "Transfer-Encoding\t: chunked",
  "Transfer-Encoding:\tchunked",
  "Transfer-Encoding: \x0bchunked",
  "Transfer-Encoding: \x0cchunked",
  "Transfer-Encoding: xchunked",
  "Transfer-Encoding: chunked, identity",
  "Transfer-Encoding: identity, chunked",
  "Transfer-Encoding: cow, chunked",
  "Transfer-Encoding: chunked, chunked",
  "Transfer-Encoding: chunked;x=1",
  "Transfer-Encoding: 'chunked'",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
  "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding:\r\n chunked",
  "Transfer-Encoding:\n chunked",
  " Transfer-Encoding: chunked",
  "X: y\rTransfer-Encoding: chunked",
  "X: y\nTransfer-Encoding: chunked",
  "X: y\n\rTransfer-Encoding: chunked",
  "Transfer_Encoding: chunked",
  "Transfer-Encoding\0: chunked",
  "Transfer-Encoding: chunked\0",
  "Transfer-Encoding: chunk\u0065d\x7f",
  "Transfer-\xadEncoding: chunked",
  "transfer-encoding: ChUnKeD",
  "TE: chunked",
  "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
] as const;

/** Ways to write a length. */
const LENGTHS = ["", "+", "-", "0x", "0", "00000000000000000000", " ", "\t", "\x0b", "1_", "5,", "5, ", '"'] as const;

/** Ways to end a line. */
const LINE_ENDS = [
  "\r\n",
  "\rx",
  "x\n",
  "\n\n",
  "",
  "\n",
  "\r",
  "\r\r\n",
  "\n\r\n",
  "\0\r\n",
  " \r\n",
  "\t\r\n",
] as const;

/** Chunk extensions, as they were used against parsers that read them carelessly. */
const EXTENSIONS = [
  ";",
  ";a",
  ";a=b",
  ' ; a = "b\\"c"',
  ";\n",
  ";a\nxx",
  ";a\r",
  ';a="\r\n',
  `;${"x".repeat(5000)}`,
  "\t",
  " ",
] as const;

const TARGETS = [
  "/",
  "/a/../b",
  "//a.example/",
  "http://b.example/x",
  "http://b.example",
  "HTTP://b.example:80/%2e",
  "*",
] as const;

function post(random: Random, lines: readonly string[], body: string): string {
  const method = random.pick(["POST", "POST", "PUT", "GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE"]);
  const head = [`${method} ${random.pick(TARGETS)} HTTP/1.1`, "Host: a.example", ...lines];
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

type Vector = (random: Random) => string;

const VECTORS: readonly Vector[] = [
  // Both framings: the body ends where one says, or where the other does.
  (random) => {
    const lines = [`Content-Length: ${random.pick([0, 4, 5, INNER.length, INNER.length + 5])}`, random.pick(CODINGS)];
    return post(random, random.oneIn(2) ? lines : lines.reverse(), `0\r\n\r\n${INNER}`);
  },
  // A coding in a form that not everybody takes for chunked, alone.
  (random) => post(random, [random.pick(CODINGS)], `${HEX}\r\n${INNER}\r\n0\r\n\r\n`),
  // Two lengths, or one that is read in more than one way.
  (random) => {
    const odd = (random.oneIn(2) ? "" : random.pick(LENGTHS)) + String(INNER.length);
    const other = random.oneIn(2) ? [`Content-Length: ${random.pick([0, INNER.length, 7])}`] : [];
    return post(random, [`Content-Length: ${odd}`, ...other], INNER);
  },
  // A length whose name or line end is not quite one.
  (random) => {
    const name = random.pick([
      "Content-Length ",
      "Content_Length",
      "Content-Length\0",
      "\tContent-Length",
      "content-length",
    ]);
    return post(random, [`${name}: ${INNER.length}`], INNER);
  },
  // A body where some expect none.
  (random) => {
    const method = random.pick(["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"]);
    const framing = random.oneIn(2) ? `Content-Length: ${INNER.length}` : "Transfer-Encoding: chunked";
    const body = framing.startsWith("C") ? INNER : `${HEX}\r\n${INNER}\r\n0\r\n\r\n`;
    return `${method} / HTTP/1.1\r\nHost: a.example\r\n${framing}\r\n\r\n${body}`;
  },
  // A chunk in which one thing is odd.
  (random) => {
    const part = random.below(4);
    const sizes = [`0${HEX}`, `+${HEX}`, `0x${HEX}`, `${HEX} `, ` ${HEX}`, `-${HEX}`, `1${"0".repeat(16)}${HEX}`, ""];
    const size = part === 0 ? random.pick(sizes) : HEX;
    const extension = part === 1 ? random.pick(EXTENSIONS) : "";
    const sizeEnd = part === 2 ? random.pick(LINE_ENDS) : "\r\n";
    const chunkEnd = part === 3 ? random.pick(LINE_ENDS) : "\r\n";
    return post(random, ["Transfer-Encoding: chunked"], `${size}${extension}${sizeEnd}${INNER}${chunkEnd}0\r\n\r\n`);
  },
  // The end of the last chunk, and what may follow it.
  (random) => {
    const trailer = random.pick([
      "",
      "X-T: 1\r\n",
      "Content-Length: 9\r\n",
      "Transfer-Encoding: chunked\r\n",
      "X-T : 1\r\n",
      " folded\r\n",
      "X-T: 1\n",
      "X\r\n",
    ]);
    return post(
      random,
      ["Transfer-Encoding: chunked"],
      `5\r\nhello\r\n0${random.oneIn(3) ? random.pick(LINE_ENDS) : "\r\n"}${trailer}${random.oneIn(3) ? random.pick(LINE_ENDS) : "\r\n"}`,
    );
  },
  // Line ends in the head.
  (random) => {
    const lines = ["POST / HTTP/1.1", "Host: a.example", `Content-Length: ${INNER.length}`, "X-A: b"];
    return `${lines.map((line) => line + (random.oneIn(3) ? random.pick(LINE_ENDS) : "\r\n")).join("")}\r\n${INNER}`;
  },
  // A body that never comes to its end.
  (random) => {
    const start = random.pick(["", INNER]);
    return random.oneIn(2)
      ? post(random, ["Content-Length: 100000"], start)
      : post(random, ["Transfer-Encoding: chunked"], `fffff\r\n${start}`);
  },
  // Folded lines.
  (random) => {
    const fold = random.pick(["\r\n ", "\r\n\t", "\n ", "\r ", "\r\n \r\n "]);
    return post(random, [`X-A: b${fold}Content-Length: ${INNER.length}`, "Content-Length: 0"], INNER);
  },
  // The host in two places.
  (random) => {
    const target = random.pick([
      "http://b.example/x",
      "http://a@b.example/",
      "https://b.example/",
      "http:///x",
      "b.example:80",
      "//b.example/",
    ]);
    const hosts = random.pick([
      "Host: a.example",
      "Host: a.example\r\nHost: b.example",
      "Host: a.example, b.example",
      "Host:",
      "Host: a b",
      "",
    ]);
    return `GET ${target} HTTP/1.1\r\n${hosts === "" ? "" : `${hosts}\r\n`}\r\n`;
  },
  // Fields that a hop takes away, and the framing must survive it.
  (random) => {
    const named = random.pick([
      "Content-Length",
      "Host",
      "Transfer-Encoding",
      "close, Content-Length",
      "X-Exchange",
      "Via",
    ]);
    return post(random, [`Connection: ${named}`, `Content-Length: ${INNER.length}`], INNER);
  },
  // Expectations.
  (random) => {
    const expect = random.pick(["100-continue", "100-Continue", "100-continue, x", "y 100-continue", "", "200-ok"]);
    return post(random, [`Expect: ${expect}`, `Content-Length: ${random.oneIn(4) ? 0 : INNER.length}`], INNER);
  },
  // Upgrades that are not followed, with a request behind them.
  (random) => {
    const to = random.pick(["h2c", "websocket", "WebSocket, h2c", "foo/1", ""]);
    const body = random.oneIn(2) ? [`Content-Length: ${INNER.length}`] : [];
    const settings = random.oneIn(2) ? ", HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__" : "";
    return post(random, [`Connection: Upgrade${settings}`, `Upgrade: ${to}`, ...body], INNER);
  },
  // Versions.
  (random) => {
    const version = random.pick([
      "HTTP/1.0",
      "HTTP/0.9",
      "HTTP/1.2",
      "HTTP/2.0",
      "HTTP/11",
      "http/1.1",
      "HTTP/1.1 x",
      "",
    ]);
    const coding = random.oneIn(2) ? "Transfer-Encoding: chunked" : `Content-Length: ${INNER.length}`;
    return `POST / ${version}\r\nHost: a.example\r\nConnection: keep-alive\r\n${coding}\r\n\r\n${INNER}`;
  },
  // Methods beyond HTTP.
  (random) =>
    `${random.pick(["CONNECT b.example:80", "CONNECT /", "PRI *", "get /", "GET\t/", "G(T /", "\xc7ET /", " GET /"])} HTTP/1.1\r\nHost: a.example\r\n\r\n${INNER}`,
  // A whole request in a field, a target or a body that is not declared.
  (random) =>
    random.pick([
      `GET /?${encodeURIComponent(INNER)} HTTP/1.1\r\nHost: a.example\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: a.example\r\nX-A: ${INNER.replaceAll("\r\n", "\\r\\n")}\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: a.example\r\n\r\n${INNER}`,
      `GET / HTTP/1.1\r\nHost: a.example\r\nX-A: b\r\n${INNER}`,
      `\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n`,
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]),
];

/** Puts something else into a few places. */
function mutated(random: Random, text: string): string {
  let result = text;
  for (let count = random.below(3); count > 0; count--) {
    const at = random.below(result.length + 1);
    const splinter = random.pick([
      "\r",
      "\n",
      "\r\n",
      "\0",
      " ",
      "\t",
      ":",
      ",",
      ";",
      "0",
      "1",
      "\x0b",
      "\x7f",
      "\xa0",
      "chunked",
    ]);
    result = result.slice(0, at) + splinter + result.slice(at + random.below(2));
  }
  return result;
}

function input(random: Random): string {
  if (random.oneIn(2)) return requestCase(random).text;
  const text = random.pick(VECTORS)(random);
  return random.oneIn(3) ? mutated(random, text) : text;
}

/** A request that nothing is wrong with, though its body looks like another. */
function plain(random: Random): string {
  const method = random.pick(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]);
  const start = `${method} /plain?${random.below(1000)} HTTP/1.1\r\nHost: a.example\r\n`;
  switch (random.below(3)) {
    case 0:
      return `${start}\r\n`;
    case 1:
      return `${start}Content-Length: ${INNER.length}\r\n\r\n${INNER}`;
    default:
      return `${start}Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n${HEX}\r\n${INNER}\r\n0\r\n\r\n`;
  }
}

/** The conversation of this seed, always the same. */
export function conversation(seed: number): Conversation {
  const random = new Random(seed);
  const isPlain = random.oneIn(8);
  const inputs = Array.from({ length: 1 + random.below(4) }, () => (isPlain ? plain(random) : input(random)));
  const text = `${inputs.join("")}GET ${markerTarget(seed)} HTTP/1.1\r\nHost: marker\r\n\r\n`;
  const cuts = random.oneIn(2) ? [] : Array.from({ length: 1 + random.below(3) }, () => random.below(text.length));
  return {
    seed,
    text,
    cuts: cuts.sort((one, other) => one - other),
    pauseMs: random.oneIn(4) ? 5 : 0,
    answered: isPlain ? inputs.length + 1 : undefined,
  };
}
