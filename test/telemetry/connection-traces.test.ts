import assert from "node:assert/strict";
import { test } from "node:test";
import { moduleUrl, retained } from "../support/retained.ts";

for (const sampled of [false, true]) {
  test(`a closed connection is let go of, ${sampled ? "recorded" : "not recorded"}`, () => {
    const kept = retained(`
      const { ConnectionTraces } = await import(${moduleUrl("src/telemetry/connection-traces.ts")});
      const spans = { begin: () => false };
      const traces = new ConnectionTraces({ spans, sampled: () => ${sampled} });
      return {
        make(payload) {
          const connection = {
            side: "downstream",
            direction: "inbound",
            setup: { startedAtEpochMs: 0 },
            localAddress: "127.0.0.1",
            localPort: 1,
            payload,
          };
          return { connection, hooks: traces.opened(connection) };
        },
        end: ({ hooks }) => hooks.close("peer_closed"),
      };
    `);
    assert.ok(kept < 500, `${kept} of 4,000 are still there`);
  });
}
