import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { KeepAlive } from "../../src/plugin/api.ts";
import type { ProxyConnection } from "../../src/proxy/connection.ts";
import {
  addDownstreamFields,
  addVia,
  type ForwardingFields,
  keepAliveValue,
  upstreamFields,
} from "../../src/proxy/forwarding.ts";
import { FieldList, splitHopByHop } from "../../src/proxy/headers.ts";
import { checkRequestHead } from "../../src/proxy/request-rules.ts";

const LIMITS = { headBytes: 65_536, fields: 200, targetBytes: 16_384, replayBytes: 0, streams: 100 };
const NOTHING: ForwardingFields = { trusted: undefined, xForwarded: false, forwarded: false, via: undefined };
const ALL: ForwardingFields = { trusted: undefined, xForwarded: true, forwarded: true, via: "me" };
const INFINITE = Number.POSITIVE_INFINITY;

interface Facts {
  readonly keepAlive?: Partial<KeepAlive>;
  readonly exchanges?: number;
  readonly ageMs?: number;
  readonly protocol?: string;
  readonly remoteAddress?: string;
  readonly closes?: boolean;
}

/** The part of a connection that decides what is written. */
function connection(facts: Facts = {}): ProxyConnection {
  return {
    keepAlive: {
      enabled: true,
      idleTimeoutMs: INFINITE,
      agreedTimeoutMs: INFINITE,
      maxRequests: INFINITE,
      maxAgeMs: INFINITE,
      advertise: false,
      ...facts.keepAlive,
    },
    exchanges: facts.exchanges ?? 1,
    ageMs: facts.ageMs ?? 0,
    protocol: facts.protocol ?? "http/1.1",
    remoteAddress: facts.remoteAddress ?? "192.0.2.1",
    reasonToClose: () => (facts.closes ? "max_requests" : undefined),
  } as ProxyConnection;
}

function sent(
  fields: string[],
  { forwarding = NOTHING, upstream = {}, downstream = {}, upgrade = undefined as string | undefined } = {},
): FieldList {
  const head = checkRequestHead({ method: "POST", target: "/", version: "1.1", fields, secure: false }, LIMITS);
  return new FieldList(upstreamFields(head, connection(downstream), connection(upstream), forwarding, upgrade));
}

test("Host comes first, from the authority, and once", () => {
  const head = checkRequestHead(
    { method: "GET", target: "http://b.example/", version: "1.1", fields: ["X", "1", "hOsT", "a"], secure: false },
    LIMITS,
  );
  const flat = upstreamFields(head, connection(), connection(), NOTHING, undefined);
  assert.deepEqual(flat, ["Host", "b.example", "X", "1", "Connection", "keep-alive"]);
});

test("framing is written again from what was understood", () => {
  const chunked = sent(["Host", "a", "Transfer-Encoding", "CHUNKED", "Trailer", "X-Sum"]);
  assert.deepEqual(chunked.getAll("transfer-encoding"), ["chunked"]);
  assert.deepEqual(chunked.getAll("trailer"), ["X-Sum"]);
  const length = sent(["Host", "a", "Content-Length", "5", "Trailer", "X-Sum"]);
  assert.deepEqual(length.getAll("content-length"), ["5"]);
  assert.deepEqual(length.getAll("trailer"), []);
});

test("Connection says what this hop is", () => {
  assert.equal(sent(["Host", "a"]).get("connection"), "keep-alive");
  assert.equal(sent(["Host", "a"], { upstream: { closes: true } }).get("connection"), "close");
  assert.equal(sent(["Host", "a", "TE", "trailers"]).get("connection"), "keep-alive, TE");
  const upgraded = sent(["Host", "a", "Connection", "upgrade", "Upgrade", "foo"], { upgrade: "foo" });
  assert.equal(upgraded.get("connection"), "Upgrade");
  assert.deepEqual(upgraded.getAll("upgrade"), ["foo"]);
});

test("Keep-Alive is written only where it is advertised and the connection stays", () => {
  const keepAlive = { advertise: true, idleTimeoutMs: 5000 };
  assert.equal(sent(["Host", "a"], { upstream: { keepAlive } }).get("keep-alive"), "timeout=5");
  assert.equal(sent(["Host", "a"], { upstream: { keepAlive, closes: true } }).has("keep-alive"), false);
  assert.equal(sent(["Host", "a"], { upstream: { keepAlive: { idleTimeoutMs: 5000 } } }).has("keep-alive"), false);

  const answer = (facts: Facts, closes: boolean): string[] => {
    const flat: string[] = [];
    addDownstreamFields(flat, connection(facts), closes);
    return flat;
  };
  assert.deepEqual(answer({ keepAlive }, false), ["Connection", "keep-alive", "Keep-Alive", "timeout=5"]);
  assert.deepEqual(answer({ keepAlive }, true), ["Connection", "close"]);
  assert.deepEqual(answer({ keepAlive, protocol: "h2" }, false), []);
});

test("Keep-Alive promises whole seconds, rounded down, and never more than is kept", () => {
  const value = (facts: Facts): string | undefined => keepAliveValue(connection(facts));
  assert.equal(value({}), undefined);
  assert.equal(value({ keepAlive: { idleTimeoutMs: 999 } }), undefined);
  assert.equal(value({ keepAlive: { idleTimeoutMs: 60_999, agreedTimeoutMs: 5999 } }), "timeout=5");
  assert.equal(value({ keepAlive: { maxRequests: 10 }, exchanges: 3 }), "max=7");
  assert.equal(value({ keepAlive: { idleTimeoutMs: 1000, maxRequests: 1 }, exchanges: 3 }), "timeout=1, max=0");
  assert.equal(value({ keepAlive: { idleTimeoutMs: 60_000, maxAgeMs: 30_000 }, ageMs: 20_500 }), "timeout=9");
  const ms = fc.oneof(fc.constant(INFINITE), fc.nat(200_000));
  fc.assert(
    fc.property(
      ms,
      ms,
      ms,
      fc.nat(100_000),
      fc.oneof(fc.constant(INFINITE), fc.nat(20)),
      fc.nat(30),
      (idle, agreed, age, ageMs, max, exchanges) => {
        const text = value({
          keepAlive: { idleTimeoutMs: idle, agreedTimeoutMs: agreed, maxAgeMs: age, maxRequests: max },
          ageMs,
          exchanges,
        });
        const [, timeout] = /timeout=(\d+)/.exec(text ?? "") ?? [];
        const [, left] = /max=(\d+)/.exec(text ?? "") ?? [];
        if (timeout !== undefined) {
          assert.ok(Number(timeout) >= 1);
          for (const limit of [idle, agreed, age - ageMs]) assert.ok(Number(timeout) * 1000 <= limit);
        }
        assert.equal(left, max === INFINITE ? undefined : String(Math.max(0, max - exchanges)));
      },
    ),
  );
});

test("forwarding fields join what was there, ours last", () => {
  const fields = sent(
    [
      "Host",
      "a:81",
      "x-forwarded-for",
      "1.1.1.1",
      "X-Forwarded-For",
      "2.2.2.2",
      "Forwarded",
      "for=1.1.1.1",
      "Via",
      "1.0 one",
    ],
    { forwarding: ALL },
  );
  assert.deepEqual(fields.getAll("X-Forwarded-For"), ["1.1.1.1, 2.2.2.2, 192.0.2.1"]);
  assert.deepEqual(fields.getAll("X-Forwarded-Proto"), ["http"]);
  assert.deepEqual(fields.getAll("X-Forwarded-Host"), ["a:81"]);
  assert.deepEqual(fields.getAll("Forwarded"), ['for=1.1.1.1, for=192.0.2.1;proto=http;host="a:81"']);
  assert.deepEqual(fields.getAll("Via"), ["1.0 one, 1.1 me"]);
});

test("an IPv6 address stands in Forwarded as RFC 7239 §6 wants it", () => {
  const fields = sent(["Host", "a"], { forwarding: ALL, downstream: { remoteAddress: "2001:db8::1" } });
  assert.equal(fields.get("forwarded"), 'for="[2001:db8::1]";proto=http;host="a"');
  assert.equal(fields.get("x-forwarded-for"), "2001:db8::1");
});

test("Via grows by one element for each hop", () => {
  const fields = new FieldList();
  for (const name of ["one", "two", "three"]) addVia(fields, "1.1", name);
  assert.deepEqual(fields.flat, ["Via", "1.1 one, 1.1 two, 1.1 three"]);
});

test("whatever a request says, what goes upstream says each thing of this hop once, and frames as it came", () => {
  const line = fc.tuple(
    fc.constantFrom(
      "Connection",
      "Keep-Alive",
      "TE",
      "Trailer",
      "Upgrade",
      "Proxy-Connection",
      "X-A",
      "Cookie",
      "Via",
      "X-Forwarded-For",
    ),
    fc.constantFrom("close", "keep-alive", "X-A", "trailers", "Host, Content-Length, Cookie", "upgrade", "1.1 other"),
  );
  const framings = fc.constantFrom<string[]>([], ["Content-Length", "5"], ["Transfer-Encoding", "chunked"]);
  fc.assert(
    fc.property(
      fc.array(line, { maxLength: 8 }),
      framings,
      fc.boolean(),
      fc.boolean(),
      (lines, framing, closes, all) => {
        const fields = sent(["Host", "a", ...lines.flat(), ...framing], {
          forwarding: all ? ALL : NOTHING,
          upstream: { closes },
        });
        assert.deepEqual(fields.getAll("host"), ["a"]);
        for (const name of ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "content-length"]) {
          assert.ok(fields.getAll(name).length <= 1, name);
        }
        assert.deepEqual(fields.getAll("upgrade"), []);
        assert.deepEqual(fields.getAll("content-length"), framing[0] === "Content-Length" ? ["5"] : []);
        assert.deepEqual(fields.getAll("transfer-encoding"), framing[0] === "Transfer-Encoding" ? ["chunked"] : []);
        const { hop, end } = splitHopByHop(fields.flat);
        assert.equal(hop.close, closes);
        assert.equal(
          end.getAll("cookie").length,
          lines.filter(([name]) => name === "Cookie").length,
          "Connection names only what belongs to this hop",
        );
      },
    ),
    { numRuns: 1000 },
  );
});
