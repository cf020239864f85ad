import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ProbeResult, Truth } from "../../src/probe/result.ts";
import { needs } from "../interop/programs.ts";
import { PEERS } from "./all.ts";
import { measured } from "./measure.ts";
import { type Documented, startPeer } from "./real-peer.ts";

/** Below every default: those of some servers are minutes. `npm run peers` waits for them. */
const BELOW_DEFAULTS_MS = 300;
/** Above the limits that are set here. */
const MOST_REQUESTS = 8;
/** What clocks of two processes may be apart. */
const CLOCK_MS = 20;

function assertRequests({ requests }: ProbeResult, documented: Documented): void {
  const expected =
    documented.requests > MOST_REQUESTS
      ? { answered: MOST_REQUESTS, end: "not reached" }
      : { answered: documented.requests, end: "announced" };
  assert.deepEqual(requests, expected);
}

function assertHint({ hint, hintTruth }: ProbeResult, { announcedMs, idleMs }: Documented, isWaitedFor: boolean): void {
  assert.equal(hint?.timeoutMs ?? undefined, announcedMs);
  const truth: Truth = (announcedMs ?? 0) > idleMs ? "closes early" : "true";
  const expected = isWaitedFor ? truth : "unknown";
  assert.equal(hintTruth.timeout, announcedMs === undefined ? "none" : expected);
}

describe("probing real servers", { concurrency: 6 }, () => {
  for (const peer of PEERS) {
    const [defaults, ...others] = peer.settings;

    test(
      `${peer.name}, ${defaults!.name}: connections are kept, and open for as long as is waited`,
      needs(...peer.programs),
      async (t) => {
        const result = await measured(await startPeer(t, defaults!), BELOW_DEFAULTS_MS, MOST_REQUESTS);
        assert.deepEqual(result.notMeasured, []);
        assert.equal(result.keepAlive.http11, "kept");
        assert.equal(result.keepAlive.http11Close, "closed");
        assert.equal(result.idle.afterRequest?.shortestMs, null);
        assert.equal(result.idle.afterRequest?.stillAnswers, true);
        assertRequests(result, defaults!.documented);
        assertHint(result, defaults!.documented, false);
      },
    );

    for (const setting of others) {
      test(`${peer.name}, ${setting.name}: the limits that were set are found`, needs(...peer.programs), async (t) => {
        const { documented } = setting;
        const result = await measured(await startPeer(t, setting), 3 * documented.idleMs + 1000, MOST_REQUESTS);
        assert.deepEqual(result.notMeasured, []);
        const { afterRequest } = result.idle;
        assert.deepEqual(
          afterRequest?.connections.map(({ end }) => end),
          ["fin", "fin", "fin"],
        );
        assert.ok(afterRequest.shortestMs! >= documented.idleMs - CLOCK_MS, `${afterRequest.shortestMs}`);
        assertRequests(result, documented);
        assertHint(result, documented, true);
      });
    }
  }
});
