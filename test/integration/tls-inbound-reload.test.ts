import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import tls, { type TLSSocket } from "node:tls";
import type { TestSidecar } from "../../src/testing.ts";
import { authority, type Pair } from "../support/certificates.ts";
import { httpOrigin } from "../support/http-origin.ts";
import { RawPeer, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const answered = (text: string): boolean => text.endsWith("\r\n\r\nok");
const ours = await authority("our authority");
const first = await ours.issue({ name: "first", hosts: ["127.0.0.1"] });
const second = await ours.issue({ name: "second", hosts: ["127.0.0.1"] });

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

function write(folder: string, { cert, key }: Pair): void {
  writeFileSync(path.join(folder, "tls.crt"), cert);
  writeFileSync(path.join(folder, "tls.key"), key);
}

async function sidecarWith(t: TestContext, folder: string, settings: object = {}): Promise<TestSidecar> {
  const origin = await httpOrigin(t);
  const files = { cert: path.join(folder, "tls.crt"), key: path.join(folder, "tls.key") };
  return await testSidecar(t, { upstream: origin.url, config: { inbound: { tls: { ...files, ...settings } } } });
}

async function logged(sidecar: TestSidecar, pattern: RegExp): Promise<string> {
  for (;;) {
    const line = sidecar.log.find(({ msg }) => pattern.test(String(msg)));
    if (line !== undefined) return String(line["msg"]);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function peerOf(t: TestContext, sidecar: TestSidecar, options: tls.ConnectionOptions = {}): Promise<RawPeer> {
  const port = Number(new URL(sidecar.inbound).port);
  const peer = RawPeer.over(t, tls.connect({ host: "127.0.0.1", port, ca: ours.cert, ...options }));
  await once(peer.socket, "secureConnect");
  return peer;
}

function nameShownTo(peer: RawPeer): string {
  return (peer.socket as TLSSocket).getPeerCertificate().subject.CN as string;
}

test("new files serve new connections; those that are open stay", async (t) => {
  const folder = folderFor(t);
  write(folder, first);
  const sidecar = await sidecarWith(t, folder);
  const before = await peerOf(t, sidecar);
  before.send(GET);
  await before.until(answered);
  write(folder, second);
  assert.match(await logged(sidecar, /new certificate/), /^inbound\.tls: /);
  const after = await peerOf(t, sidecar);
  assert.deepEqual([nameShownTo(before), nameShownTo(after)], ["first", "second"]);
  for (const peer of [before, after]) {
    peer.received = "";
    peer.send(GET);
    await peer.until(answered);
  }
});

test("a secret that Kubernetes mounts is swapped by a symbolic link", async (t) => {
  const folder = folderFor(t);
  const version = (name: string, pair: Pair): void => {
    mkdirSync(path.join(folder, name));
    write(path.join(folder, name), pair);
    symlinkSync(name, path.join(folder, "..data_tmp"));
    renameSync(path.join(folder, "..data_tmp"), path.join(folder, "..data"));
  };
  version("..v1", first);
  for (const name of ["tls.crt", "tls.key"]) symlinkSync(`..data/${name}`, path.join(folder, name));
  const sidecar = await sidecarWith(t, folder);
  assert.equal(nameShownTo(await peerOf(t, sidecar)), "first");
  version("..v2", second);
  rmSync(path.join(folder, "..v1"), { recursive: true });
  await logged(sidecar, /new certificate/);
  assert.equal(nameShownTo(await peerOf(t, sidecar)), "second");
});

test("new files that cannot be used change nothing, and it is said why; the next good ones do", async (t) => {
  const folder = folderFor(t);
  write(folder, first);
  const sidecar = await sidecarWith(t, folder);
  for (const [pair, reason] of [
    [{ cert: "junk", key: first.key }, /tls\.crt cannot be used/],
    [{ cert: first.cert, key: second.key }, /tls\.key with .*tls\.crt cannot be used \(.*mismatch\)/],
  ] as const) {
    write(folder, pair);
    const line = await logged(sidecar, reason);
    assert.match(line, /^inbound\.tls: the new files are not used, the ones before stay: /);
    assert.ok(!line.includes("\n") && !line.includes("PRIVATE"));
    const peer = await peerOf(t, sidecar);
    assert.equal(nameShownTo(peer), "first");
    peer.send(GET);
    await peer.until(answered);
  }
  rmSync(path.join(folder, "tls.key"));
  await logged(sidecar, /tls\.key cannot be read \(ENOENT\)/);
  write(folder, second);
  await logged(sidecar, /new certificate/);
  assert.equal(nameShownTo(await peerOf(t, sidecar)), "second");
});

test("another authority for client certificates holds at once, also for sessions that could be resumed", async (t) => {
  const folder = folderFor(t);
  write(folder, first);
  const clientCa = path.join(folder, "clients.pem");
  writeFileSync(clientCa, ours.cert);
  const client = await ours.issue({ name: "client" });
  const sidecar = await sidecarWith(t, folder, { clientCa });
  const before = await peerOf(t, sidecar, client);
  const [session] = (await once(before.socket, "session")) as [Buffer];
  before.send(GET);
  await before.until(answered);
  writeFileSync(clientCa, (await authority("somebody else's authority")).cert);
  await logged(sidecar, /new certificate/);
  const after = await peerOf(t, sidecar, { ...client, session });
  after.send(GET);
  assert.equal(await after.untilEnd(), "");
  await logged(sidecar, /the client certificate was refused/);
});

test("files that cannot be used stop the start", async (t) => {
  const folder = folderFor(t);
  write(folder, { cert: first.cert, key: second.key });
  await assert.rejects(sidecarWith(t, folder), /inbound\.tls\.key: .* is not the key of /);
});
