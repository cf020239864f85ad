import assert from "node:assert/strict";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const UPGRADE =
  "GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, X-Hop\r\nUpgrade: odd/1\r\nX-Hop: 1\r\nX-End: 1\r\n\r\n";
const SWITCHING = "HTTP/1.1 101 Let Us Go\r\nConnection: upgrade\r\nUpgrade: odd/1\r\nX-Odd: 1\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: any protocol passes as bytes, early ones too, and each side may end alone`, async (t) => {
    const origin = await rawOrigin(t, async ({ socket }) => {
      socket.write(`${SWITCHING}early\x00\xff`, "latin1");
      // Our side ends first; what the other side still has to say must arrive all the same.
      await peer.until((text) => text.endsWith("early\x00\xff"));
      socket.end("last");
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${UPGRADE}NOT HTTP\r\n\r\n\x00\xfe`);
    const response = await peer.untilEnd();
    assert.match(response, /^HTTP\/1\.1 101 Let Us Go\r\n/);
    assert.match(response, /\r\nX-Odd: 1\r\n/);
    assert.match(response, /\r\nConnection: Upgrade\r\n/i);
    assert.match(response, /\r\nUpgrade: odd\/1\r\n/);
    assert.ok(response.endsWith("\r\n\r\nearly\x00\xfflast"));

    const big = "z".repeat(3_000_000);
    peer.socket.end(big, "latin1");
    const { exchange, outcome } = await watch.end();
    const received = origin.received();
    assert.match(received, /\r\nUpgrade: odd\/1\r\n/);
    assert.match(received, /\r\nX-End: 1\r\n/);
    assert.doesNotMatch(received, /X-Hop/);
    assert.ok(received.endsWith(`NOT HTTP\r\n\r\n\x00\xfe${big}`));
    assert.equal(outcome.error, undefined);
    assert.equal(outcome.requestBytes, big.length + 14);
    assert.equal(outcome.responseBytes, 11);
    assert.equal(exchange.kind, "upgrade");
    assert.equal((await watch.closedOn("upstream")).reason, "peer_closed");
    assert.equal((await watch.closedOn("downstream")).reason, "peer_closed");
  });

  for (const [what, refusal] of Object.entries({
    "200": OK,
    "426": "HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok",
    "chunked 403": "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
  })) {
    test(`${forwarder}: an upgrade refused with ${what} is an ordinary response; both connections serve on`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }, head) => socket.write(head.includes("Upgrade:") ? refusal : OK));
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder },
      });
      const warnings: Error[] = [];
      const onWarning = (warning: Error): void => void warnings.push(warning);
      process.on("warning", onWarning);
      t.after(() => process.removeListener("warning", onWarning));
      const peer = await RawPeer.connect(t, sidecar.inbound);
      const whole = (text: string) => /\r\n\r\n(ok|2\r\nok\r\n0\r\n\r\n)$/.test(text);
      // Often enough for a listener that stays behind each time to be noticed.
      for (let round = 1; round <= 15; round++) {
        peer.received = "";
        peer.send(UPGRADE);
        const refused = await peer.until(whole);
        assert.match(refused, new RegExp(`^HTTP/1\\.1 ${/\d+/.exec(what)} `));
        assert.match(refused, /\r\nConnection: keep-alive\r\n/);
        peer.received = "";
        peer.send("GET /plain HTTP/1.1\r\nHost: h\r\n\r\n");
        assert.match(await peer.until(whole), /^HTTP\/1\.1 200 OK\r\n/);
      }
      assert.equal(watch.opened.filter(({ side }) => side === "downstream").length, 1);
      // An upgrade asks for a connection of its own; what it leaves is used by the next request.
      const [first] = watch.opened.filter(({ side }) => side === "upstream");
      assert.ok(first!.exchanges > 1);
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(warnings, []);
    });
  }

  test(`${forwarder}: a request that follows a refused upgrade in the same segment is answered`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(OK));
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${UPGRADE}GET /next HTTP/1.1\r\nHost: h\r\n\r\n`);
    await peer.until((text) => text.split("\r\n\r\nok").length === 3);
    assert.match(origin.received(), /GET \/next HTTP\/1\.1/);
  });

  test(`${forwarder}: an upstream that fails an upgrade: 502`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.destroy());
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(UPGRADE);
    const text = await peer.until((text) => text.endsWith("502 HF_UPSTREAM_CLOSED\n"));
    assert.match(text, /^HTTP\/1\.1 502 /);
    assert.equal(origin.connections.length, 1);
  });
}
