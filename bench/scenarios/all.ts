/**
 * Every scenario, in the order in which they run.
 *
 * @module
 */
import { ALL_BUT_TRACED, ALL_PEERS } from "../peers/all.ts";
import { holdfast, holdfastEmpty, holdfastNoOps } from "../peers/holdfast.ts";
import { fixedRate } from "./fixed-rate.ts";
import { idle } from "./idle.ts";
import { memory } from "./memory.ts";
import { saturating } from "./saturating.ts";
import type { Scenario } from "./scenario.ts";
import { start } from "./start.ts";

/** `holdfast` at 64 connections, measured in the rounds of `small-1024`. */
export const HOLDFAST_AT_64 = "holdfast at 64";

export const ALL_SCENARIOS: readonly Scenario[] = [
  saturating({
    name: "small-64",
    title: "GET of 100 bytes, 64 connections",
    peers: ALL_PEERS,
    connections: 64,
    metrics: ["cpuMicros", "requestsPerSecond", "p50Ms", "p99Ms", "residentBytes", "spansPerRequest"],
  }),
  saturating({
    name: "small-1024",
    title: "GET of 100 bytes, 1,024 connections",
    peers: ALL_BUT_TRACED,
    connections: 1024,
    also: { peer: holdfast, label: HOLDFAST_AT_64, connections: 64 },
  }),
  saturating({
    name: "post-1k",
    title: "POST of 1 KiB, 64 connections",
    peers: ALL_BUT_TRACED,
    connections: 64,
    request: { method: "POST", path: "/small", body: Buffer.from("0123456789abcde\n".repeat(64)) },
  }),
  saturating({
    name: "large",
    title: "Response of 1 MiB, 64 connections",
    peers: ALL_BUT_TRACED,
    connections: 64,
    request: { method: "GET", path: "/large", body: new Uint8Array() },
  }),
  saturating({
    name: "new-connections",
    title: "GET of 100 bytes, each on a new connection, 64 at a time",
    peers: ALL_BUT_TRACED,
    connections: 64,
    closes: true,
  }),
  saturating({
    name: "plugins",
    title: "GET of 100 bytes, 64 connections, with 20 plugins more",
    peers: [holdfast, holdfastNoOps, holdfastEmpty],
    connections: 64,
    freshEachRound: true,
  }),
  saturating({
    name: "https",
    title: "GET of 100 bytes from an HTTPS upstream, 64 connections",
    peers: ALL_BUT_TRACED,
    connections: 64,
    scheme: "https",
  }),
  fixedRate,
  idle,
  start,
  memory,
];
