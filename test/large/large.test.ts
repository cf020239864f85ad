/** The short form of `npm run test:large`: 256 MiB through each forwarder, with all of telemetry on. */
import assert from "node:assert/strict";
import test from "node:test";
import { FORWARDERS } from "../support/peers.ts";
import { build, mostBytes, run } from "./bodies.ts";

const BYTES = 64 * 1024 * 1024;
const main = build();

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: large bodies arrive whole at slow readers, in constant memory`, async () => {
    const { carried } = await run({ main, forwarder, telemetry: true, bytes: BYTES });
    assert.deepEqual(
      carried.map(({ way, framing }) => `${way} ${framing}`),
      ["upload length", "upload chunked", "download length", "download chunked"],
    );
    for (const { way, framing, sent, arrived, peakBytes } of carried) {
      assert.equal(arrived, sent, `${way} ${framing}`);
      assert.ok(peakBytes < mostBytes(forwarder, true), `${way} ${framing}: ${peakBytes} bytes`);
    }
  });
}
