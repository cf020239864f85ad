/** Downstream peers that speak HTTP/2: one with node:http2, one with frames of the test's own. */
import { once } from "node:events";
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from "node:http2";
import type { TestContext } from "node:test";
import { RawPeer } from "./peers.ts";

/** A response over HTTP/2. */
export interface Http2Response {
  readonly status: number;
  /** Names and values in turn, as received, `:status` included. */
  readonly fields: readonly string[];
  /** Latin-1. */
  readonly body: string;
  readonly trailers: readonly string[];
  /** Code the stream was closed with; 0 is none. */
  readonly rstCode: number;
  /** Statuses of 1xx responses before it. */
  readonly interim: readonly number[];
}

/** Opens a session; it is destroyed when the test ends. */
export async function http2Peer(
  t: TestContext,
  url: string,
  options: http2.SecureClientSessionOptions = {},
): Promise<ClientHttp2Session> {
  const session = http2.connect(url, options);
  session.on("error", () => {});
  t.after(() => session.destroy());
  await once(session, "connect");
  return session;
}

/** Sends a request; the stream is still to be ended when there is a body. */
export function begin(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  endStream: boolean,
): ClientHttp2Stream {
  const stream = session.request(headers, { endStream });
  stream.on("error", () => {});
  return stream;
}

/** Resolves when the stream is closed, however that came about. */
export async function responseOf(stream: ClientHttp2Stream): Promise<Http2Response> {
  let fields: readonly string[] = [];
  let trailers: readonly string[] = [];
  let body = "";
  const interim: number[] = [];
  stream.on("headers", (head) => interim.push(Number(head[":status"])));
  stream.on("response", (_head, _flags, raw: string[]) => {
    fields = raw;
  });
  stream.on("trailers", (_head: unknown, _flags: unknown, raw: string[]) => {
    trailers = raw;
  });
  stream.on("data", (bytes: Buffer) => {
    body += bytes.toString("latin1");
  });
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  stream.on("close", resolve);
  await closed;
  const at = fields.indexOf(":status");
  return { status: at === -1 ? 0 : Number(fields[at + 1]), fields, body, trailers, rstCode: stream.rstCode, interim };
}

/** Sends a request and waits for its end. */
export async function ask(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: string,
): Promise<Http2Response> {
  const stream = begin(session, headers, body === undefined);
  const response = responseOf(stream);
  if (body !== undefined) stream.end(body, "latin1");
  return await response;
}

/** A frame as it was received. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** Types of frames (RFC 9113 §6). */
export const FRAME = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const;
/** Flags of frames. */
export const END_STREAM = 0x1;
export const END_HEADERS = 0x4;

/** The client connection preface (RFC 9113 §3.4). */
export const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** One frame as it stands on the wire (latin1). */
export function frame(type: number, flags: number, stream: number, payload = ""): string {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return head.toString("latin1") + payload;
}

/** A number of four bytes. */
export function uint32(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes.toString("latin1");
}

/** Field lines in HPACK, each a literal without indexing (RFC 7541 §6.2.2). */
export function hpack(fields: readonly (readonly [name: string, value: string])[]): string {
  const text = (value: string): string => integer(value.length, 0x7f) + value;
  return fields.map(([name, value]) => `\x00${text(name)}${text(value)}`).join("");
}

function integer(value: number, mask: number): string {
  if (value < mask) return String.fromCharCode(value);
  let out = String.fromCharCode(mask);
  let rest = value - mask;
  for (; rest >= 128; rest >>= 7) out += String.fromCharCode((rest & 0x7f) | 0x80);
  return out + String.fromCharCode(rest);
}

/** Sends frames as the test writes them. */
export class FramePeer {
  readonly peer: RawPeer;

  private constructor(peer: RawPeer) {
    this.peer = peer;
  }

  /** Connects and sends preface and an empty SETTINGS. */
  static async connect(t: TestContext, url: string): Promise<FramePeer> {
    const peer = await RawPeer.connect(t, url);
    peer.send(PREFACE + frame(FRAME.settings, 0, 0));
    return new FramePeer(peer);
  }

  send(...frames: string[]): void {
    this.peer.send(frames.join(""));
  }

  /** Every whole frame so far. */
  get frames(): Frame[] {
    const bytes = Buffer.from(this.peer.received, "latin1");
    const frames: Frame[] = [];
    for (let at = 0; at + 9 <= bytes.length; ) {
      const length = bytes.readUIntBE(at, 3);
      if (at + 9 + length > bytes.length) break;
      const payload = bytes.subarray(at + 9, at + 9 + length);
      frames.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, stream: bytes.readUInt32BE(at + 5), payload });
      at += 9 + length;
    }
    return frames;
  }

  /** Resolves with the first frame that satisfies the condition. */
  async until(condition: (frame: Frame) => boolean): Promise<Frame> {
    await this.peer.until(() => this.frames.some(condition));
    return this.frames.find(condition)!;
  }

  /** Code of RST_STREAM (or GOAWAY) that a stream got. */
  async reset(stream: number): Promise<number> {
    const { type, payload } = await this.until(
      (frame) => (frame.type === FRAME.reset && frame.stream === stream) || frame.type === FRAME.goaway,
    );
    return payload.readUInt32BE(type === FRAME.goaway ? 4 : 0);
  }
}
