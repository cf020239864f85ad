import assert from "node:assert/strict";
import { test } from "node:test";
import convict from "convict";
import fc from "fast-check";
import { keyText } from "../../src/config/faults.ts";
import type { SchemaTree } from "../../src/config/leaf.ts";
import { ContainerFault, Reading, readObject } from "../../src/config/read.ts";
import { duration, formatDuration, listOf, optionalDuration, size } from "../../src/plugin/schema.ts";

function read(schema: unknown, given: unknown): { value: unknown; faults: string[] } {
  const reading = new Reading({});
  const value = readObject(schema as SchemaTree, given, [], reading);
  return { value, faults: reading.faults.map(({ path, wrong, allowed }) => `${keyText(path)}: ${wrong}; ${allowed}`) };
}

test("durations and sizes are numbers in code, from text with a unit", () => {
  const schema = { time: duration("1s", "d"), room: size("1KiB", "d"), maybe: optionalDuration("d") };
  assert.deepEqual(read(schema, {}).value, { time: 1000, room: 1024, maybe: null });
  assert.deepEqual(read(schema, { time: "1.5m", room: "2MiB", maybe: "off" }).value, {
    time: 90_000,
    room: 2_097_152,
    maybe: Number.POSITIVE_INFINITY,
  });
  assert.deepEqual(read(schema, { maybe: null }).value, { time: 1000, room: 1024, maybe: null });
});

test("a number without a unit is refused, whatever it is", () => {
  const schema = { time: duration("1s", "d"), room: size("1KiB", "d") };
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (number) => {
      const { faults } = read(schema, { time: number, room: number });
      assert.equal(faults.length, 2);
      assert.match(faults[0]!, /^time: .* is not valid; must be a duration with a unit: "250ms", "55s"/);
      assert.match(faults[1]!, /^room: .* is not valid; must be a size with a unit: "512B", "64KiB"/);
    }),
  );
});

test("a range holds at both ends, and a greatest value refuses off", () => {
  const schema = { time: duration("5s", "d", { min: "1s", max: "10s" }) };
  for (const time of ["1s", "10s"]) assert.deepEqual(read(schema, { time }).faults, []);
  assert.deepEqual(read(schema, { time: "999ms" }).faults, ['time: "999ms" is not valid; must be at least "1s"']);
  assert.deepEqual(read(schema, { time: "10001ms" }).faults, ['time: "10001ms" is not valid; must be at most "10s"']);
  assert.deepEqual(read(schema, { time: "off" }).faults, ['time: "off" is not valid; must be at most "10s"']);
});

const RULES = {
  match: listOf<{ path: string; after: number; inner: { room: number } }>(
    {
      path: { default: null, format: String, doc: "d" },
      after: duration("5s", "d"),
      inner: { room: size("1KiB", "d") },
    },
    "d",
  ),
};

test("each element of a list gets its defaults, and its durations and sizes become numbers", () => {
  assert.deepEqual(read(RULES, {}).value, { match: [] });
  const given = { match: [{ path: "/a" }, { path: "/b", after: "1m", inner: { room: "2KiB" } }] };
  assert.deepEqual(read(RULES, given).value, {
    match: [
      { path: "/a", after: 5000, inner: { room: 1024 } },
      { path: "/b", after: 60_000, inner: { room: 2048 } },
    ],
  });
});

test("every fault in a list names its element and key", () => {
  const given = { match: [{ pth: "/a" }, { path: 5, inner: { room: 5 } }, "x"] };
  assert.deepEqual(read(RULES, given).faults, [
    'match[0].pth: unknown key "pth"; did you mean "path"?',
    "match[0].path: is missing; must be given here: d",
    "match[1].path: 5 is not valid; must be a string",
    'match[1].inner.room: 5 is not valid; must be a size with a unit: "512B", "64KiB", "2MiB", "1GiB" or "off"',
    'match[2]: "x" is not valid; must be an object',
  ]);
  assert.deepEqual(read(RULES, { match: {} }).faults, ["match: {} is not valid; must be a list of objects"]);
});

test("convict by itself checks lists just as strictly", () => {
  const config = convict(RULES, { env: {}, args: [] });
  config.load({ match: [{ path: "/a" }] }).validate({ allowed: "strict" });
  config.load({ match: [{ path: "/a" }, { path: 5 }] });
  assert.throws(() => config.validate({ allowed: "strict" }), /match: \[1\]\.path: 5 is not valid; must be a string/);
  const fault = new ContainerFault([{ path: [1, "path"], wrong: "5 is not valid", allowed: "must be a string" }]);
  assert.deepEqual(fault.faults, [{ key: "[1].path", message: "5 is not valid; must be a string" }]);
});

test("whatever duration is written, code gets its milliseconds", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (ms) => {
      assert.deepEqual(read({ time: duration("1s", "d") }, { time: formatDuration(ms) }).value, { time: ms });
    }),
  );
});
