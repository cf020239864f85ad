import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: an absolute form beats Host, and goes on in origin form`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const targets = [
      ["http://right.example/a/../b?c=d", "/a/../b?c=d"],
      ["http://right.example", "/"],
      ["http://right.example?x", "/?x"],
      ["HTTP://right.example//a", "//a"],
      ["http://right.example/a?b=http://c.example/", "/a?b=http://c.example/"],
    ] as const;
    for (const [index, [target]] of targets.entries()) {
      peer.send(`GET ${target} HTTP/1.1\r\nHost: wrong.example\r\n\r\n`);
      await peer.until((text) => text.split("\r\n\r\nok").length === index + 2);
    }
    assert.deepEqual(
      origin.requests.map(({ target }) => target),
      targets.map(([, path]) => path),
    );
    for (const { fields } of origin.requests) {
      assert.deepEqual(valuesOf(fields, "host"), ["right.example"]);
      assert.deepEqual(valuesOf(fields, "x-forwarded-host"), ["right.example"]);
    }
  });

  test(`${forwarder}: outbound, an absolute form is routed by its own host, not by Host`, async (t) => {
    const right = await httpOrigin(t, (_request, response) => response.end("right"));
    const wrong = await httpOrigin(t, (_request, response) => response.end("wrong"));
    const sidecar = await testSidecar(t, {
      config: {
        forwarder,
        outbound: {
          routes: [
            { host: "right.example", upstream: right.url },
            { host: "wrong.example", upstream: wrong.url },
          ],
        },
      },
    });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send("GET http://right.example/a HTTP/1.1\r\nHost: wrong.example\r\n\r\n");
    await peer.until((text) => text.endsWith("\r\n\r\nright"));
    assert.equal(wrong.requests.length, 0);
    assert.equal(right.requests[0]!.target, "/a");
    assert.deepEqual(valuesOf(right.requests[0]!.fields, "host"), ["right.example"]);
  });

  test(`${forwarder}: outbound, an absolute form goes to what it names`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`POST ${origin.url}/a?b HTTP/1.1\r\nHost: ${new URL(origin.url).host}\r\nContent-Length: 5\r\n\r\nhello`);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.equal(origin.requests[0]!.target, "/a?b");
    assert.equal(origin.requests[0]!.body, "hello");
  });

  test(`${forwarder}: HTTP/1.0 with an absolute form needs no Host`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET http://right.example:81/a HTTP/1.0\r\n\r\n");
    assert.match(await peer.untilEnd(), /^HTTP\/1\.1 200 [\s\S]*\r\n\r\nok$/);
    assert.deepEqual(valuesOf(origin.requests[0]!.fields, "host"), ["right.example:81"]);
  });
}
