/** Every sample of docs/writing-plugins.md is written to a folder, type-checked and run. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { load } from "../../src/load.ts";
import type { TestPlugin } from "../../src/testing.ts";
import { folderWith } from "../config/folder.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const execute = promisify(execFile);
const ROOT = path.join(import.meta.dirname, "..", "..");
const PAGE = readFileSync(path.join(ROOT, "docs", "writing-plugins.md"), "utf8");
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/** The samples by file name, as their info strings say. */
const SAMPLES: Record<string, string> = Object.fromEntries(
  [...PAGE.matchAll(/^```(\w+)(?: (\S+))?\n([\s\S]*?)^```$/gm)].map(([, language, name = "", code = ""]) => {
    assert.ok(name.endsWith(`.${language}`), `a ${language} sample has no name: ${code}`);
    return [name, code];
  }),
);

/** A folder with all samples, and with a `holdfast` package that is this repository. */
function author(t: TestContext): string {
  const source = (file: string) => pathToFileURL(path.join(ROOT, "src", file)).href;
  const types = (file: string) => path.join(ROOT, "src", file);
  return folderWith(t, {
    ...SAMPLES,
    "package.json": { type: "module" },
    "node_modules/holdfast/package.json": {
      name: "holdfast",
      type: "module",
      exports: { "./plugin": "./plugin.js", "./testing": "./testing.js" },
    },
    "node_modules/holdfast/plugin.js": `export * from "${source("plugin/api.ts")}";`,
    "node_modules/holdfast/testing.js": `export * from "${source("testing.ts")}";`,
    "tsconfig.json": {
      extends: path.join(ROOT, "tsconfig.json"),
      compilerOptions: {
        allowJs: true,
        checkJs: true,
        typeRoots: [path.join(ROOT, "node_modules", "@types")],
        paths: { "holdfast/plugin": [types("plugin/api.ts")], "holdfast/testing": [types("testing.ts")] },
      },
      include: ["plugins", "test"],
      exclude: [],
    },
  });
}

test("every sample compiles, strictly", async (t) => {
  const folder = author(t);
  const tsc = path.join(ROOT, "node_modules", ".bin", "tsc");
  const { stdout } = await execute(tsc, ["-p", folder]).catch((error: { stdout: string }) => error);
  assert.equal(stdout, "");
});

test("every configuration sample is valid", async (t) => {
  const folder = author(t);
  const names = Object.keys(SAMPLES).filter((name) => name.endsWith(".json"));
  assert.ok(names.length >= 2);
  for (const name of names) {
    const { plugins } = await load(path.join(folder, name), {});
    assert.ok(plugins.length > 0, name);
  }
});

test("the sample test passes", async (t) => {
  const folder = author(t);
  const options = { cwd: folder, env: { ...process.env, NODE_TEST_CONTEXT: undefined } };
  const { stdout } = await execute(process.execPath, ["--test", "test/"], options).catch(
    (error: { stdout: string }) => error,
  );
  assert.match(stdout, /\bpass 1\n/, stdout);
});

/** What each sample does, in a sidecar. */
const DEEDS: Record<string, (open: Open, t: TestContext) => Promise<void>> = {
  async "plugins/request-id.js"(open) {
    const { ask, received } = await open({});
    await ask(GET);
    assert.match(received(), /\r\nX-Request-Id: [0-9a-f-]{36}\r\n/);
  },
  async "plugins/tag.ts"(open) {
    const { ask } = await open({ config: { above: "0s", header: "X-Took" } });
    assert.match(await ask(GET), /\r\nX-Took: \d+ ms\r\n/);
    assert.doesNotMatch(await (await open({})).ask(GET), /X-Slow/);
  },
  async "plugins/connection-report.ts"(open) {
    const { ask, log, stop } = await open({});
    await ask(GET);
    await ask(GET);
    await stop();
    const lines = log.filter((line) => line["plugin"] === "connection-report");
    assert.deepEqual(lines.map((line) => `${line["side"]} ${line["exchanges"]} ${line["failed"]}`).sort(), [
      "downstream 2 0",
      "upstream 2 0",
    ]);
  },
  async "plugins/leave-overloaded.ts"(open) {
    const overloaded = OK.replace("200 OK", "503 Overloaded");
    const { ask, connections } = await open({}, overloaded);
    await ask(GET);
    await ask(GET);
    assert.equal(connections(), 2);
    const healthy = await open({});
    await healthy.ask(GET);
    await healthy.ask(GET);
    assert.equal(healthy.connections(), 1);
  },
  async "plugins/token-check.ts"(open, t) {
    const authority = http.createServer((request, response) => {
      response.writeHead(request.headers.authorization === "Bearer good" ? 204 : 403).end();
    });
    await new Promise<void>((resolve) => authority.listen(0, "127.0.0.1", resolve));
    t.after(() => authority.close());
    const address = authority.address();
    assert.ok(typeof address === "object" && address !== null);
    const config = { authority: `http://127.0.0.1:${address.port}` };
    const { ask, received } = await open({ config, onError: "fail" });
    assert.match(await ask(GET), /^HTTP\/1\.1 401 [\s\S]*\r\nWWW-Authenticate: Bearer\r\n/);
    const bearing = (token: string) => GET.replace("Host", `Authorization: Bearer ${token}\r\nHost`);
    assert.match(await ask(bearing("bad")), /^HTTP\/1\.1 403 /);
    assert.equal(received(), "");
    assert.match(await ask(bearing("good")), /^HTTP\/1\.1 200 /);
    authority.close();
    authority.closeAllConnections();
    assert.match(await ask(bearing("good")), /^HTTP\/1\.1 500 /);
    await assert.rejects(open({}), /token-check.*config\.authority is missing/);
  },
};

/** A sidecar with the sample in it, before an origin. */
type Open = (
  entry: Pick<TestPlugin, "config" | "onError">,
  answer?: string,
) => Promise<{
  /** Sends a request on one and the same connection, and returns its response. */
  ask(request: string): Promise<string>;
  /** What the origin received. */
  received(): string;
  connections(): number;
  readonly log: readonly Record<string, unknown>[];
  stop(): Promise<void>;
}>;

test("every plugin in the samples is run here", () => {
  assert.deepEqual(
    Object.keys(DEEDS),
    Object.keys(SAMPLES).filter((name) => name.startsWith("plugins/")),
  );
});

for (const forwarder of FORWARDERS) {
  for (const [name, deed] of Object.entries(DEEDS)) {
    test(`${forwarder}: ${name} does what it says`, async (t) => {
      const folder = author(t);
      const open: Open = async (entry, answer = OK) => {
        const origin = await rawOrigin(t, ({ socket }) => void socket.write(answer));
        const sidecar = await testSidecar(t, {
          upstream: origin.url,
          folder,
          plugins: [{ use: `./${name}`, ...entry }],
          config: { forwarder },
        });
        const peer = await RawPeer.connect(t, sidecar.inbound);
        return {
          async ask(request) {
            const from = peer.received.length;
            peer.send(request);
            const isWhole = (text: string) => {
              const [head = "", body = ""] = text.split("\r\n\r\n");
              return text.includes("\r\n\r\n") && body.length >= Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
            };
            return (await peer.until((text) => isWhole(text.slice(from)))).slice(from);
          },
          received: () => origin.received(),
          connections: () => origin.connections.length,
          log: sidecar.log,
          stop: () => sidecar.stop(),
        };
      };
      await deed(open, t);
    });
  }
}
