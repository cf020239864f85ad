import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS } from "../support/peers.ts";
import { soak } from "./soak.ts";

/** The same every time, so that a change alone makes it fail; the long run picks its own. */
const SEED = 20_261_120;
const REQUESTS = 10_000;

/** Only there the descriptors of a process can be read. */
const skip = process.platform === "linux" ? false : "needs /proc";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: churn, errors and reloads cost no descriptor and no answer`, { skip }, async () => {
    const result = await soak({ forwarder, requests: REQUESTS, seed: SEED, reloadEvery: 1000, settleMs: 0 });
    assert.deepEqual(result.wrong, []);
    assert.ok(result.raced <= REQUESTS / 1000, `${result.raced} raced`);
    assert.deepEqual(result.errors, []);
    assert.equal(result.exitCode, 0);
    assert.ok(result.left > 0);
    assert.ok(result.reloads >= REQUESTS / 1000);
    const [, first, second] = result.readings;
    assert.equal(second!.descriptors, first!.descriptors);
  });
}
