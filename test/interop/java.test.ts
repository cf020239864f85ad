import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { FORWARDERS, testSidecar } from "../support/peers.ts";
import { type Answer, answersIn, assertAnswers, assertOneConnection, downstreamConnections } from "./expectations.ts";
import { startNginx } from "./nginx.ts";
import { needs, run } from "./programs.ts";

const NEEDS = needs("nginx", "java", "javac");
const PLUGINS = [{ use: "keep-alive" }];

interface JavaAnswer extends Answer {
  readonly version: string;
}

const classes = mkdtempSync(path.join(tmpdir(), "holdfast-java-"));
after(() => rmSync(classes, { recursive: true, force: true }));
before(async () => {
  if (NEEDS.skip !== false) return;
  await run("javac", ["-d", classes, path.join(import.meta.dirname, "clients", "JavaClient.java")]);
});

async function call(...args: readonly string[]): Promise<JavaAnswer[]> {
  return answersIn(
    await run("java", ["-XX:TieredStopAtLevel=1", "-cp", classes, "JavaClient", ...args]),
  ) as JavaAnswer[];
}

test("Java's HttpClient asks for h2c at its defaults, also with a body", NEEDS, async (t) => {
  const nginx = await startNginx(t);
  await call(nginx.url);
  const [first] = await nginx.logged(6);
  assert.equal(first!.method, "POST");
  assert.equal(first!.fields.upgrade, "h2c");
  assert.notEqual(first!.fields.http2Settings, "");
});

for (const forwarder of FORWARDERS) {
  const config = { forwarder };

  test(
    `${forwarder}: Java's HttpClient, which asks for h2c first, gets its answers inbound as HTTP/1.1`,
    NEEDS,
    async (t) => {
      const nginx = await startNginx(t);
      const sidecar = await testSidecar(t, { upstream: nginx.url, plugins: PLUGINS, config });
      const answers = await call(sidecar.inbound);
      assertAnswers(answers, 6, ["a=1", "in two chunks"]);
      assert.deepEqual(new Set(answers.map(({ version }) => version)), new Set(["HTTP_1_1"]));
      assert.equal(await downstreamConnections(sidecar, 6), 1);
      await assertOneConnection(nginx, answers);
    },
  );

  test(`${forwarder}: Java's HttpClient gets its answers through a proxy`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { outbound: true, plugins: PLUGINS, config });
    const proxy = new URL(sidecar.outbound);
    const answers = await call(nginx.url, proxy.hostname, proxy.port);
    assertAnswers(answers, 6, ["a=1", "in two chunks"]);
    await assertOneConnection(nginx, answers);
  });

  test(`${forwarder}: Java's HttpClient reaches https through CONNECT`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { outbound: true, plugins: PLUGINS, config });
    const proxy = new URL(sidecar.outbound);
    const answers = await call(nginx.secureUrl, proxy.hostname, proxy.port, nginx.authority);
    assertAnswers(answers, 6, ["a=1", "in two chunks"]);
    const requests = await nginx.logged(6);
    assert.deepEqual(new Set(requests.map(({ secure }) => secure)), new Set([true]));
    assert.equal(new Set(requests.map(({ connection }) => connection)).size, 1);
  });
}
