import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { test } from "node:test";
import { FORWARDERS, testSidecar } from "../support/peers.ts";
import { startNginx } from "./nginx.ts";
import { needs } from "./programs.ts";

const NEEDS = needs("nginx");
const REQUESTS = 1000;

async function get(url: string, agent: http.Agent): Promise<void> {
  const request = http.get(url, { agent });
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  assert.equal(response.statusCode, 200);
  response.resume();
  await once(response, "end");
}

for (const forwarder of FORWARDERS) {
  for (const { enabled, expected } of [
    { enabled: true, expected: 1 },
    { enabled: false, expected: REQUESTS },
  ]) {
    const setting = enabled ? "on" : "off";
    test(
      `${forwarder}: with upstream keep-alive ${setting}, nginx counts ${expected} connections for 1,000 requests`,
      NEEDS,
      async (t) => {
        const nginx = await startNginx(t);
        const sidecar = await testSidecar(t, {
          upstream: nginx.url,
          plugins: [{ use: "keep-alive", config: { upstream: { enabled } } }],
          config: { forwarder, log: { level: "error" } },
        });
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        t.after(() => agent.destroy());
        for (let at = 0; at < REQUESTS; at++) await get(`${sidecar.inbound}/${at}`, agent);

        const requests = await nginx.logged(REQUESTS);
        assert.equal(requests.length, REQUESTS);
        assert.equal(new Set(requests.map(({ connection }) => connection)).size, expected);
        assert.equal(Math.max(...requests.map(({ index }) => index)), REQUESTS / expected);
        for (const { fields } of requests) assert.match(fields.connection, enabled ? /^(?:keep-alive)?$/ : /^close$/);
      },
    );
  }
}
