import assert from "node:assert/strict";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const named = (name: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${name.length}\r\n\r\n${name}`;

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: outbound goes by Host, wildcard, port and backend; the rest is denied with 403`, async (t) => {
    const [one, two, three] = [
      await rawOrigin(t, ({ socket }) => socket.write(named("one"))),
      await rawOrigin(t, ({ socket }) => socket.write(named("two"))),
      await rawOrigin(t, ({ socket }) => socket.write(named("three"))),
    ];
    const watch = observer();
    const sidecar = await testSidecar(t, {
      outbound: true,
      plugins: [{ plugin: watch.plugin }],
      config: {
        forwarder,
        backends: { third: { address: "127.0.0.1", port: three.port } },
        outbound: {
          unmatched: "deny",
          routes: [
            { host: "one.internal", upstream: one.url },
            { host: "*.internal", upstream: two.url },
            { host: "three", upstream: "third" },
          ],
        },
      },
    });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    const ask = async (target: string, host: string, end: RegExp): Promise<string> => {
      peer.received = "";
      peer.send(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      return await peer.until((text) => end.test(text));
    };
    await ask("/", "one.internal", /\r\n\r\none$/);
    await ask("/", "ONE.internal:8080", /\r\n\r\none$/);
    await ask("/", "other.internal", /\r\n\r\ntwo$/);
    await ask("/", "three", /\r\n\r\nthree$/);
    await ask("http://one.internal/x", "three", /\r\n\r\none$/);
    const denied = await ask("/", "elsewhere", /403 HF_NO_ROUTE\n$/);
    assert.match(denied, /^HTTP\/1\.1 403 Forbidden\r\n/);
    assert.match(denied, /\r\nProxy-Status: holdfast-test; error=destination_not_found; details="HF_NO_ROUTE"\r\n/);
    assert.match(denied, /\r\nConnection: keep-alive\r\n/);
    // The Host that was asked for arrives, whatever address serves it.
    assert.match(one.received(), /GET \/x HTTP\/1\.1\r\nHost: one\.internal\r\n/);
    assert.match(two.received(), /\r\nHost: other\.internal\r\n/);
    await watch.end(6);
    assert.deepEqual(
      watch.ended.map(({ exchange }) => exchange.route?.name),
      [one.url, one.url, two.url, "third", one.url, undefined],
    );
    assert.equal(watch.ended[3]!.exchange.route?.backend?.name, "third");
    // One pool for each origin, so one connection each.
    assert.equal(watch.opened.filter(({ side }) => side === "upstream").length, 3);
  });

  test(`${forwarder}: unmatched "pass" goes to what the request names`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write(named("ok")));
    const sidecar = await testSidecar(t, { outbound: true, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    for (const [target, host] of [
      ["/", `127.0.0.1:${origin.port}`],
      ["/", `localhost:${origin.port}`],
      [`${origin.url}/x`, "ignored"],
    ]) {
      peer.received = "";
      peer.send(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      await peer.until((text) => text.endsWith("\r\n\r\nok"));
    }
    assert.equal(origin.connections.length, 2);
  });
}
