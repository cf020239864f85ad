import assert from "node:assert/strict";
import { test } from "node:test";
import { SidecarValues } from "../../src/doctor/sidecar-hop.ts";
import { originState } from "./origin-state.ts";

const LEARNED = originState({ learned: { idle: { timeoutMs: 5000, leaveAfterMs: 4900, confidence: 1, closes: 9 } } });

function upstreamIdleMs(plugins: readonly (readonly [key: string, value: unknown])[]): number | undefined {
  const values = [["inbound.upstream", "http://127.0.0.1:8080"] as const, ...plugins];
  const sidecar = new SidecarValues(
    values.map(([key, value]) => ({ key, value })),
    { origins: [LEARNED], callers: [] },
  );
  return sidecar.hop(sidecar.routes[0]!).upstream?.idleMs;
}

test("what a sidecar has learned holds unless idle-timeout is told not to learn", () => {
  const plugin = [
    ["plugins[0].use", "idle-timeout"],
    ["plugins[0].config.upstream", "50s"],
  ] as const;
  assert.equal(upstreamIdleMs([...plugin, ["plugins[0].config.learn", true]]), 4900);
  assert.equal(upstreamIdleMs([...plugin, ["plugins[0].config.learn", false]]), 50_000);
  assert.equal(upstreamIdleMs([]), 4900);
});

test("how early an announced timeout is left is what idle-timeout is told", () => {
  const values = [
    { key: "outbound.routes[0].upstream", value: "http://10.0.0.9" },
    { key: "plugins[0].use", value: "idle-timeout" },
    { key: "plugins[0].config.margin", value: "0s" },
  ];
  const sidecar = new SidecarValues(values);
  const { upstream } = sidecar.hop(sidecar.routes[0]!);
  assert.equal(upstream?.hintMarginMs, 0);
});
