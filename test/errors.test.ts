import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { asHoldfastError, errorResponse, FAILURES, type FailureCode, HoldfastError } from "../src/errors.ts";

const CODES = Object.keys(FAILURES) as FailureCode[];

test("docs/errors.md has every code with its status, once, with when and what to do, and no other", () => {
  const page = readFileSync(new URL("../docs/errors.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| `(HF_\w+)` \| (\d{3}) \| (.+) \| (.+) \|$/gm)];
  assert.deepEqual(
    rows.map(([, code, status]) => `${code} ${status}`).sort(),
    CODES.map((code) => `${code} ${FAILURES[code].status}`).sort(),
  );
  for (const [, code, , when, what] of rows) {
    assert.ok(when!.length > 10 && what!.length > 5, code!);
  }
});

test("every failure becomes a response that names its code and tells nothing else", () => {
  for (const code of CODES) {
    const error = new HoldfastError(code, "secret.internal:8080 said no", { cause: new Error("secret") });
    assert.equal(error.status, FAILURES[code].status);
    assert.equal(error.source, FAILURES[code].source);
    assert.equal(error.name, "HoldfastError");
    const { status, fields, body } = errorResponse(error, "orders");
    assert.equal(status, error.status);
    assert.equal(body, `${status} ${code}\n`);
    assert.doesNotMatch(JSON.stringify(fields), /secret/);
    // RFC 9209: an item (a token) with parameters.
    const value = fields.find(([name]) => name === "Proxy-Status")?.[1];
    assert.match(value!, new RegExp(`^holdfast-orders(; error=[a-z_]+)?; details="${code}"$`));
  }
});

test("the status says whose fault it is", () => {
  for (const code of CODES) {
    const { source, status } = FAILURES[code];
    if (source === "upstream") assert.ok(status === 502 || status === 504, code);
    if (source === "plugin" || source === "config") assert.equal(status, 500, code);
    if (source === "downstream") assert.ok((status >= 400 && status < 500) || [501, 505, 508].includes(status), code);
  }
});

test("405 says what is allowed, as RFC 9110 §15.5.6 asks: nothing", () => {
  const { fields } = errorResponse(new HoldfastError("HF_METHOD_NOT_ALLOWED", "no"), "a");
  assert.deepEqual(
    fields.filter(([name]) => name === "Allow"),
    [["Allow", ""]],
  );
});

test("whatever a service is called, Proxy-Status stays a valid token", () => {
  fc.assert(
    fc.property(fc.string(), (service) => {
      const { fields } = errorResponse(new HoldfastError("HF_LOOP", "no"), service);
      const [, value] = fields.find(([name]) => name === "Proxy-Status")!;
      assert.match(value, /^holdfast-[A-Za-z0-9_-]*; error=proxy_loop_detected; details="HF_LOOP"$/);
    }),
  );
});

test("anything thrown becomes a HoldfastError; one that is one stays itself", () => {
  const own = new HoldfastError("HF_LOOP", "no");
  assert.equal(asHoldfastError(own), own);
  const cause = new TypeError("oops");
  const wrapped = asHoldfastError(cause);
  assert.deepEqual([wrapped.code, wrapped.message, wrapped.cause], ["HF_INTERNAL", "oops", cause]);
  for (const thrown of ["text", 1, null, undefined, { a: 1 }]) {
    const error = asHoldfastError(thrown);
    assert.deepEqual([error.code, error.message, error.cause], ["HF_INTERNAL", String(thrown), thrown]);
  }
});
