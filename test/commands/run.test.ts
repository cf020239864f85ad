import assert from "node:assert/strict";
import { createServer } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { folderWith } from "../config/folder.ts";
import { holdfast, type Program } from "./program.ts";

interface Address {
  readonly host: string;
  readonly port: number;
}

/** A sidecar before an upstream that answers when it is told to. */
async function started(
  t: TestContext,
  changes: object = {},
): Promise<{ program: Program; inbound: Address; admin: Address; asked: Promise<void>; answer: () => void }> {
  const asked = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const upstream = createServer((_request, response) => {
    asked.resolve();
    held.promise.then(() => response.end("done"));
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    upstream.closeAllConnections();
    upstream.close();
  });
  const { port } = upstream.address() as AddressInfo;
  const folder = folderWith(t, {
    "sidecar.json": {
      service: "orders",
      inbound: { listen: "127.0.0.1:0", upstream: `http://127.0.0.1:${port}` },
      admin: { listen: "127.0.0.1:0" },
      plugins: [{ use: "keep-alive" }, { use: "idle-timeout" }],
      drain: { idleGrace: "0s" },
      ...changes,
    },
  });
  const program = holdfast(t, ["run", "-c", path.join(folder, "sidecar.json")]);
  const lines = (await program.said("ready")).split("\n");
  const { addresses } = JSON.parse(lines.find((line) => line.includes("ready")) ?? "{}");
  return { program, inbound: addresses.inbound, admin: addresses.admin, asked: asked.promise, answer: held.resolve };
}

/** Sends a request and resolves with everything that comes back until the connection closes. */
function exchange({ host, port }: Address): Promise<string> {
  return new Promise((resolve) => {
    let received = "";
    const socket = connect(port, host, () => socket.write("GET / HTTP/1.1\r\nHost: orders\r\n\r\n"));
    socket.setEncoding("latin1").on("data", (text) => {
      received += text;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(received));
  });
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} drains: what is in flight is answered, and the exit code is 0`, async (t) => {
    const { program, inbound, asked, answer } = await started(t);
    const response = exchange(inbound);
    await asked;
    program.process.kill(signal);
    await program.said("a second signal stops at once");
    answer();
    assert.match(await response, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\ndone$/);
    const { code, stderr } = await program.ended();
    assert.equal(stderr, "");
    assert.equal(code, 0);
  });
}

test("a second signal ends it at once with 1", async (t) => {
  const { program, inbound, asked } = await started(t, { drain: { idleGrace: "0s", deadline: "1h" } });
  const response = exchange(inbound);
  await asked;
  program.process.kill("SIGTERM");
  await program.said("a second signal stops at once");
  program.process.kill("SIGTERM");
  assert.equal((await program.ended()).code, 1);
  assert.doesNotMatch(await response, /done$/);
});

test("what the deadline cuts makes the exit code 1", async (t) => {
  const { program, inbound, asked } = await started(t, { drain: { idleGrace: "0s", deadline: "50ms" } });
  const response = exchange(inbound);
  await asked;
  program.process.kill("SIGTERM");
  assert.equal((await program.ended()).code, 1);
  assert.doesNotMatch(await response, /done$/);
});

test("POST /drain of the admin API ends the process with 0", async (t) => {
  const { program, admin } = await started(t);
  const answer = await fetch(`http://${admin.host}:${admin.port}/drain`, { method: "POST" });
  assert.equal(answer.status, 202);
  assert.equal((await program.ended()).code, 0);
});

test("an address that is taken is said in one line, and the exit code is 1", async (t) => {
  const other = createTcpServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  t.after(() => other.close());
  const { port } = other.address() as AddressInfo;
  const folder = folderWith(t, {
    "sidecar.json": {
      service: "orders",
      inbound: { listen: `127.0.0.1:${port}`, upstream: "http://127.0.0.1:1" },
      admin: { listen: "127.0.0.1:0" },
    },
  });
  const { code, stderr } = await holdfast(t, ["run", "-c", path.join(folder, "sidecar.json")]).ended();
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`^holdfast: .*127\\.0\\.0\\.1:${port}.*\n$`));
});
