/** Requests and responses for the fuzzer: valid ones, ones with something odd in them, and damaged ones. */
import type { Random } from "./random.ts";

const FIELDS = [
  "Accept: */*",
  "accept-encoding: gzip",
  "X-Empty:",
  "X-Spaces: \t a b \t ",
  "Cookie: a=1",
  "X-Latin: caf\xe9\xff",
  "X-Colon: a: b",
  'X-Quoted: "a\\"b"',
  "Authorization: Basic Og==",
  "Via: 1.1 other",
  "X-Forwarded-For: 192.0.2.7",
  "Forwarded: for=192.0.2.7",
  "Keep-Alive: timeout=5, max=10",
  "Connection: keep-alive",
  "Connection: X-Empty",
  "connection: Cookie, keep-alive",
  "Connection: Host, Content-Length",
  "Connection: ,, ,",
  "Proxy-Connection: keep-alive",
  "TE: trailers",
  "te: gzip;q=0.5, trailers",
  "Trailer: X-Sum",
  "Expect: 100-continue",
  "X-Content-Length: 5",
  "!#$%&'*+-.^_`|~0: token",
] as const;

/** Fields that concern what a message is, in forms that parsers have disagreed about. */
const ODD_FIELDS = [
  "Content-Length: 5",
  "Content-Length: 0",
  "content-length: 05",
  "Content-Length: +5",
  "Content-Length: -1",
  "Content-Length: 0x5",
  "Content-Length: 5, 5",
  "Content-Length: 5,6",
  "Content-Length: ",
  "Content-Length: 5 ",
  "Content-Length: 5 5",
  "Content-Length: 99999999999999999999",
  "Content-Length: 9007199254740993",
  "Content-Length:\t5",
  "Content-Length : 5",
  "Content_Length: 5",
  "Transfer-Encoding: chunked",
  "transfer-encoding: CHUNKED",
  "Transfer-Encoding: chunked ",
  "Transfer-Encoding:\tchunked",
  "Transfer-Encoding:chunked",
  "Transfer-Encoding: xchunked",
  "Transfer-Encoding: chunkedx",
  "Transfer-Encoding: identity",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: chunked, gzip",
  "Transfer-Encoding: chunked, chunked",
  "Transfer-Encoding: chunked, identity",
  "Transfer-Encoding: chunked;q=1",
  'Transfer-Encoding: "chunked"',
  "Transfer-Encoding: ,chunked",
  "Transfer-Encoding: chunked,",
  "Transfer-Encoding: ",
  "Transfer-Encoding: \x0bchunked",
  "Transfer-Encoding : chunked",
  "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding\x00: chunked",
  "Transfer-Encoding:\r\n chunked",
  "Connection: close",
  "Connection: Close, x",
  "connection: keep-alive, close",
  "Proxy-Connection: close",
  "Connection: Transfer-Encoding",
  "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
  "Host: other.example",
  "Host: a b",
  "Host: a@b",
  "Host:",
  "Expect: 200-ok",
  "Upgrade: h2c",
  " X-Indented: 1",
  "X-Folded: 1\r\n 2",
  "X-No-Colon",
  ": no name",
  "X-Nul: a\0b",
  "X-Ctl: a\x01b",
  "X-Del: a\x7fb",
  "X-Cr: a\rb",
  "X-Lf: a\nb",
  "X-\xe9: 1",
  "X A: 1",
] as const;

const METHODS = ["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] as const;
const ODD_METHODS = [
  "PROPFIND",
  "M-SEARCH",
  "TRACE",
  "PURGE",
  "FOO",
  "get",
  "Get",
  "GETT",
  "G",
  "QUERY",
  "PRI",
] as const;
const TARGETS = ["/", "/", "/a?b=c", "//a/../%2f", "/?", "/a;b=c&d='e'!$*", `/${"long".repeat(20)}`] as const;
const ODD_TARGETS = [
  "*",
  "http://b.example/x?y",
  "HTTP://b.example",
  "https://b.example:8443/",
  "http://b.example?x",
  "http://u@b.example/",
  "http://b.example:99999/",
  "http:///x",
  "ftp://b.example/",
  "http://[::1]/",
  "a",
  "b.example:80",
  "/a#b",
  "/a b",
  "/a\tb",
  '/a"<>\\^`{|}',
  "/%",
  "/caf\xe9",
  "/a\0",
  "/a\x7f",
  "?a",
  "",
] as const;
const VERSIONS = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"] as const;
const ODD_VERSIONS = [
  "HTTP/0.9",
  "HTTP/2.0",
  "HTTP/1.2",
  "HTTP/1.10",
  "http/1.1",
  "HTTP/1.1 ",
  " HTTP/1.1",
  "HTTP/11",
  "HTTP/3.0",
];
const PAYLOADS = [
  "",
  "x",
  "hello",
  "0\r\n\r\n",
  "\r\n",
  "GET /inner HTTP/1.1\r\nHost: inner\r\n\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  "p".repeat(300),
] as const;
const EXTENSIONS = [
  "",
  "",
  "",
  "",
  ";a",
  ";a=b",
  ';a="b"',
  ';a="b;c"',
  "; a=b",
  " ;a",
  ";",
  ";;",
  ";a=",
  ";\x7f",
  ";\xe9",
  ";a b",
];
/** What may stand where the line of a size, or a chunk, ends. */
const CHUNK_ENDS = ["\n", "\r", "\rx", "x\n", "\n\n", "\r\r\n", " \r\n", "\t\r\n", "", "\r\n\r\n"];
const TRAILERS = [
  "X-Sum: 1",
  "x-other:",
  "Content-Length: 3",
  "Host: c",
  "Transfer-Encoding: chunked",
  "X-T : 1",
  "X",
  " x: 1",
];
/** What damage puts into a message. */
const SPLINTERS = [
  "\r",
  "\n",
  "\r\n",
  "\r\n\r\n",
  "\n\n",
  " ",
  "\t",
  "\0",
  "\x0b",
  "\x7f",
  "\xff",
  ":",
  ",",
  ";",
  "0",
  "1",
  "f",
  "-",
  "+",
  "HTTP/1.1",
];

/** Chunks of this payload; `odd`: perhaps in forms that are not valid. */
function chunked(random: Random, payload: string, odd: boolean): string {
  let text = "";
  for (let at = 0; at < payload.length; ) {
    const length = 1 + random.below(payload.length - at);
    const hex = length.toString(16);
    let size = random.oneIn(3) ? hex.toUpperCase() : hex;
    if (random.oneIn(6)) size = "0".repeat(1 + random.below(odd ? 20 : 4)) + size;
    if (odd && random.oneIn(8))
      size = random.pick([`+${hex}`, `0x${hex}`, ` ${hex}`, `${hex} `, `${hex}h`, "", `${hex}\t`, "ffffffffffffffff"]);
    const extension = random.oneIn(3) ? random.pick(odd ? EXTENSIONS : EXTENSIONS.slice(0, 8)) : "";
    const [sizeEnd, chunkEnd] = [0, 0].map(() => (odd && random.oneIn(16) ? random.pick(CHUNK_ENDS) : "\r\n"));
    text += `${size}${extension}${sizeEnd}${payload.slice(at, at + length)}${chunkEnd}`;
    at += length;
  }
  const trailers = random.oneIn(3) ? random.some(2, () => random.pick(odd ? TRAILERS : TRAILERS.slice(0, 2))) : [];
  return `${text}${random.pick(["0", "0", "00"])}\r\n${trailers.map((line) => `${line}\r\n`).join("")}\r\n`;
}

function fields(random: Random, odd: boolean): string[] {
  const lines: string[] = random.some(4, () => random.pick(FIELDS));
  if (odd) lines.push(...random.some(2, () => random.pick(ODD_FIELDS)));
  return lines;
}

/** A body with the field that delimits it. */
function framed(random: Random, odd: boolean): { line: string | undefined; bytes: string } {
  const payload = random.pick(PAYLOADS);
  switch (random.below(3)) {
    case 0:
      return { line: undefined, bytes: odd && random.oneIn(4) ? payload : "" };
    case 1:
      return {
        line: `Content-Length: ${payload.length + (odd && random.oneIn(8) ? random.below(3) - 1 : 0)}`,
        bytes: payload,
      };
    default:
      return {
        line: random.pick(["Transfer-Encoding: chunked", "transfer-encoding: Chunked"]),
        bytes: chunked(random, payload, odd),
      };
  }
}

function joined(random: Random, start: string, lines: string[], bytes: string): string {
  for (let at = lines.length - 1; at > 0; at--) {
    const other = random.below(at + 1);
    [lines[at], lines[other]] = [lines[other]!, lines[at]!];
  }
  return `${start}\r\n${lines.map((line) => `${line}\r\n`).join("")}\r\n${bytes}`;
}

function request(random: Random, odd: boolean, oddBody = odd): string {
  const method = odd && random.oneIn(12) ? random.pick(ODD_METHODS) : random.pick(METHODS);
  const target = odd && random.oneIn(6) ? random.pick(ODD_TARGETS) : random.pick(TARGETS);
  const version = odd && random.oneIn(12) ? random.pick(ODD_VERSIONS) : random.pick(VERSIONS);
  const { line, bytes } = framed(random, oddBody);
  const lines = fields(random, odd);
  if (!odd || !random.oneIn(10)) lines.push("Host: a.example");
  if (line !== undefined && !(odd && random.oneIn(10))) lines.push(line);
  const before = random.oneIn(8)
    ? random.pick(odd ? ["\r\n", "\n", "\r\n\r\n\r\n\r\n\r\n", " ", "\r"] : ["\r\n", "\r\n\r\n"])
    : "";
  return before + joined(random, `${method} ${target} ${version}`, lines, bytes);
}

function response(random: Random, odd: boolean, oddBody = odd): string {
  const version = odd && random.oneIn(12) ? random.pick(ODD_VERSIONS) : random.pick(VERSIONS);
  let status = String(random.pick([200, 200, 200, 201, 204, 206, 301, 304, 404, 500, 599]));
  if (odd && random.oneIn(8))
    status = random.pick(["99", "000", "100", "101", "103", "600", "999", "1000", "2x0", "", "20 0"]);
  const reason = random.pick([
    " OK",
    " OK",
    " ",
    "",
    " Not  Quite",
    " caf\xe9",
    odd ? " a\tb" : " OK",
    odd ? " a\x01" : " OK",
  ]);
  const { line, bytes } = framed(random, oddBody);
  const lines = fields(random, odd);
  lines.push("Date: Thu, 01 Jan 1970 00:00:00 GMT");
  if (line !== undefined && !(odd && random.oneIn(10))) lines.push(line);
  // Without a field that delimits it the end of the connection does.
  const body = line === undefined && random.oneIn(2) ? random.pick(PAYLOADS) : bytes;
  const interim = random.some(random.oneIn(4) ? 2 : 0, () =>
    joined(
      random,
      `HTTP/1.1 ${random.pick(["103 Early Hints", "102 ", "100 Continue"])}`,
      odd ? fields(random, random.oneIn(4)) : ["Link: </a>"],
      "",
    ),
  );
  const after =
    odd && random.oneIn(6) ? random.pick(["x", "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]) : "";
  return interim.join("") + joined(random, `${version} ${status}${reason}`, lines, body) + after;
}

/** Takes out, puts in, replaces or repeats a few bytes. */
function damaged(random: Random, text: string): string {
  let result = text;
  for (let count = 1 + random.below(2); count > 0; count--) {
    const at = random.below(result.length + 1);
    const length = 1 + random.below(3);
    switch (random.below(5)) {
      case 0:
        result = result.slice(0, at) + result.slice(at + length);
        break;
      case 1:
        result = result.slice(0, at) + random.pick(SPLINTERS) + result.slice(at);
        break;
      case 2:
        result = result.slice(0, at) + random.pick(SPLINTERS) + result.slice(at + length);
        break;
      case 3:
        result = result.slice(0, at + length * 5) + result.slice(at);
        break;
      case 4:
        // Bare line ends are what parsers disagree about most.
        result = result.slice(0, at) + result.slice(at).replace("\r\n", random.pick(["\n", "\r", "\n\r", "\r\r\n"]));
        break;
    }
  }
  return result;
}

/** How far a case is from valid. */
export type Kind = "valid" | "odd body" | "odd" | "damaged";

function kindOf(random: Random): Kind {
  return random.pick(["valid", "odd body", "odd", "odd", "damaged"]);
}

/** The bytes of one downstream connection: one request or a few. */
export function requestCase(random: Random): { kind: Kind; text: string } {
  const kind = kindOf(random);
  const count = random.pick([1, 1, 2, 3]);
  const make = (): string => request(random, kind === "odd" || kind === "damaged", kind !== "valid");
  const text = Array.from({ length: count }, make).join("");
  return { kind, text: kind === "damaged" ? damaged(random, text) : text };
}

/** The bytes with which an upstream answers one request. */
export function responseCase(random: Random): { kind: Kind; text: string } {
  const kind = kindOf(random);
  const text = response(random, kind === "odd" || kind === "damaged", kind !== "valid");
  return { kind, text: kind === "damaged" ? damaged(random, text) : text };
}
