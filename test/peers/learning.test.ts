import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { needs } from "../interop/programs.ts";
import { observer } from "../support/observer.ts";
import { RawPeer, testSidecar } from "../support/peers.ts";
import { PEERS } from "./all.ts";
import { type PeerSetting, type RealPeer, startPeer } from "./real-peer.ts";

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
/** What is enough to know an idle limit. */
const CLOSES = 3;

/** What three closes leave open: the limit may vary by 10 % either way, and the longest was seen first. */
const MOST_BELOW = 0.8;

/**
 * The first setting whose limit is not announced, or not as it is: nothing but closes tells it. And not one that is
 * anything within a long tick, of which three closes do not make a limit.
 */
function unannounced({ settings }: RealPeer): PeerSetting | undefined {
  return settings.slice(1).find(({ documented: { announcedMs, idleMs, tickMs = 0 } }) => {
    return (announcedMs === undefined || announcedMs > idleMs) && tickMs <= idleMs / 10;
  });
}

describe("learning from real servers", { concurrency: 4 }, () => {
  for (const peer of PEERS) {
    const setting = unannounced(peer);
    if (setting === undefined) continue;

    test(
      `${peer.name}, ${setting.name}: its idle limit is learned from ${CLOSES} closes`,
      needs(...peer.programs),
      async (t) => {
        const watch = observer();
        const sidecar = await testSidecar(t, {
          upstream: await startPeer(t, setting),
          plugins: [{ use: "idle-timeout" }, { plugin: watch.plugin }],
        });
        const caller = await RawPeer.connect(t, sidecar.inbound);
        for (let count = 1; count <= CLOSES; count++) {
          caller.received = "";
          caller.send(GET);
          await watch.end(count);
          await watch.until(
            () => watch.closed.filter(({ connection }) => connection.side === "upstream").length >= count,
          );
        }
        const [origin] = sidecar.sidecar.view.origins();
        const { limit } = origin!.learned.whole;
        const { idleMs } = setting.documented;
        assert.ok(limit !== undefined, "nothing was learned");
        t.diagnostic(`${idleMs} ms documented, ${limit.limitMs.toFixed(1)} ms learned`);
        assert.ok(limit.limitMs >= MOST_BELOW * idleMs, `${limit.limitMs}`);

        caller.received = "";
        caller.send(GET);
        const { exchange } = await watch.end(CLOSES + 1);
        assert.equal(exchange.upstream!.idleLimitSource, "learned");
        assert.ok(exchange.upstream!.idleLimitMs < idleMs);
        assert.equal(watch.retried.length, 0);
      },
    );
  }
});
