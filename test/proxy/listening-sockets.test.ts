import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { test } from "node:test";
import { connectionsWaitingFor, socketsListeningOn } from "../../src/proxy/listening-sockets.ts";

const skip = process.platform === "linux" ? false : "needs Linux, which tells it in /proc";

test("sockets that listen on an address, or on one that overlaps it, are counted, and no others", {
  skip,
}, async (t) => {
  for (const host of ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"]) {
    const first = await bind(t, host, 0);
    const { address, port } = first.address() as net.AddressInfo;
    assert.equal(socketsListeningOn({ host: address, port }), 1, host);
    assert.equal(socketsListeningOn({ host, port }), 1, host);
    for (const [other, overlapping] of Object.entries(OTHERS)) {
      assert.equal(socketsListeningOn({ host: other, port }), overlapping.includes(host) ? 1 : 0, `${other}, ${host}`);
    }
    const client = net.connect(port, host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host);
    t.after(() => client.destroy());
    await once(client, "connect");
    assert.equal(socketsListeningOn({ host, port }), 1, `${host}: an open connection is not a listener`);
    await bind(t, host, port);
    assert.equal(socketsListeningOn({ host, port }), 2, host);
  }
});

/** Addresses, and which of those above they overlap. */
const OTHERS: Readonly<Record<string, readonly string[]>> = {
  "127.0.0.9": ["0.0.0.0", "::"],
  "::ffff:127.0.0.9": ["0.0.0.0", "::"],
  "::ffff:127.0.0.1": ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"],
  "::9": ["::"],
  "0.0.0.0": ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"],
  "::": ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"],
};

test("connections that wait to be accepted are counted", { skip }, async (t) => {
  for (const host of ["127.0.0.1", "::1"]) {
    const { port } = (await bind(t, host, 0)).address() as net.AddressInfo;
    await bind(t, host, port);
    assert.equal(connectionsWaitingFor({ host, port }, 2), 0);
    const connect = `
      let open = 0;
      for (let index = 0; index < 9; index++) {
        require("node:net").connect(${port}, "${host}", () => ++open === 9 && process.exit());
      }`;
    execFileSync(process.execPath, ["-e", connect]);
    assert.equal(connectionsWaitingFor({ host, port }, 2), 9, host);
    assert.equal(connectionsWaitingFor({ host, port: 1 }, 2), 0);
  }
});

test("names and addresses with a zone cannot be counted", () => {
  assert.equal(socketsListeningOn({ host: "localhost", port: 80 }), undefined);
  assert.equal(socketsListeningOn({ host: "fe80::1%lo", port: 80 }), undefined);
});

async function bind(t: { after(done: () => void): void }, host: string, port: number): Promise<net.Server> {
  const server = net.createServer((socket) => socket.destroy());
  t.after(() => server.close());
  server.listen({ host, port, reusePort: true });
  await once(server, "listening");
  return server;
}
