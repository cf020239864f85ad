import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { FORWARDERS, testSidecar } from "../support/peers.ts";
import { downstreamConnections } from "./expectations.ts";
import { startNginx } from "./nginx.ts";
import { needs, run } from "./programs.ts";

const NEEDS = needs("nginx", "curl");
const PLUGINS = [{ use: "keep-alive" }];

/** Status, version, connections opened for it, and nginx's own count, of one transfer. */
const REPORT =
  '{"status":%{http_code},"version":"%{http_version}","opened":%{num_connects},' +
  '"connection":"%header{x-connection}","index":"%header{x-connection-requests}"}\\n';

interface Transfer {
  readonly status: number;
  readonly version: string;
  readonly opened: number;
  readonly connection: string;
  readonly index: string;
}

/** Runs curl; each of its URLs is one transfer, all on the connections that curl keeps. */
async function curl(...args: readonly string[]): Promise<Transfer[]> {
  const output = await run("curl", ["--silent", "--show-error", "--write-out", REPORT, ...args]);
  return output
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Transfer);
}

function targets(url: string, count: number): string[] {
  return Array.from({ length: count }, (_, at) => ["--output", "/dev/null", `${url}/${at}`]).flat();
}

/** The first transfer opened a connection and the others used it, at both ends. */
function assertOneConnection(transfers: readonly Transfer[]): void {
  assert.deepEqual(
    transfers.map(({ status, opened, index }) => [status, opened, Number(index)]),
    transfers.map((_, at) => [200, at === 0 ? 1 : 0, at + 1]),
  );
  assert.equal(new Set(transfers.map(({ connection }) => connection)).size, 1);
}

function temporary(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-curl-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

for (const forwarder of FORWARDERS) {
  const config = { forwarder };

  test(`${forwarder}: curl keeps one connection inbound`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { upstream: nginx.url, plugins: PLUGINS, config });
    assertOneConnection(await curl(...targets(sidecar.inbound, 5)));
    assert.equal(await downstreamConnections(sidecar, 5), 1);
  });

  test(
    `${forwarder}: curl keeps one connection to its HTTP proxy, and may ask for a tunnel for http too`,
    NEEDS,
    async (t) => {
      const nginx = await startNginx(t);
      const sidecar = await testSidecar(t, { outbound: true, plugins: PLUGINS, config });
      assertOneConnection(await curl("--proxy", sidecar.outbound, ...targets(nginx.url, 5)));
      assertOneConnection(await curl("--proxy", sidecar.outbound, "--proxytunnel", ...targets(nginx.url, 5)));
      const requests = await nginx.logged(10);
      assert.ok(requests.slice(0, 5).every(({ fields }) => fields.via !== ""));
      assert.ok(requests.slice(5).every(({ fields }) => fields.via === ""));
    },
  );

  test(`${forwarder}: curl reaches https through CONNECT`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { outbound: true, plugins: PLUGINS, config });
    const args = ["--proxy", sidecar.outbound, "--cacert", nginx.authority, "--http1.1"];
    assertOneConnection(await curl(...args, ...targets(nginx.secureUrl, 5)));
    assert.ok((await nginx.logged(5)).every(({ secure }) => secure));
  });

  test(`${forwarder}: curl speaks HTTP/1.0 and is closed after each answer`, NEEDS, async (t) => {
    const nginx = await startNginx(t);
    const sidecar = await testSidecar(t, { upstream: nginx.url, plugins: PLUGINS, config });
    const transfers = await curl("--http1.0", ...targets(sidecar.inbound, 3));
    assert.deepEqual(
      transfers.map(({ status, opened, index }) => [status, opened, Number(index)]),
      [
        [200, 1, 1],
        [200, 1, 2],
        [200, 1, 3],
      ],
    );
  });

  for (const framing of ["Content-Length and Expect: 100-continue", "chunks"]) {
    test(`${forwarder}: curl uploads 3 MiB with ${framing}, and gets every byte back`, NEEDS, async (t) => {
      const nginx = await startNginx(t);
      const sidecar = await testSidecar(t, { upstream: nginx.url, plugins: PLUGINS, config });
      const folder = temporary(t);
      const [up, down] = [path.join(folder, "up"), path.join(folder, "down")];
      writeFileSync(up, randomBytes(3 * 1024 * 1024));
      const fields = framing === "chunks" ? ["--header", "Transfer-Encoding: chunked"] : [];
      const [upload] = await curl(...fields, "--upload-file", up, `${sidecar.inbound}/files/up`);
      assert.equal(upload!.status, 201);
      const [download] = await curl("--output", down, `${sidecar.inbound}/files/up`);
      assert.equal(download!.status, 200);
      assert.equal(digest(down), digest(up));
      const [gone] = await curl("--request", "DELETE", `${sidecar.inbound}/files/up`);
      assert.equal(gone!.status, 204);
      const [missing] = await curl("--output", down, `${sidecar.inbound}/files/up`);
      assert.equal(missing!.status, 404);
    });
  }
}

function digest(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}
