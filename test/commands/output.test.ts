import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync } from "node:fs";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { folderWith } from "../config/folder.ts";
import { runSidecar } from "./running.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const LISTEN = "127.0.0.1:0";

async function origin(t: TestContext): Promise<string> {
  const server = http.createServer((_request, response) => response.end("ok"));
  server.keepAliveTimeout = 0;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Sends so many requests on one connection and resolves when all are answered. */
async function requests(base: string, count: number, target = "/"): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let sent = 0; sent < count; sent++) {
    const [response] = await once(http.get(base + target, { agent }), "response");
    assert.equal(response.statusCode, 200);
    response.resume();
    await once(response, "end");
  }
  agent.destroy();
}

test("when the reader of standard output goes away, traffic goes on and the end is an ordinary one", async (t) => {
  const sidecar = await runSidecar(t, { inbound: { listen: LISTEN, upstream: await origin(t) } });
  sidecar.program.process.stdout.destroy();
  await requests(sidecar.inbound, 100);
  sidecar.signal("SIGTERM");
  const { code, stderr } = await sidecar.ended();
  assert.equal(code, 0);
  assert.equal(stderr, "");
});

test("when nobody reads standard output, traffic goes on and the end is an ordinary one", async (t) => {
  const sidecar = await runSidecar(t, { inbound: { listen: LISTEN, upstream: await origin(t) } });
  const { process: child } = sidecar.program;
  child.stdout.pause();
  // More than the pipe and the log's own buffer take together.
  await requests(sidecar.inbound, 400, `/${"x".repeat(8000)}`);
  const exited = once(child, "exit");
  sidecar.signal("SIGTERM");
  assert.deepEqual(await exited, [0, null]);
});

test("a full disk behind standard output stops neither the start, nor traffic, nor the end", async (t) => {
  if (!existsSync("/dev/full")) {
    t.skip("there is no /dev/full");
    return;
  }
  const admin = await freePort();
  const inbound = await freePort();
  const folder = folderWith(t, {
    "sidecar.json": {
      service: "orders",
      inbound: { listen: `127.0.0.1:${inbound}`, upstream: await origin(t) },
      admin: { listen: `127.0.0.1:${admin}` },
      drain: { idleGrace: "0s" },
    },
  });
  const full = openSync("/dev/full", "w");
  const child = spawn(process.execPath, [MAIN, "run", "-c", path.join(folder, "sidecar.json")], {
    stdio: ["ignore", full, "pipe"],
    env: { PATH: process.env["PATH"], OTEL_SDK_DISABLED: "true" },
  });
  closeSync(full);
  t.after(() => child.kill("SIGKILL"));
  let stderr = "";
  child.stderr!.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const closed = once(child, "close");
  while (child.exitCode === null && !(await isReady(admin)));
  await requests(`http://127.0.0.1:${inbound}`, 100);
  child.kill("SIGTERM");
  assert.deepEqual(await closed, [0, null]);
  assert.equal(stderr, "");
});

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function isReady(port: number): Promise<boolean> {
  return await fetch(`http://127.0.0.1:${port}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** A plugin that fails where nothing catches it, once it is asked to. */
function crashing(how: string): string {
  return `export default {
    name: "crashing", description: "Fails", apiVersion: 1, config: {},
    setup: () => ({ exchange() { setImmediate(() => { ${how} }); } }),
  };\n`;
}

for (const [name, how] of [
  ["uncaught exception", "throw new Error('boom')"],
  ["unhandled rejection", "void Promise.reject(new Error('boom'))"],
] as const) {
  for (const level of ["info", "silent"] as const) {
    test(`log level ${level}: an ${name} is told with its stack and ends the process with 1`, async (t) => {
      const sidecar = await runSidecar(
        t,
        {
          inbound: { listen: LISTEN, upstream: await origin(t) },
          plugins: [{ use: "./crashing.js" }],
          log: { level: "info" },
        },
        { files: { "crashing.js": crashing(how), "package.json": { type: "module" } } },
      );
      const change = await fetch(`${sidecar.admin}/log-level`, {
        method: "PUT",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ level }),
      });
      assert.equal(change.status, 200);
      http.get(sidecar.inbound).on("error", () => {});
      const { code, log, stderr } = await sidecar.ended();
      assert.equal(code, 1);
      if (level === "info") {
        const [line] = log.filter(({ level: of }) => of === "fatal") as { msg: string; err: { stack: string } }[];
        assert.equal(line?.msg, name);
        assert.match(line.err.stack, /^Error: boom\n[\s\S]*crashing\.js/);
        assert.equal(stderr, "");
      } else {
        assert.match(stderr, new RegExp(`^holdfast: ${name}: Error: boom\\n[\\s\\S]*crashing\\.js`));
      }
    });
  }
}
