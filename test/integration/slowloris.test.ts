import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { soakOrigin } from "../soak/origin.ts";
import { latencies, SlowCallers } from "../soak/slowloris.ts";
import { FORWARDERS, testSidecar } from "../support/peers.ts";

const SLOW = 1000;
const REQUESTS = 300;

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: ${SLOW} callers that send byte by byte keep nobody from being served, and are refused`, async (t) => {
    const origin = await soakOrigin();
    t.after(() => origin.close());
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "connection-limits", config: { headTimeout: "3s" } }],
      config: { forwarder },
    });
    const callers = await SlowCallers.start(sidecar.inbound, SLOW);
    t.after(() => callers.stop());
    // Every one of them is answered; latencies() fails if one is not.
    await latencies(sidecar.inbound, REQUESTS);
    const answers = await callers.closed();
    assert.equal(answers.filter((text) => text.startsWith("HTTP/1.1 408 ")).length, SLOW);
    assert.ok(answers.every((text) => text.includes('details="HF_REQUEST_TIMEOUT"')));
    const refused = sidecar.log.filter(({ code }) => code === "HF_REQUEST_TIMEOUT");
    assert.equal(refused.length, SLOW);
    while ([...sidecar.sidecar.view.connections()].some(({ side }) => side === "downstream")) await sleep(5);
    await latencies(sidecar.inbound, 10);
  });
}
