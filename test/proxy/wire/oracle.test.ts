import assert from "node:assert/strict";
import test from "node:test";
import { fuzz } from "./fuzz.ts";

/** The same every time, so that a change alone makes it fail; the long run picks its own. */
const SEED = 20_261_120;
const CASES = 5000;

test("the wire forwarder finds in generated messages what node:http finds, or less for a written reason", async () => {
  const { accepted, refused, explained, differences } = await fuzz(CASES, SEED);
  assert.deepEqual(differences, []);
  // Both sides of the comparison were really at work.
  assert.ok(accepted > CASES / 10, `${accepted} accepted`);
  assert.ok(refused > CASES / 10, `${refused} refused`);
  assert.ok(explained.size > 10, `${explained.size} explanations used`);
});
