/** A request that arrives once the connection is on its way out must not be carried out: its answer could not be told. */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import type { Connection } from "../../src/plugin/api.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const POST = "POST /late HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";

for (const forwarder of FORWARDERS) {
  async function setting(t: TestContext, touch?: (connection: Connection) => void) {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const watch = observer(touch);
    const plugins = [{ plugin: watch.plugin }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    return { origin, watch, peer };
  }

  test(`${forwarder}: a request behind the end of an idle connection is not carried out`, async (t) => {
    const { origin, watch, peer } = await setting(t);
    peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    await watch.until(() => watch.idled("downstream") === 1);
    const downstream = watch.opened.find(({ side }) => side === "downstream")!;
    downstream.drain("idle_timeout");
    await peer.untilEnd();
    peer.send(POST);
    peer.socket.end();
    const { reason } = await watch.closedOn("downstream");
    assert.equal(reason, "idle_timeout");
    assert.doesNotMatch(origin.received(), /late/);
    assert.equal(watch.ended.length, 1);
  });

  test(`${forwarder}: the rest of a head that came too late is not carried out`, async (t) => {
    const { origin, watch, peer } = await setting(t, ({ side, requestTimeouts }) => {
      if (side === "downstream") requestTimeouts.headMs = 50;
    });
    const half = POST.indexOf("Content");
    peer.send(POST.slice(0, half));
    assert.match(await peer.untilEnd(), /^HTTP\/1\.1 408 /);
    peer.send(POST.slice(half));
    peer.socket.end();
    const { reason } = await watch.closedOn("downstream");
    assert.equal(reason, "request_timeout");
    assert.equal(origin.received(), "");
    assert.equal(watch.ended.length, 0);
  });

  test(`${forwarder}: a slow head is told so behind a refused upgrade too`, async (t) => {
    const { peer } = await setting(t, ({ side, requestTimeouts }) => {
      if (side === "downstream") requestTimeouts.headMs = 50;
    });
    peer.send("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    peer.send("GET /slow HTTP/1.1\r\n");
    assert.match(await peer.untilEnd(), /\r\n\r\nokHTTP\/1\.1 408 /);
  });
}
