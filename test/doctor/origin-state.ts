/** Entries of `GET /origins`, as a running sidecar writes them. */
import type { LearnedState, OriginState } from "../../src/doctor/running.ts";

const NOTHING_LEARNED: LearnedState = { idle: null, requests: null, age: null, openAtMs: 0 };

/** An entry of which only this is special. */
export function originState(
  special: Omit<Partial<OriginState>, "learned"> & { readonly learned?: Partial<LearnedState> } = {},
): OriginState {
  const { learned, ...rest } = special;
  return {
    direction: "inbound",
    origin: "http://127.0.0.1:8080",
    backend: null,
    pool: { connections: 0, idle: 0, watched: 0, queued: 0 },
    idleLimit: null,
    roundTripMs: 0,
    addresses: [],
    poolSize: { idleKept: "off", advice: null },
    ...rest,
    learned: { ...NOTHING_LEARNED, ...learned },
  };
}
