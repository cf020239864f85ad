import assert from "node:assert/strict";
import { test } from "node:test";
import { returnBodyMemory, SHARED_BYTES, takeBodyMemory } from "../../src/proxy/read-memory.ts";

test("no two who read a body have the same memory, and what was returned is used again", () => {
  const first = takeBodyMemory();
  const second = takeBodyMemory();
  assert.notEqual(first.buffer, second.buffer);
  assert.notEqual(first.buffer, SHARED_BYTES.buffer);
  returnBodyMemory(first);
  assert.equal(takeBodyMemory(), first);
});
