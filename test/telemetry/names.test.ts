import assert from "node:assert/strict";
import { test } from "node:test";
import * as conventions from "@opentelemetry/semantic-conventions/incubating";
import { ATTR, METRIC, OTHER } from "../../src/telemetry/names.ts";

const published = new Set<unknown>(Object.values(conventions));
/** Attributes of `holdfast.*` metrics alone: what they mean stands in the metric's name. */
const SHORT = new Set(["result", "source"]);

for (const [group, names] of [
  ["attribute", ATTR],
  ["metric", METRIC],
] as const) {
  for (const name of Object.values(names)) {
    if (name.startsWith("holdfast.") || name.startsWith("http.conn.") || SHORT.has(name)) continue;
    test(`${group} ${name} is a semantic convention`, () => assert.ok(published.has(name)));
  }
}

test("names are not used twice", () => {
  for (const names of [Object.values<string>(ATTR), Object.values<string>(METRIC)]) {
    assert.equal(new Set(names).size, names.length);
  }
});

test("_OTHER is the value of the conventions", () => {
  assert.equal(OTHER, conventions.HTTP_REQUEST_METHOD_VALUE_OTHER);
});
