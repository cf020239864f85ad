import assert from "node:assert/strict";
import test from "node:test";
import type { Connection } from "../../src/plugin/api.ts";
import type { ProxyConnection } from "../../src/proxy/connection.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

/** Requests of every kind, with what their responses end in. */
const ROUND = [
  { request: "GET /length HTTP/1.1\r\nHost: h\r\n\r\n", end: "\r\n\r\nok" },
  { request: "GET /chunked HTTP/1.1\r\nHost: h\r\n\r\n", end: "\r\n0\r\n\r\n" },
  { request: "GET /hints HTTP/1.1\r\nHost: h\r\n\r\n", end: "\r\n\r\nok" },
  { request: "HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n", end: "\r\n\r\n" },
  { request: "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\nabc\r\n\r\n", end: "\r\n\r\nok" },
  {
    request: "PUT /length HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    end: "\r\n\r\nok",
  },
  { request: "GET http://h/length HTTP/1.1\r\nHost: h\r\n\r\n", end: "\r\n\r\nok" },
] as const;

const RESPONSES = {
  "/length": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
  "/chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
  "/hints": "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
  "/head": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
} as const;

/** How many listeners each event of a connection's socket has. */
function listeners(connection: Connection): Record<string, number> {
  const { socket } = connection as ProxyConnection;
  return Object.fromEntries(socket.eventNames().map((event) => [String(event), socket.listenerCount(event)]));
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: however many exchanges a connection carries, its socket keeps the same listeners`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, head) => {
      for (const [path, response] of Object.entries(RESPONSES)) if (head.includes(` ${path} `)) socket.write(response);
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    let served = 0;
    async function round(): Promise<Record<string, number>[]> {
      for (const { request, end } of ROUND) {
        peer.received = "";
        peer.send(request);
        await peer.until((text) => text.endsWith(end) && !/^HTTP\/1\.1 103 [\s\S]*\r\n\r\n$/.test(text));
        served++;
        await watch.until(() => watch.idled("upstream") === served && watch.idled("downstream") === served);
      }
      return watch.opened.map(listeners);
    }
    const first = await round();
    for (let rounds = 0; rounds < 20; rounds++) await round();
    const last = await round();
    assert.equal(watch.opened.length, 2);
    assert.deepEqual(last, first);
  });
}
