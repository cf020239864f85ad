import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  allowedTrailers,
  FieldList,
  isFieldValue,
  isToken,
  listElements,
  mayBeTrailer,
  parseKeepAlive,
  splitHopByHop,
} from "../../src/proxy/headers.ts";

const HOP_BY_HOP = [
  "Connection",
  "Keep-Alive",
  "Proxy-Connection",
  "TE",
  "Trailer",
  "Transfer-Encoding",
  "Upgrade",
  "HTTP2-Settings",
];
const PROTECTED = ["Host", "Content-Length", "Authorization", "Cookie"];

/** A name in any case. */
const inAnyCase = (name: string): fc.Arbitrary<string> =>
  fc
    .array(fc.boolean(), { minLength: name.length, maxLength: name.length })
    .map((upper) => [...name].map((char, at) => (upper[at] ? char.toUpperCase() : char.toLowerCase())).join(""));
const fieldName = fc.constantFrom(...HOP_BY_HOP, ...PROTECTED, "X-A", "X-B", "X-C", "Accept").chain(inAnyCase);
const token = fc.constantFrom(
  "close",
  "keep-alive",
  "upgrade",
  "x-a",
  "X-B",
  "Host",
  "content-length",
  "Cookie",
  "te",
  "",
);
const fieldValue = fc.oneof(
  fc.array(token).map((tokens) => tokens.join(", ")),
  fc.string({ unit: "grapheme-ascii", maxLength: 12 }),
);
const fields = fc.array(fc.tuple(fieldName, fieldValue), { maxLength: 12 });

test("a token is what RFC 9110 §5.6.2 says, character by character", () => {
  const allowed = new Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
  for (let code = 0; code < 0x180; code++) {
    const char = String.fromCharCode(code);
    assert.equal(isToken(char), allowed.has(char), `U+${code.toString(16)}`);
    assert.equal(isToken(`a${char}b`), allowed.has(char), `U+${code.toString(16)}`);
  }
  assert.equal(isToken(""), false);
  assert.equal(isToken("a\n"), false);
});

test("a field value is bytes without control characters but HTAB", () => {
  for (let code = 0; code < 0x180; code++) {
    const valid = code === 9 || (code >= 0x20 && code !== 0x7f && code <= 0xff);
    assert.equal(isFieldValue(`a${String.fromCharCode(code)}`), valid, `U+${code.toString(16)}`);
  }
  assert.equal(isFieldValue(""), true);
});

test("hop-by-hop fields and those that Connection names never travel on, the protected ones always do", () => {
  fc.assert(
    fc.property(fields, (lines) => {
      const flat = lines.flat();
      const before = [...flat];
      const { end } = splitHopByHop(flat);
      assert.deepEqual(flat, before, "the list given stays as it was");
      const named = new Set(
        lines.filter(([name]) => name.toLowerCase() === "connection").flatMap(([, value]) => listElements(value)),
      );
      const stays = (name: string): boolean => {
        const lower = name.toLowerCase();
        if (HOP_BY_HOP.some((hop) => hop.toLowerCase() === lower)) return false;
        return PROTECTED.some((kept) => kept.toLowerCase() === lower) || !named.has(lower);
      };
      assert.deepEqual(
        [...end],
        lines.filter(([name]) => stays(name)),
        "the others in their order, byte for byte",
      );
    }),
    { numRuns: 2000 },
  );
});

test("splitting what was split changes nothing", () => {
  fc.assert(
    fc.property(fields, (lines) => {
      const once = splitHopByHop(lines.flat()).end.flat;
      assert.deepEqual(splitHopByHop(once).end.flat, once);
    }),
  );
});

test("what the fields of a hop say", () => {
  const hop = (...flat: string[]) => splitHopByHop(flat).hop;
  assert.equal(hop("connection", "foo, CLOSE").close, true);
  assert.equal(hop("Connection", "close-not").close, false);
  assert.equal(hop("Connection", "\u00a0close").close, false);
  assert.equal(hop("Proxy-Connection", "keep-alive").keepAlive, true);
  assert.equal(hop("Proxy-Connection", "X-A", "X-A", "1").close, false);
  assert.equal(splitHopByHop(["Proxy-Connection", "X-A", "X-A", "1"]).end.get("x-a"), "1");
  assert.equal(hop("TE", "gzip;q=1, Trailers ;q=0.5").trailers, true);
  assert.equal(hop("TE", "trailers-not").trailers, false);
  assert.equal(hop("Upgrade", "websocket").upgrade, undefined);
  assert.equal(hop("Upgrade", "a", "Connection", "Upgrade", "upgrade", "b").upgrade, "a, b");
  assert.deepEqual(hop("Transfer-Encoding", "GZip,, chunked", "transfer-encoding", "x").transferCodings, [
    "gzip",
    "chunked",
    "x",
  ]);
  assert.deepEqual(hop("Trailer", "X-Sum, Host, Content-Length, x y, Set-Cookie").trailer, ["X-Sum"]);
  assert.deepEqual(hop("Keep-Alive", "timeout=5", "Keep-Alive", "timeout=9, max=3").hint, {
    timeoutMs: 5000,
    maxRequests: 3,
  });
  assert.equal(hop("X-A", "1").hint, undefined);
});

test("Keep-Alive is read in any order, case and quoting", () => {
  const parameter = (name: string, value: number): fc.Arbitrary<string> =>
    fc
      .tuple(inAnyCase(name), fc.constantFrom("", " ", "\t"), fc.boolean())
      .map(([written, space, quoted]) => `${space}${written}${space}=${space}${quoted ? `"${value}"` : value}${space}`);
  fc.assert(
    fc.property(
      fc.nat(1_000_000).chain((timeout) =>
        fc.nat(1_000_000).chain((max) =>
          fc
            .tuple(
              parameter("timeout", timeout),
              parameter("max", max),
              fc.boolean(),
              fc.constantFrom(",", ";", ",x=1,"),
            )
            .map(([first, second, swap, comma]) => ({
              text: swap ? second + comma + first : first + comma + second,
              timeout,
              max,
            })),
        ),
      ),
      ({ text, timeout, max }) => {
        assert.deepEqual(parseKeepAlive(text), { timeoutMs: timeout * 1000, maxRequests: max });
      },
    ),
  );
});

test("Keep-Alive never gives anything but whole numbers", () => {
  for (const text of [
    "timeout",
    "timeout=",
    "timeout=-1",
    "timeout=1.5",
    "timeout=1e3",
    "timeout=0x5",
    "timeout=99999999999",
  ]) {
    assert.deepEqual(parseKeepAlive(text), { timeoutMs: undefined, maxRequests: undefined }, text);
  }
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'timeoutmax=,; "0123456789.-') })),
      (text) => {
        const { timeoutMs, maxRequests } = parseKeepAlive(text);
        for (const number of [timeoutMs, maxRequests]) assert.ok(number === undefined || Number.isSafeInteger(number));
      },
    ),
  );
});

test("list elements are lower case, without the white space around, and never empty", () => {
  assert.deepEqual(listElements(" a ,,\tB\t, c d ,"), ["a", "b", "c d"]);
  assert.deepEqual(listElements(""), []);
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[a-z0-9-]{1,8}$/)),
      fc.constantFrom(",", ", ", " ,\t", ",,"),
      (list, comma) => {
        assert.deepEqual(listElements(list.join(comma)), list);
      },
    ),
  );
});

test("trailers that frame, route or authenticate are left out, in any case", () => {
  for (const name of [
    ...HOP_BY_HOP,
    ...PROTECTED,
    "Set-Cookie",
    "Via",
    "Forwarded",
    "X-Forwarded-For",
    "traceparent",
    "Content-Encoding",
  ]) {
    assert.equal(mayBeTrailer(name), false, name);
    assert.equal(mayBeTrailer(name.toUpperCase()), false, name);
  }
  assert.equal(mayBeTrailer("X-Sum"), true);
  assert.equal(mayBeTrailer("x y"), false);
  assert.equal(mayBeTrailer(""), false);
  assert.deepEqual(allowedTrailers(["X-Sum", "1", "HOST", "evil", "x-sum", "2"]), ["X-Sum", "1", "x-sum", "2"]);
});

test("a plugin cannot write what core writes, nor what would break a message", () => {
  const list = new FieldList(["Host", "a", "Content-Length", "5"]);
  for (const name of [
    "Connection",
    "KEEP-ALIVE",
    "content-length",
    "Transfer-Encoding",
    "TE",
    "Trailer",
    "Upgrade",
    "Via",
    "Host",
  ]) {
    assert.throws(() => list.set(name, "x"), TypeError, name);
    assert.throws(() => list.append(name, "x"), TypeError, name);
    assert.throws(() => list.delete(name), TypeError, name);
  }
  const text = fc.string({
    unit: fc.constantFrom("a", "X", "-", ":", " ", "\r", "\n", "\0", "\t", "\xe9", "\u010a"),
    maxLength: 6,
  });
  fc.assert(
    fc.property(text, text, (name, value) => {
      const fresh = new FieldList();
      try {
        fresh.append(name, value);
      } catch (error) {
        assert.ok(error instanceof TypeError);
        assert.equal(fresh.size, 0);
        return;
      }
      assert.match(Buffer.from(fresh.toText(), "latin1").toString("latin1"), /^[aX-]+: [^\r\n\0]*\r\n$/);
    }),
    { numRuns: 2000 },
  );
  assert.deepEqual(
    [...list],
    [
      ["Host", "a"],
      ["Content-Length", "5"],
    ],
  );
});

const change = fc.oneof(
  fc.record({ kind: fc.constant("write" as const), name: fieldName, value: token }),
  fc.record({ kind: fc.constant("append" as const), name: fc.constantFrom("X-A", "X-B"), value: token }),
  fc.record({ kind: fc.constant("remove" as const), name: fieldName }),
  fc.record({ kind: fc.constant("look" as const), name: fieldName }),
);

test("lines that are still text take changes as those that are taken apart do", () => {
  const short = token.map((value) => value.slice(0, 5));
  fc.assert(
    fc.property(fc.array(fc.tuple(fieldName, short), { maxLength: 6 }), fc.array(change), (lines, changes) => {
      const apart = new FieldList(lines.flat());
      const asText = listOfText(lines);
      for (const each of changes) {
        switch (each.kind) {
          case "write": {
            const { name } = each;
            // Often as long as the one it takes the place of.
            const value = each.value.slice(0, 5);
            apart.write(name, value);
            asText.write(name, value);
            break;
          }
          case "append":
            apart.append(each.name, each.value);
            asText.append(each.name, each.value);
            break;
          case "remove":
            assert.equal(asText.remove(each.name), apart.remove(each.name));
            break;
          case "look":
            assert.deepEqual(asText.getAll(each.name), apart.getAll(each.name));
            break;
        }
        assert.equal(asText.toText(), apart.toText());
        assert.equal(asText.size, apart.size);
      }
      assert.deepEqual([...asText], [...apart]);
    }),
    { numRuns: 2000 },
  );
});

/** As a parser makes it: the lines as one text, and where each name and value stands in it. */
function listOfText(lines: readonly (readonly [string, string])[]): FieldList {
  const offsets: number[] = [];
  let text = "";
  for (const [name, value] of lines) {
    const valueStart = text.length + name.length + 2;
    offsets.push(text.length, text.length + name.length, valueStart, valueStart + value.length);
    text += `${name}: ${value}\r\n`;
  }
  return FieldList.ofText(text, offsets);
}
