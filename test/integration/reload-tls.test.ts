import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { after } from "node:test";
import tls, { type TLSSocket } from "node:tls";
import type { TestSidecar } from "../../src/testing.ts";
import { authority, writePem } from "../support/certificates.ts";
import { httpOrigin } from "../support/http-origin.ts";
import { begin, http2Peer, responseOf } from "../support/http2-peer.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: orders\r\n\r\n";
const answered = (text: string): boolean => text.endsWith("\r\n\r\nok");
const ours = await authority("our authority");
const folder = mkdtempSync(path.join(tmpdir(), "holdfast-reload-"));
after(() => rmSync(folder, { recursive: true }));

/** Settings of a listener with a certificate of this name. */
async function certificate(name: string): Promise<{ cert: string; key: string }> {
  const pair = await ours.issue({ name, hosts: ["127.0.0.1"] });
  return { cert: writePem(folder, `${name}.crt`, pair.cert), key: writePem(folder, `${name}.key`, pair.key) };
}

async function secure(t: test.TestContext, sidecar: TestSidecar): Promise<RawPeer> {
  const port = Number(new URL(sidecar.inbound).port);
  const peer = RawPeer.over(t, tls.connect({ host: "127.0.0.1", port, ca: ours.cert }));
  await once(peer.socket, "secureConnect");
  return peer;
}

function nameShownTo(peer: RawPeer): unknown {
  return (peer.socket as TLSSocket).getPeerCertificate().subject.CN;
}

test("a listener gets another certificate, loses its TLS, and gets it back, for connections that open", async (t) => {
  const origin = await httpOrigin(t);
  const [one, two] = [await certificate("one"), await certificate("two")];
  const sidecar = await testSidecar(t, { upstream: origin.url, config: { inbound: { tls: one } } });
  const before = await secure(t, sidecar);
  assert.equal(nameShownTo(before), "one");
  before.send(GET);
  await before.until(answered);

  const another = await sidecar.reload({ upstream: origin.url, config: { inbound: { tls: two } } });
  assert.deepEqual(another.changed, ["inbound.tls.cert", "inbound.tls.key"]);
  assert.equal(nameShownTo(await secure(t, sidecar)), "two");

  assert.equal((await sidecar.reload({ upstream: origin.url })).result, "applied");
  const { port } = sidecar.sidecar.addresses.inbound!;
  const plain = await RawPeer.connect(t, `http://127.0.0.1:${port}`);
  plain.send(GET);
  await plain.until(answered);

  const back = await sidecar.reload({ upstream: origin.url, config: { inbound: { tls: one } } });
  assert.equal(back.result, "applied");
  assert.equal(nameShownTo(await secure(t, sidecar)), "one");
  // The first one has seen all of it.
  before.received = "";
  before.send(GET);
  await before.until(answered);
});

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: files of TLS towards an upstream that changed give its connections up; the same files keep them`, async (t) => {
    const pair = await ours.issue({ name: "origin", hosts: ["127.0.0.1"] });
    let connections = 0;
    const server = tls.createServer(pair, (socket) => {
      connections++;
      socket.on("error", () => {});
      socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    const { port } = server.address() as { port: number };
    const ca = writePem(folder, `ca-${forwarder}.crt`, ours.cert);
    const with_ = (fields: number) => ({
      upstream: `https://127.0.0.1:${port}`,
      config: { forwarder, inbound: { upstreamTls: { ca } }, limits: { fields } },
    });
    const sidecar = await testSidecar(t, with_(100));
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const ask = async (): Promise<void> => {
      peer.received = "";
      peer.send(GET);
      await peer.until(answered);
    };
    await ask();
    assert.equal((await sidecar.reload(with_(101))).result, "applied");
    await ask();
    assert.equal(connections, 1);
    writePem(folder, `ca-${forwarder}.crt`, `${ours.cert}\n${(await authority("another")).cert}`);
    const report = await sidecar.reload(with_(101));
    assert.deepEqual([report.result, report.changed], ["applied", []]);
    await ask();
    assert.equal(connections, 2);
  });

  test(`${forwarder}: an HTTP/2 connection that is never idle takes the new routes and plugins with its next stream`, async (t) => {
    const held = Promise.withResolvers<void>();
    const came = Promise.withResolvers<void>();
    const slow = await httpOrigin(t, (_request, response) => {
      response.write("old");
      came.resolve();
      void held.promise.then(() => response.end());
    });
    const fast = await httpOrigin(t, (_request, response) => response.end("new"));
    const sidecar = await testSidecar(t, { upstream: slow.url, config: { forwarder } });
    const session = await http2Peer(t, sidecar.inbound);
    const long = responseOf(begin(session, { ":path": "/" }, true));
    await came.promise;
    const next = { upstream: fast.url, plugins: [{ use: "keep-alive" }], config: { forwarder } };
    assert.equal((await sidecar.reload(next)).result, "applied");
    assert.equal((await responseOf(begin(session, { ":path": "/" }, true))).body, "new");
    held.resolve();
    assert.equal((await long).body, "old");
    assert.ok(!session.closed);
  });
}
