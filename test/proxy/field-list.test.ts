import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FieldList, type Offsets } from "../../src/proxy/headers.ts";

/** A list whose lines are still text, as the wire forwarder makes them; white space stands around the values. */
function textList(fields: readonly (readonly [string, string])[]): FieldList {
  let text = "";
  const offsets: Offsets = [];
  for (const [name, value] of fields) {
    const start = text.length;
    const valueStart = start + name.length + 2;
    offsets.push(start, start + name.length, valueStart, valueStart + value.length);
    text += `${name}: ${value} \r\n`;
  }
  return FieldList.ofText(text, offsets);
}

const name = fc.constantFrom("A", "a", "B", "Traceparent", "traceparent", "x-b");
const value = fc.constantFrom("", "1", "22", "xy", "B: 1", "a:", "longer value");
const step = fc.oneof(
  fc.record({ call: fc.constantFrom("set", "append", "write"), name, value }),
  fc.record({ call: fc.constantFrom("delete", "get", "getAll", "has"), name }),
  fc.record({ call: fc.constantFrom("size") }),
);

test("a list that is still text behaves as one that is taken apart, whatever is done to it", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(name, value), { maxLength: 5 }),
      fc.array(step, { maxLength: 8 }),
      (fields, steps) => {
        const text = textList(fields);
        const flat = new FieldList(fields.flat());
        const call = (list: FieldList, at: (typeof steps)[number]): unknown => {
          if (at.call === "size") return list.size;
          if (!("name" in at)) throw new Error("no name");
          if ("value" in at) return list[at.call as "set"](at.name, at.value);
          return list[at.call as "get"](at.name);
        };
        for (const at of steps) assert.deepEqual(call(text, at), call(flat, at), at.call);
        const lines = text.toText().replaceAll(/[ \t]*\r\n/g, "\r\n");
        assert.equal(lines, flat.toText().replaceAll(/[ \t]*\r\n/g, "\r\n"));
        assert.deepEqual([...text], [...flat]);
      },
    ),
    { numRuns: 2000 },
  );
});

test("a value of the same length is replaced where it stands", () => {
  const list = textList([
    ["Host", "a"],
    ["traceparent", "old"],
    ["Accept", "*/*"],
  ]);
  list.set("Traceparent", "new");
  assert.equal(list.toText(), "Host: a \r\ntraceparent: new \r\nAccept: */* \r\n");
});
