import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { FORWARDERS, testSidecar } from "../support/peers.ts";
import { type Answer, answersIn, assertAnswers, assertOneConnection, downstreamConnections } from "./expectations.ts";
import { startNginx } from "./nginx.ts";
import { needs, run } from "./programs.ts";

const NEEDS = needs("nginx", "python3");
const PLUGINS = [{ use: "keep-alive" }];

interface PythonAnswer extends Answer {
  /** How many connections Python has opened so far. */
  readonly sockets: number;
}

async function call(...args: readonly string[]): Promise<PythonAnswer[]> {
  const client = path.join(import.meta.dirname, "clients", "http_client.py");
  return answersIn(await run("python3", [client, ...args])) as PythonAnswer[];
}

for (const forwarder of FORWARDERS) {
  const config = { forwarder };

  test(
    `${forwarder}: Python's http.client keeps one connection inbound, with bodies of both framings`,
    NEEDS,
    async (t) => {
      const nginx = await startNginx(t);
      const sidecar = await testSidecar(t, { upstream: nginx.url, plugins: PLUGINS, config });
      const answers = await call(sidecar.inbound);
      assertAnswers(answers, 6, ["a=1", "in two chunks"]);
      assert.equal(answers.at(-1)!.sockets, 1);
      assert.equal(await downstreamConnections(sidecar, 6), 1);
      await assertOneConnection(nginx, answers);
    },
  );

  test(`${forwarder}: Python's http.client keeps one connection to its HTTP proxy`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { outbound: true, plugins: PLUGINS, config });
    const answers = await call(nginx.url, "--proxy", sidecar.outbound);
    assertAnswers(answers, 6, ["a=1", "in two chunks"]);
    assert.equal(answers.at(-1)!.sockets, 1);
    const requests = await assertOneConnection(nginx, answers);
    assert.equal(requests[0]!.fields.host, new URL(nginx.url).host);
  });

  test(`${forwarder}: Python's http.client reaches https through CONNECT`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { outbound: true, plugins: PLUGINS, config });
    const answers = await call(nginx.secureUrl, "--proxy", sidecar.outbound, "--tunnel", nginx.authority);
    assertAnswers(answers, 6, ["a=1", "in two chunks"]);
    assert.equal(answers.at(-1)!.sockets, 1);
    const requests = await nginx.logged(6);
    assert.deepEqual(new Set(requests.map(({ secure }) => secure)), new Set([true]));
    assert.equal(new Set(requests.map(({ connection }) => connection)).size, 1);
    // Opaque bytes: nobody between wrote anything into them.
    assert.deepEqual(new Set(requests.map(({ fields }) => fields.via)), new Set([""]));
  });

  test(`${forwarder}: HTTP/1.0 is closed after each answer, and the upstream connection is kept`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { upstream: nginx.url, plugins: PLUGINS, config });
    const answers = await call(sidecar.inbound, "--http10");
    assertAnswers(answers, 5, ["a=1"]);
    assert.equal(answers.at(-1)!.sockets, 5);
    assert.equal(await downstreamConnections(sidecar, 5), 5);
    await assertOneConnection(nginx, answers);
  });

  test(`${forwarder}: HTTP/1.0 is kept when it asks for it`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { upstream: nginx.url, plugins: PLUGINS, config });
    const answers = await call(sidecar.inbound, "--http10", "--keep-alive");
    assertAnswers(answers, 5, ["a=1"]);
    assert.equal(await downstreamConnections(sidecar, 5), 1);
    await assertOneConnection(nginx, answers);
  });
}
