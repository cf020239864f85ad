import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { FORWARDERS, testSidecar } from "../support/peers.ts";
import { type Answer, answersIn, assertAnswers, assertOneConnection, downstreamConnections } from "./expectations.ts";
import { startNginx } from "./nginx.ts";
import { environment, needs, run } from "./programs.ts";

const NEEDS = needs("nginx");
const PLUGINS = [{ use: "keep-alive" }];

/** In a process of its own: the proxy and the certificate come from the environment, as they do for a service. */
async function call(url: string, env: Readonly<Record<string, string>> = {}): Promise<Answer[]> {
  const client = path.join(import.meta.dirname, "clients", "fetch.mjs");
  return answersIn(await run(process.execPath, [client, url], { env: environment(env) }));
}

for (const forwarder of FORWARDERS) {
  const config = { forwarder };

  test(`${forwarder}: Node's fetch gets its answers inbound, over one upstream connection`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { upstream: nginx.url, plugins: PLUGINS, config });
    const answers = await call(sidecar.inbound);
    assertAnswers(answers, 6, ["a=1", "in two chunks"]);
    await assertOneConnection(nginx, answers);
    // How often undici opens a connection is its own affair; that it reuses what we keep is ours.
    assert.ok((await downstreamConnections(sidecar, 6)) < 6);
  });

  test(`${forwarder}: Node's fetch gets its answers through HTTP_PROXY`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { outbound: true, plugins: PLUGINS, config });
    const answers = await call(nginx.url, { NODE_USE_ENV_PROXY: "1", HTTP_PROXY: sidecar.outbound });
    assertAnswers(answers, 6, ["a=1", "in two chunks"]);
    assert.equal((await nginx.logged(6)).length, 6);
    assert.ok((await downstreamConnections(sidecar, 1)) >= 1, "nothing went through the sidecar");
  });

  test(`${forwarder}: Node's fetch reaches https through HTTPS_PROXY`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { outbound: true, plugins: PLUGINS, config });
    const answers = await call(nginx.secureUrl, {
      NODE_USE_ENV_PROXY: "1",
      HTTPS_PROXY: sidecar.outbound,
      NODE_EXTRA_CA_CERTS: nginx.authority,
    });
    assertAnswers(answers, 6, ["a=1", "in two chunks"]);
    const requests = await nginx.logged(6);
    assert.deepEqual(new Set(requests.map(({ secure }) => secure)), new Set([true]));
    assert.ok((await downstreamConnections(sidecar, 1)) >= 1, "nothing went through the sidecar");
  });
}
