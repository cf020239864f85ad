import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

/** As Java's HttpClient sends it on its first request. */
const JAVA =
  "Connection: Upgrade, HTTP2-Settings\r\nHost: a.example\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\nUser-Agent: Java-http-client/17.0.2\r\n";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: Upgrade: h2c is served as HTTP/1.1, on a connection that stays`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const requests = [
      `GET /get HTTP/1.1\r\n${JAVA}\r\n`,
      `POST /length HTTP/1.1\r\n${JAVA}Content-Length: 5\r\n\r\nhello`,
      `POST /chunked HTTP/1.1\r\n${JAVA}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
      `DELETE /delete HTTP/1.1\r\n${JAVA}\r\n`,
      `POST /empty HTTP/1.1\r\n${JAVA}Content-Length: 0\r\n\r\n`,
    ];
    for (const [index, request] of requests.entries()) {
      peer.send(request);
      await peer.until((text) => text.split("\r\n\r\nok").length === index + 2);
    }
    // All at once, too.
    peer.send(requests.join(""));
    const answer = await peer.until((text) => text.split("\r\n\r\nok").length === 2 * requests.length + 1);
    assert.equal(answer.match(/HTTP\/1\.1 200 OK\r\n/g)?.length, 2 * requests.length);
    assert.doesNotMatch(answer, /HTTP\/1\.1 101|\r\nUpgrade:/i);
    const expected = ["/get ", "/length hello", "/chunked hello", "/delete ", "/empty "];
    assert.deepEqual(
      origin.requests.map(({ target, body }) => `${target} ${body}`),
      [...expected, ...expected],
    );
    for (const { fields } of origin.requests) {
      for (const name of ["upgrade", "http2-settings"]) assert.deepEqual(valuesOf(fields, name), [], name);
      assert.deepEqual(valuesOf(fields, "connection"), ["keep-alive"]);
    }
  });

  test(`${forwarder}: an upgrade that is declined behind a refused request is not read again and again`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\n${JAVA}\r\n`);
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 400 /);
    assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1);
    assert.equal(origin.requests.length, 0);
  });

  test(`${forwarder}: an upgrade that comes with a body is served without it`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("POST /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\nContent-Length: 5\r\n\r\nhello");
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.equal(origin.requests[0]!.body, "hello");
    assert.deepEqual(valuesOf(origin.requests[0]!.fields, "upgrade"), []);
  });

  test(`${forwarder}: Upgrade on HTTP/1.0, or that Connection does not name, is no upgrade`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    for (const [version, fields] of [
      ["1.0", "Connection: upgrade\r\nUpgrade: foo\r\n"],
      ["1.1", "Upgrade: foo\r\nConnection: close\r\n"],
    ] as const) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(`GET / HTTP/${version}\r\nHost: a\r\n${fields}\r\n`);
      assert.match(await peer.untilEnd(), /^HTTP\/1\.1 200 [\s\S]*\r\n\r\nok$/);
    }
    for (const { fields } of origin.requests) assert.deepEqual(valuesOf(fields, "upgrade"), []);
  });
}
