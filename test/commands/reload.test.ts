import assert from "node:assert/strict";
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { folderWith } from "../config/folder.ts";
import { RawPeer, rawOrigin } from "../support/peers.ts";
import { holdfast } from "./program.ts";
import { type Running, runSidecar } from "./running.ts";

const LISTEN = "127.0.0.1:0";

async function named(t: TestContext, name: string): Promise<string> {
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${name.length}\r\n\r\n${name}`;
  return (await rawOrigin(t, ({ socket }) => socket.write(head))).url;
}

/** Sends one request on a connection that stays; resolves once the response ends in this body. */
async function answers(peer: RawPeer, body: string): Promise<void> {
  const from = peer.received.length;
  peer.send("GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
  await peer.until((text) => text.length > from && text.endsWith(`\r\n\r\n${body}`));
}

function text(running: Pick<Running, "config">, upstream: string, more: object = {}): string {
  return JSON.stringify({ ...running.config, inbound: { listen: LISTEN, upstream }, ...more });
}

test("SIGHUP puts the changed file into force, on connections that are open", async (t) => {
  const [one, two] = [await named(t, "one"), await named(t, "two")];
  const sidecar = await runSidecar(t, { inbound: { listen: LISTEN, upstream: one }, reload: { watch: false } });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  await answers(peer, "one");
  writeFileSync(sidecar.file, text(sidecar, two));
  sidecar.signal("SIGHUP");
  assert.deepEqual((await sidecar.logged("reloaded"))["changed"], ["inbound.upstream"]);
  await answers(peer, "two");
  sidecar.signal("SIGTERM");
  assert.equal((await sidecar.ended()).code, 0);
});

test("POST /reload answers with what is different, or with every fault; GET tells it again", async (t) => {
  const [one, two] = [await named(t, "one"), await named(t, "two")];
  const sidecar = await runSidecar(
    t,
    {
      inbound: { listen: LISTEN, upstream: one },
      reload: { watch: false },
      telemetry: { traces: { exporters: ["none"] } },
    },
    { env: { OTEL_SDK_DISABLED: "false" } },
  );
  const reload = async (method = "POST"): Promise<{ status: number; body: Record<string, unknown> }> => {
    const response = await fetch(`${sidecar.admin}/reload`, { method });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  assert.deepEqual((await reload("GET")).body, { last: null });
  const peer = await RawPeer.connect(t, sidecar.inbound);

  writeFileSync(sidecar.file, text(sidecar, two));
  const applied = await reload();
  assert.equal(applied.status, 200);
  assert.deepEqual([applied.body["result"], applied.body["changed"]], ["applied", ["inbound.upstream"]]);
  await answers(peer, "two");

  writeFileSync(sidecar.file, text(sidecar, one, { limits: { head: "1", fields: "many" } }));
  const invalid = await reload();
  assert.equal(invalid.status, 422);
  assert.equal(invalid.body["result"], "invalid");
  const faults = invalid.body["faults"] as string[];
  assert.equal(faults.length, 2);
  assert.match(faults.join("\n"), /limits\.head: [\s\S]*limits\.fields: /);
  await answers(peer, "two");
  const { error: _error, ...last } = invalid.body;
  assert.deepEqual((await reload("GET")).body, { last });

  writeFileSync(sidecar.file, text(sidecar, one, { service: "invoices" }));
  const restart = await reload();
  assert.equal(restart.status, 409);
  assert.deepEqual(restart.body["faults"], ["service: another value needs a restart"]);
  await answers(peer, "two");

  const metrics = await (await fetch(`${sidecar.admin}/metrics`)).text();
  for (const result of ["applied", "invalid", "needs_restart"]) {
    assert.ok(metrics.includes(`\nholdfast_config_reloads_total{result="${result}"} 1\n`), result);
  }
});

test("a change of the file is noticed when it is written and when another is renamed into its place", async (t) => {
  const [one, two, three] = [await named(t, "one"), await named(t, "two"), await named(t, "three")];
  const sidecar = await runSidecar(t, { inbound: { listen: LISTEN, upstream: one } });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  await answers(peer, "one");
  writeFileSync(sidecar.file, text(sidecar, two));
  await sidecar.logged("reloaded");
  await answers(peer, "two");
  writeFileSync(sidecar.file, "{");
  await sidecar.logged("not reloaded");
  await answers(peer, "two");
  const next = path.join(path.dirname(sidecar.file), "next.json");
  writeFileSync(next, text(sidecar, three, { drain: { idleGrace: "1ms", deadline: "59s" }, reload: { watch: false } }));
  renameSync(next, sidecar.file);
  await sidecar.logged("reloaded: 4 keys are different");
  await answers(peer, "three");
  // From here on nobody looks.
  writeFileSync(sidecar.file, text(sidecar, one));
  sidecar.signal("SIGTERM");
  const { code, log } = await sidecar.ended();
  assert.equal(code, 0);
  assert.equal(log.filter(({ msg }) => String(msg).startsWith("reloaded")).length, 2);
});

test("a change of the file is noticed when Kubernetes swaps the folder of a ConfigMap", async (t) => {
  const [one, two] = [await named(t, "one"), await named(t, "two")];
  const config = { service: "orders", admin: { listen: LISTEN }, drain: { idleGrace: "0s" } };
  const folder = folderWith(t, {});
  const put = (version: string, upstream: string): void => {
    mkdirSync(path.join(folder, version));
    writeFileSync(path.join(folder, version, "sidecar.json"), text({ config }, upstream));
    symlinkSync(version, path.join(folder, "..data_tmp"));
    renameSync(path.join(folder, "..data_tmp"), path.join(folder, "..data"));
  };
  put("..2026_01", one);
  symlinkSync(path.join("..data", "sidecar.json"), path.join(folder, "sidecar.json"));
  const program = holdfast(t, ["run", "-c", path.join(folder, "sidecar.json")]);
  const ready = JSON.parse((await program.said('"msg":"orders: ready"')).trim().split("\n").at(-1)!);
  const { host, port } = ready.addresses.inbound;
  const peer = await RawPeer.connect(t, `http://${host}:${port}`);
  await answers(peer, "one");
  put("..2026_02", two);
  rmSync(path.join(folder, "..2026_01"), { recursive: true });
  await program.said('"msg":"reloaded');
  await answers(peer, "two");
});

test("a file that goes back to what it was is noticed, though SIGHUP read what stood there between", async (t) => {
  const [one, two] = [await named(t, "one"), await named(t, "two")];
  const sidecar = await runSidecar(t, { inbound: { listen: LISTEN, upstream: one } });
  const before = readFileSync(sidecar.file, "utf8");
  const peer = await RawPeer.connect(t, sidecar.inbound);
  writeFileSync(sidecar.file, text(sidecar, two));
  sidecar.signal("SIGHUP");
  const first = await sidecar.logged("reloaded: ");
  assert.equal(first["msg"], "reloaded: 1 key is different");
  await answers(peer, "two");
  writeFileSync(sidecar.file, before);
  await sidecar.program.said('"trigger":"file"');
  await answers(peer, "one");
  sidecar.signal("SIGTERM");
  const { log } = await sidecar.ended();
  // What a signal has read is not read again because the file changed.
  const triggers = log.filter(({ msg }) => String(msg).startsWith("reloaded")).map((line) => line["trigger"]);
  assert.deepEqual(triggers, ["SIGHUP", "file"]);
});
