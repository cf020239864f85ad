import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { test } from "node:test";
import { socketsListeningOn } from "../../src/proxy/listening-sockets.ts";

const skip = process.platform === "linux" ? false : "needs Linux, which tells it in /proc";

test("sockets that listen on exactly an address are counted, and no others", { skip }, async (t) => {
  for (const host of ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"]) {
    const first = await bind(t, host, 0);
    const { address, port } = first.address() as net.AddressInfo;
    assert.equal(socketsListeningOn({ host: address, port }), 1, host);
    assert.equal(socketsListeningOn({ host, port }), 1, host);
    assert.equal(socketsListeningOn({ host: net.isIPv4(host) ? "127.0.0.9" : "::9", port }), 0, host);
    const client = net.connect(port, host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host);
    t.after(() => client.destroy());
    await once(client, "connect");
    assert.equal(socketsListeningOn({ host, port }), 1, `${host}: an open connection is not a listener`);
    await bind(t, host, port);
    assert.equal(socketsListeningOn({ host, port }), 2, host);
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
