import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { findPreface } from "../../src/proxy/preface.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

test("every beginning of the preface may become it, and with all of it, it is whole", () => {
  for (let length = 0; length < PREFACE.length; length++) {
    assert.equal(findPreface(Buffer.from(PREFACE.slice(0, length))), "part");
  }
  assert.equal(findPreface(Buffer.from(PREFACE)), "whole");
  assert.equal(findPreface(Buffer.from(`${PREFACE}and frames`)), "whole");
  assert.equal(findPreface(Buffer.from(`--${PREFACE}`), 2), "whole");
});

test("what differs in one byte is not the preface, however little of it there is", () => {
  fc.assert(
    fc.property(fc.nat(PREFACE.length - 1), fc.nat(255), fc.nat(30), (at, byte, more) => {
      const bytes = Buffer.from(PREFACE);
      fc.pre(bytes[at] !== byte);
      bytes[at] = byte;
      assert.equal(findPreface(bytes.subarray(0, at + 1 + more)), "none");
    }),
  );
});
