import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { definePlugin, type RequestTimeouts } from "../../src/plugin/api.ts";
import { type HttpOrigin, httpOrigin } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

function timeouts(limits: Partial<RequestTimeouts>) {
  return definePlugin({
    name: "short-timeouts",
    apiVersion: 1,
    description: "short request timeouts",
    config: {},
    setup: () => ({
      connection(connection) {
        if (connection.side === "downstream") Object.assign(connection.requestTimeouts, limits);
      },
    }),
  });
}

for (const forwarder of FORWARDERS) {
  async function start(t: TestContext, limits: Partial<RequestTimeouts>, origin: HttpOrigin) {
    const plugins = [{ plugin: timeouts(limits) }];
    return await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
  }

  test(`${forwarder}: a request head that does not arrive in time gets 408`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await start(t, { headMs: 150 }, origin);
    for (const piece of ["G", "GET / HTTP/1.1\r\nHost: a.exa", "GET / HTTP/1.1\r\nHost: a.example\r\n"]) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(piece);
      const answer = await peer.untilEnd();
      assert.match(answer, /^HTTP\/1\.1 408 Request Timeout\r\n/);
      assert.match(answer, /\r\nConnection: close\r\n/i);
    }
    assert.equal(origin.sockets.length, 0);
  });

  test(`${forwarder}: sending a byte now and then does not help`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await start(t, { headMs: 200 }, origin);
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const dribble = setInterval(() => peer.send("a"), 20);
    t.after(() => clearInterval(dribble));
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\nX-A: ");
    assert.match(await peer.untilEnd(), /^HTTP\/1\.1 408 /);
  });

  test(`${forwarder}: a connection on which nothing ever comes is closed without a word`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await start(t, { headMs: 150 }, origin);
    const peer = await RawPeer.connect(t, sidecar.inbound);
    assert.equal(await peer.untilEnd(), "");
  });

  test(`${forwarder}: a slow second head gets 408 too, and waiting for a second head does not`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await start(t, { headMs: 150 }, origin);
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const waits = await RawPeer.connect(t, sidecar.inbound);
    for (const one of [peer, waits]) {
      one.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
      await one.until((text) => text.endsWith("\r\n\r\nok"));
    }
    peer.send("GET / HTT");
    assert.match(await peer.untilEnd(), /\r\n\r\nokHTTP\/1\.1 408 /);
    assert.equal(waits.ended, false);
  });

  test(`${forwarder}: a request body that does not arrive in time gets 408, and is never whole upstream`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await start(t, { requestMs: 200 }, origin);
    for (const framing of ["Content-Length: 10\r\n\r\nfirst", "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"]) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(`POST / HTTP/1.1\r\nHost: a.example\r\n${framing}`);
      const answer = await peer.untilEnd();
      assert.match(answer, /^HTTP\/1\.1 408 /);
      assert.match(answer, /\r\nConnection: close\r\n/i);
      assert.match(answer, /details="HF_REQUEST_TIMEOUT"/);
    }
    await origin.until(() => origin.requests.every(({ socket }) => socket.destroyed));
    assert.deepEqual(
      origin.requests.map(({ body, complete }) => [body, complete]),
      [
        ["first", false],
        ["first", false],
      ],
    );
  });

  test(`${forwarder}: once a response has begun, a slow body cuts the connection`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) =>
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
    );
    const plugins = [{ plugin: timeouts({ requestMs: 200 }) }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nfirst");
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 200 [\s\S]*\r\n\r\nhalf$/);
    assert.equal(answer.split("HTTP/1.1 ").length, 2);
  });
}
