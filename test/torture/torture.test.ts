import assert from "node:assert/strict";
import test from "node:test";
import { SUBJECTS } from "./subjects.ts";
import { EDGE_MS, type TortureResult, torture } from "./torture.ts";

const RUN = { hint: "", lanes: 8, requests: 80, seed: 1 } as const;

/** The long form is `npm run torture`, which also asks how many POSTs fail: that depends on the machine. */
function assertNothingServedTwice(result: TortureResult): void {
  assert.equal(result.getsFailed, 0);
  assert.equal(result.postsTwice, 0);
  assert.equal(result.otherFailures, 0);
  assert.equal(result.failureLines.length, result.postsFailed);
  for (const line of result.failureLines) assert.match(line, /127\.0\.0\.1:\d+ closed .* idle, with \d+ bytes/);
}

for (const [forwarder, close] of [
  ["wire", "RST"],
  ["http-proxy-3", "FIN"],
] as const) {
  const subject = SUBJECTS.find(({ name }) => name === `holdfast (${forwarder})`)!;
  test(`${forwarder}: no GET fails and no POST is served twice as the origin closes (${close})`, async () => {
    assertNothingServedTwice(await torture({ ...RUN, subject, close, originIdleMs: EDGE_MS }));
  });
}

test("connections to an origin that keeps them are reused", async () => {
  const result = await torture({ ...RUN, subject: SUBJECTS[0]!, close: "FIN", originIdleMs: 60_000 });
  assertNothingServedTwice(result);
  assert.equal(result.postsFailed, 0);
  assert.ok(result.reuse >= 0.9, `${result.reuse}`);
});
