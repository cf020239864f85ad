import assert from "node:assert/strict";
import { test } from "node:test";
import convict from "convict";
import fc from "fast-check";
import { keyText, nearest } from "../../src/config/faults.ts";
import type { SchemaTree } from "../../src/config/leaf.ts";
import type { Environment } from "../../src/config/load.ts";
import { Reading, readObject, schemaFaults } from "../../src/config/read.ts";
import { sidecarSchema } from "../../src/config/schema.ts";

function reading(schema: SchemaTree, given: unknown, env: Environment = {}): { value: unknown; faults: string[] } {
  const found = new Reading(env);
  const value = readObject(schema, given, [], found);
  return { value, faults: found.faults.map(({ path, wrong, allowed }) => `${keyText(path)}: ${wrong}; ${allowed}`) };
}

const ONE_OF_EACH: SchemaTree = {
  text: { default: "a", format: String, doc: "d" },
  number: { default: 1.5, format: Number, doc: "d" },
  whole: { default: 1, format: "nat", doc: "d" },
  int: { default: 1, format: "int", doc: "d" },
  port: { default: 1, format: "port", doc: "d" },
  flag: { default: false, format: Boolean, doc: "d" },
  list: { default: [], format: Array, doc: "d" },
  object: { default: {}, format: Object, doc: "d" },
  word: { default: "a", format: ["a", "b"], doc: "d" },
  number3: { default: 1, format: [1, 2, 3], doc: "d" },
  untyped: { default: 5, doc: "d" },
};

test("convict's own formats keep their meaning", () => {
  const given = {
    text: "x",
    number: 2.5,
    whole: 0,
    int: -3,
    port: 65_535,
    flag: true,
    list: [1],
    object: { a: { b: 1 } },
    word: "b",
    number3: 3,
    untyped: 6,
  };
  assert.deepEqual(reading(ONE_OF_EACH, given), { value: given, faults: [] });
});

test("nothing is made of text that stands where another type belongs", () => {
  const given = {
    number: "2.5",
    whole: "12 apples",
    int: "3",
    port: "80",
    flag: "yes",
    list: "a,b",
    object: '{"a":1}',
    number3: "3",
    untyped: "6",
  };
  assert.deepEqual(reading(ONE_OF_EACH, given).faults, [
    'number: "2.5" is not valid; must be a number',
    'whole: "12 apples" is not valid; must be a whole number, 0 or more',
    'int: "3" is not valid; must be a whole number',
    'port: "80" is not valid; must be a port number from 0 to 65535',
    'flag: "yes" is not valid; must be true or false',
    'list: "a,b" is not valid; must be a list',
    'object: "{\\"a\\":1}" is not valid; must be an object',
    'number3: "3" is not valid; must be one of 1, 2, 3',
    'untyped: "6" is not valid; must be a number',
  ]);
});

test("values of the right type and the wrong range are refused", () => {
  const given = { whole: -1, int: 1.5, port: 65_536, word: "c", number3: 4, text: null };
  assert.deepEqual(reading(ONE_OF_EACH, given).faults, [
    "text: null is not valid; must be a string",
    "whole: -1 is not valid; must be a whole number, 0 or more",
    "int: 1.5 is not valid; must be a whole number",
    "port: 65536 is not valid; must be a port number from 0 to 65535",
    'word: "c" is not valid; must be one of "a", "b"',
    "number3: 4 is not valid; must be one of 1, 2, 3",
  ]);
});

test("environment text is read as the type it must be, and as no other", () => {
  const schema: SchemaTree = {
    number: { default: 0, format: Number, env: "A_NUMBER", doc: "d" },
    flag: { default: false, format: Boolean, env: "A_FLAG", doc: "d" },
    list: { default: [], format: Array, env: "A_LIST", doc: "d" },
    object: { default: {}, format: Object, env: "AN_OBJECT", doc: "d" },
  };
  const good = { A_NUMBER: "-2.5", A_FLAG: "true", A_LIST: "a,b", AN_OBJECT: '{"a":1}' };
  assert.deepEqual(reading(schema, {}, good).value, { number: -2.5, flag: true, list: ["a", "b"], object: { a: 1 } });
  assert.deepEqual(reading(schema, {}, { A_NUMBER: "1e3", A_FLAG: "TRUE", AN_OBJECT: "{" }).faults, [
    'number: "1e3" is not valid; must be a number',
    'flag: "TRUE" is not valid; must be true or false',
    'object: "{" is not valid; must be an object',
  ]);
});

test("a sensitive value is not repeated in its fault", () => {
  const schema: SchemaTree = { token: { default: "", format: String, sensitive: true, env: "TOKEN", doc: "d" } };
  assert.deepEqual(reading(schema, { token: 12345 }).faults, ["token: the value is not valid; must be a string"]);
});

test("no JSON value crashes the reader of sidecar.json, and each is accepted or has a fault", () => {
  const known = fc.constantFrom(
    ...Object.keys(sidecarSchema),
    "listen",
    "upstream",
    "routes",
    "tls",
    "use",
    "config",
    "traces",
    "ratio",
    "__proto__",
    "constructor",
    "prototype",
    "_cvtProperties",
  );
  const { document } = fc.letrec<{ document: unknown }>((tie) => ({
    document: fc.oneof(
      { maxDepth: 4 },
      fc.jsonValue(),
      fc.array(tie("document"), { maxLength: 3 }),
      fc.dictionary(fc.oneof(known, fc.string()), tie("document"), { maxKeys: 6 }),
    ),
  }));
  fc.assert(
    fc.property(document, (value) => {
      const { faults } = reading(sidecarSchema as SchemaTree, value);
      // None of these is a whole configuration: a service would have to be named.
      const named = typeof value === "object" && value !== null && typeof Object(value)["service"] === "string";
      assert.ok(named || faults.length > 0);
    }),
  );
});

test("the schema of sidecar.json has a doc for every field, and convict itself accepts it", () => {
  assert.deepEqual(schemaFaults(sidecarSchema as SchemaTree), []);
  const config = convict(sidecarSchema, { env: {}, args: [] });
  config.load({ service: "orders", inbound: { upstream: "http://127.0.0.1:8080" } });
  config.validate({ allowed: "strict" });
  assert.equal(config.get("drain").deadline, 30_000);
});

test("a schema without doc, with an unknown format or a wrong default is found out", () => {
  const schema: SchemaTree = {
    short: 80 as unknown as SchemaTree,
    blank: { default: 1, format: "nat", doc: " " },
    strange: { default: 1, format: "furlongs", doc: "d" },
    wrong: { default: -1, format: "nat", doc: "d" },
    list: { default: [], format: "holdfast-list", doc: "d", items: { inner: { default: 1, format: "nat" } } },
  };
  assert.deepEqual(schemaFaults(schema), [
    "short has no doc",
    "blank has no doc",
    "strange: it uses an unknown format type: furlongs",
    "wrong: its default is not valid: must be a positive integer",
    "list.inner has no doc",
  ]);
});

test("a mistyped word gets the nearest known one, a strange word none", () => {
  const known = ["downstream", "upstream", "margin"];
  assert.equal(nearest("downstrem", known), "downstream");
  assert.equal(nearest("Upstream", known), "upstream");
  assert.equal(nearest("drian", ["admin", "drain"]), "drain");
  assert.equal(nearest("margins", known), "margin");
  assert.equal(nearest("xyzzy", known), undefined);
  assert.equal(nearest("x", []), undefined);
});
