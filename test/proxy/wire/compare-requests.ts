/**
 * Node's HTTP server as the judge of what the wire forwarder makes of requests: the bytes go to one directly, and to
 * another through the forwarder. What arrives there may be less, for reasons that are written down here; it may never
 * be more, nor anything else.
 */
import http from "node:http";
import { type Duplex, duplexPair } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { allowedTrailers, splitHopByHop } from "../../../src/proxy/headers.ts";
import { type Cut, memoryWire, writeCut } from "../../support/memory-wire.ts";
import { explainLooser, explainStricter, type Looser, type Stricter, type Verdict } from "./verdict.ts";

/** Where node:http takes a request that we refuse. */
const STRICTER: readonly Stricter[] = [
  {
    name: "a bare LF or CR before a request (RFC 9112 §2.2)",
    said: /begin with a method|end in CRLF/,
    text: /(?:^|\r\n)[\r\n]*(?:\n|\r(?!\n))/,
  },
  {
    name: "more than four empty lines before a request (RFC 9112 §2.2)",
    said: /begin with a method/,
    text: /(?:\r\n){5}/,
  },
  {
    name: "a version other than 1.0 and 1.1 (RFC 9112 §2.3)",
    said: /^HF_VERSION_NOT_SUPPORTED/,
    text: /HTTP\/(?:0\.9|2\.0)\r\n/,
  },
  {
    name: "a request without version (RFC 9112 §3)",
    said: /^HF_BAD_TARGET: .*missing|does not end in CRLF/,
    text: /^[A-Z-]+ [^ ]+\r?\n/m,
  },
  {
    name: "more than one space in the request line (RFC 9112 §3)",
    said: /does not end in HTTP|target is missing/,
    text: /^[A-Z-]+ (?: \S+|\S+ ) *HTTP\//m,
  },
  {
    name: "a fragment or white space in the target (RFC 9112 §3.2)",
    said: /^HF_BAD_TARGET: .*holds/,
    text: /^[A-Z-]+ \S*[#\t\f]/m,
  },
  { name: "a target in none of the four forms (RFC 9112 §3.2)", said: /neither a path/, text: /[A-Z] [^/ ]\S* HTTP\// },
  { name: "* with another method than OPTIONS (RFC 9112 §3.2.4)", said: /only OPTIONS/, text: /(?<!OPTIONS) \* HTTP/ },
  { name: "no Host (RFC 9112 §3.2)", said: /Host is missing/, text: /HTTP\/1\.1/ },
  { name: "two Hosts (RFC 9112 §3.2)", said: /Host stands more than once/, text: /^host:[\s\S]*^host:/im },
  {
    name: "an invalid Host (RFC 9110 §7.2)",
    said: /Host is not a host/,
    text: /^host:.*[^\w.:\r\n -]|^host:.*\S\s+\S|^host: *[^\r\n]*:[^\r\n]*[^\d\r\n]/im,
  },
  {
    name: "Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1)",
    said: /Transfer-Encoding in an HTTP\/1\.0/,
    text: /HTTP\/1\.0\r\n(.+\r\n)*transfer-encoding:/i,
  },
  {
    name: "an empty element in Transfer-Encoding (RFC 9110 §5.6.1)",
    said: /Transfer-Encoding is empty/,
    text: /^transfer-encoding:[ \t]*(?:,|.*,[ \t]*(?:,|\r)|\r)/im,
  },
  {
    name: "a transfer coding besides chunked (RFC 9112 §6.1)",
    said: /^HF_CODING_NOT_SUPPORTED/,
    text: /^transfer-encoding:[ \t]*(?!chunked[ \t]*\r)/im,
  },
  {
    name: "an expectation besides 100-continue (RFC 9110 §10.1.1)",
    said: /^HF_EXPECTATION_FAILED/,
    text: /^expect:(?! 100-continue\r$)/im,
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
    name: "a tab behind chunked (RFC 9110 §5.5)",
    code: /^HPE_INVALID_TRANSFER_ENCODING$/,
    text: /^transfer-encoding:[ \t]*chunked[ \t]*\t[ \t]*\r$/im,
  },
  {
    name: "framing fields in trailer sections, which are dropped (RFC 9110 §6.5.1)",
    code: /^HPE_INVALID_(?:CONTENT_LENGTH|TRANSFER_ENCODING)$|^HPE_UNEXPECTED_CONTENT_LENGTH$/,
    text: /^0+(?:;.*)?\r\n(?:.+\r\n)*(?:content-length|transfer-encoding):/im,
  },
  {
    name: "chunk extensions, which are not read (RFC 9112 §7.1.1)",
    code: /^HPE_(?:STRICT|INVALID_CHUNK_SIZE)$/,
    text: /^[0-9a-f]+;/im,
  },
];

/** What node:http says of a method that it does not know. */
const INVALID_METHOD = /^HPE_INVALID_(?:METHOD|VERSION|CONSTANT)$/;

interface Message {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly fields: readonly string[];
  body: string;
  trailers: readonly string[];
  complete: boolean;
}

/** What a server saw on its connections. */
interface Record {
  readonly messages: Message[];
  error: string | undefined;
  /** What the bytes that were not valid began with, if that can be a method (RFC 9110 §9.1). */
  unreadMethod: string | undefined;
}

const TURNS = 6;
const records = new WeakMap<object, Record>();
let moves = 0;

const server = http.createServer({
  keepAliveTimeout: 0,
  requireHostHeader: false,
  requestTimeout: 0,
  headersTimeout: 0,
});
server.maxHeadersCount = 0;
for (const event of ["request", "checkContinue", "checkExpectation"]) server.on(event, take);
server.on("clientError", (error: NodeJS.ErrnoException & { rawPacket?: Buffer }, socket: Duplex) => {
  moves++;
  const record = records.get(socket)!;
  // The end of the bytes is not an error of the bytes.
  if (error.code !== "ECONNRESET" && error.code !== "HPE_INVALID_EOF_STATE" && record.error === undefined) {
    record.error = error.code ?? error.message;
    record.unreadMethod = /^[!#$%&'*+.^_`|~\w-]+(?= )/.exec(error.rawPacket?.toString("latin1") ?? "")?.[0];
  }
  // Not destroyed: the requests before it are still to be seen whole.
});

function take(request: http.IncomingMessage, response: http.ServerResponse): void {
  moves++;
  const message: Message = {
    method: request.method!,
    target: request.url!,
    version: request.httpVersion,
    fields: request.rawHeaders,
    body: "",
    trailers: [],
    complete: false,
  };
  records.get(request.socket)!.messages.push(message);
  request.on("data", (bytes: Buffer) => {
    moves++;
    message.body += bytes.toString("latin1");
  });
  request.on("end", () => {
    moves++;
    message.complete = request.complete;
    message.trailers = request.rawTrailers;
    response.end();
  });
  request.on("error", () => {});
}

async function quiet(): Promise<void> {
  for (let turns = 0, before = moves; turns < TURNS; turns++) {
    await turn();
    if (moves !== before) turns = 0;
    before = moves;
  }
}

async function direct(bytes: Buffer): Promise<Record> {
  const record: Record = { messages: [], error: undefined, unreadMethod: undefined };
  const [near, far] = duplexPair();
  records.set(near, record);
  server.emit("connection", near);
  far.resume();
  far.write(bytes);
  await quiet();
  near.destroy();
  far.destroy();
  return record;
}

async function through(bytes: Buffer, requestCut: Cut, responseCut: Cut) {
  const record: Record = { messages: [], error: undefined, unreadMethod: undefined };
  const wire = memoryWire({
    cut: responseCut,
    onUpstream(far) {
      records.set(far, record);
      server.emit("connection", far);
    },
  });
  const far = wire.connect();
  far.on("data", () => moves++);
  await writeCut(far, bytes, requestCut, true);
  await quiet();
  // A request that waits for its turn is answered, however many turns others take.
  for (let turns = 0; turns < 1000 && !far.readableEnded && !far.destroyed; turns++) await turn();
  const isStuck = !far.readableEnded && !far.destroyed;
  far.destroy();
  await turn();
  return { record, isStuck, failures: [...wire.refused, ...wire.failed] };
}

/** Compares; `requestCut` and `responseCut` say in which pieces our side reads. */
export async function compareRequests(text: string, requestCut: Cut, responseCut: Cut): Promise<Verdict> {
  const bytes = Buffer.from(text, "latin1");
  const judged = await direct(bytes);
  const { record, isStuck, failures } = await through(bytes, requestCut, responseCut);
  const failure = failures[0];
  const said = failure === undefined ? "" : `${failure.code}: ${failure.message}`;
  const whole = judged.messages.filter(({ complete }) => complete);
  const ours = record.messages.filter(({ complete }) => complete);
  const outcome = (difference?: string, explanation?: string): Verdict => ({
    accepted: failure === undefined && judged.error === undefined && ours.length > 0,
    explanation,
    difference,
  });
  const difference = (what: string): Verdict =>
    outcome(`${what}; we said ${JSON.stringify(said)}, node:http ${JSON.stringify(judged.error ?? "")}`);

  // What follows an upgrade may not be HTTP/1.1 any more, and node:http does not read the body of one that we serve so.
  const hasUpgrade = judged.messages.some(({ fields }) => splitHopByHop(fields).hop.upgrade !== undefined);
  if (!hasUpgrade && record.error !== undefined) {
    // Only where node:http refuses it too when it comes directly.
    const isJudgedLoosely = explainLooser(LOOSER, judged.error, text) !== undefined;
    const reason =
      (isJudgedLoosely ? explainLooser(LOOSER, record.error, text) : undefined) ??
      (isJudgedLoosely || INVALID_METHOD.test(judged.error ?? "") ? explainUnknownMethod(record) : undefined);
    return reason === undefined
      ? difference(`what went upstream is not valid: ${record.error}`)
      : outcome(undefined, reason);
  }
  if (!hasUpgrade && isStuck) return difference("nothing moves any more");
  for (const [index, message] of whole.entries()) {
    const { hop } = splitHopByHop(message.fields);
    if (message.method === "CONNECT" || hop.upgrade !== undefined) return outcome();
    const mine = ours[index];
    if (mine === undefined) {
      if (failure === undefined) return difference(`request ${index + 1} is missing`);
      const reason = explainStricter(STRICTER, said, text);
      return reason === undefined ? difference(`request ${index + 1} was refused`) : outcome(undefined, reason);
    }
    const unlike = unlikeness(message, mine);
    if (unlike !== undefined) return difference(`request ${index + 1}: ${unlike}`);
    // Nothing is read behind it: by the RFC, or because we understand Proxy-Connection as Connection.
    if (hop.close || (message.version === "1.0" && !hop.keepAlive)) {
      return ours.length > index + 1 ? difference("requests behind the last were carried out") : outcome();
    }
  }
  if (ours.length > whole.length) {
    // Of an upgrade that we serve as HTTP/1.1, node:http may not see the end.
    const unfinished = judged.messages[whole.length];
    if (unfinished !== undefined && splitHopByHop(unfinished.fields).hop.upgrade !== undefined) return outcome();
    const reason = explainLooser(LOOSER, judged.error, text);
    return reason === undefined ? difference("we took more") : outcome(undefined, reason);
  }
  return outcome();
}

/** A method that node:http does not know is passed on, and refused behind us as it is in our place. */
function explainUnknownMethod({ error, unreadMethod }: Record): string | undefined {
  if (!INVALID_METHOD.test(error ?? "")) return undefined;
  if (unreadMethod === undefined || http.METHODS.includes(unreadMethod)) return undefined;
  return "methods that it does not know (RFC 9110 §9.1)";
}

/** How what arrived is not what was sent, but for what a proxy changes. */
function unlikeness(sent: Message, arrived: Message): string | undefined {
  if (arrived.method !== sent.method) return `method ${arrived.method} instead of ${sent.method}`;
  const target = originForm(sent);
  if (arrived.target !== target) return `target ${arrived.target} instead of ${target}`;
  if (arrived.body !== sent.body) return `body ${JSON.stringify(arrived.body)} instead of ${JSON.stringify(sent.body)}`;
  const trailers = allowedTrailers(sent.trailers);
  if (!isDeepStrictEqual(arrived.trailers, trailers)) {
    return `trailers ${JSON.stringify(arrived.trailers)} instead of ${JSON.stringify(trailers)}`;
  }
  const before = endToEnd(sent.fields);
  const after = endToEnd(arrived.fields);
  if (!isDeepStrictEqual(after, before)) return `fields ${JSON.stringify(after)} instead of ${JSON.stringify(before)}`;
  return undefined;
}

function originForm({ method, target }: Message): string {
  const rest = /^https?:\/\/[^/?]*(.*)$/i.exec(target)?.[1];
  if (rest === undefined) return target;
  if (rest === "") return method === "OPTIONS" ? "*" : "/";
  return rest.startsWith("?") ? `/${rest}` : rest;
}

function endToEnd(fields: readonly string[]): string[] {
  const { end } = splitHopByHop(fields);
  end.remove("host");
  return end.flat;
}
