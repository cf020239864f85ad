import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { check } from "../../src/commands/check.ts";
import type { ProbeDocument } from "../../src/probe/result.ts";
import { folderWith } from "../config/folder.ts";
import { needs } from "../interop/programs.ts";
import { holdfast } from "./program.ts";

async function nodeServer(t: TestContext, keepAliveTimeoutMs: number): Promise<string> {
  const server = http.createServer((_request, response) => response.end("ok"));
  server.keepAliveTimeout = keepAliveTimeoutMs;
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

const QUICK = ["--rate", "1000", "--max-requests", "5", "--connections", "2", "--max-wait", "1500ms"];

test("a peer is measured, and check accepts what is suggested", async (t) => {
  const url = await nodeServer(t, 100);
  const { code, stdout, stderr } = await holdfast(t, ["probe", url, ...QUICK, "--json"]).ended();
  assert.equal(stderr, "");
  assert.equal(code, 0, stdout);
  const document = JSON.parse(stdout) as ProbeDocument;
  assert.equal(document.format, "holdfast-probe/1");
  const [result] = document.results;
  assert.equal(result!.url, url);
  assert.equal(result!.idle.afterRequest?.connections.length, 2);
  assert.ok(result!.idle.afterRequest.shortestMs! >= 95);
  const folder = folderWith(t, { "sidecar.json": document.sidecar });
  let said = "";
  const sink = { write: (text: string) => (said += text) };
  assert.equal(
    await check(path.join(folder, "sidecar.json"), { json: false, env: {}, stdout: sink, stderr: sink }),
    0,
    said,
  );
});

test("the text ends with lines that are valid too, and a peer that is not there ends with 1", async (t) => {
  const url = await nodeServer(t, 100);
  const { code, stdout } = await holdfast(t, ["probe", url, "http://127.0.0.1:1/", ...QUICK]).ended();
  assert.equal(code, 1);
  assert.match(stdout, /keep-alive +kept\n/);
  assert.match(stdout, /http:\/\/127\.0\.0\.1:1\/\n {2}not measured: everything: 127\.0\.0\.1:1 refused/);
  const lines = stdout.slice(stdout.indexOf("sidecar.json:\n") + "sidecar.json:\n".length);
  const folder = folderWith(t, { "sidecar.json": lines });
  const sink = { write: () => true };
  assert.equal(await check(path.join(folder, "sidecar.json"), { json: false, env: {}, stdout: sink, stderr: sink }), 0);
});

test("Ctrl-C prints what is known, and ends with 1", async (t) => {
  let asked = 0;
  const running = Promise.withResolvers<void>();
  const server = http.createServer((_request, response) => {
    response.end("ok");
    // Five ways to ask, two of them twice, five connections, five on one, two that wait: by then it waits.
    if (++asked === 19) running.resolve();
  });
  server.keepAliveTimeout = 0;
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const program = holdfast(t, ["probe", url, ...QUICK.slice(0, -1), "1h"]);
  await running.promise;
  program.process.kill("SIGINT");
  const { code, stdout } = await program.ended();
  assert.equal(code, 1);
  assert.match(stdout, /requests per connection +at least 5\n/);
  assert.match(stdout, /interrupted: this is what was known by then/);
});

test("on a terminal it shows how far it is, until Ctrl-C", needs("script"), async (t) => {
  const url = await nodeServer(t, 0);
  const main = path.join(import.meta.dirname, "..", "..", "src", "main.ts");
  const command = `exec "${process.execPath}" "${main}" probe ${url} --rate 1000 --max-requests 5 --max-wait 1h`;
  const child = spawn("script", ["--quiet", "--flush", "--return", "--command", command, "/dev/null"], {
    env: { ...process.env, TERM: "xterm" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const closed = once(child, "close");
  while (!/\[[█·]{20}\] idle for \d+ of at most 3600 s, 0 closed, 6 open {2}http/.test(output))
    await once(child.stdout, "data");
  child.stdin.write("\x03");
  const [code] = await closed;
  assert.equal(code, 1);
  assert.match(output, /interrupted: this is what was known by then/);
});

test("wrong usage ends with 2 and says what is allowed", async (t) => {
  const cases: [string[], RegExp][] = [
    [[], /missing required argument 'url'/],
    [["127.0.0.1:80"], /is not a URL such as/],
    [["http://u:p@a/"], /must not carry credentials/],
    [["http://a/", "--method", "POST"], /Allowed choices are GET, HEAD, OPTIONS/],
    [["http://a/", "--rate", "0"], /whole number from 1 to 1000/],
    [["http://a/", "--max-wait", "off"], /must be a duration/],
    [["http://a/", "--ca", "/nonexistent.pem"], /--ca: ENOENT/],
    [["https://a/", "--ca", import.meta.filename], /--ca: \S+ holds no certificate in PEM\n$/],
    [["https://a/", "--host", "a b"], /must be a name, with or without a port/],
  ];
  for (const [args, says] of cases) {
    const { code, stderr } = await holdfast(t, ["probe", ...args]).ended();
    assert.equal(code, 2, args.join(" "));
    assert.match(stderr, says);
  }
});
