import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin, type SeenRequest, valuesOf } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  async function send(t: test.TestContext, fields: string, body = ""): Promise<SeenRequest> {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`POST /a HTTP/1.1\r\nHost: a.example\r\n${fields}\r\n${body}`);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.equal(origin.requests.length, 1);
    return origin.requests[0]!;
  }

  test(`${forwarder}: fields that Connection names are removed`, async (t) => {
    const { fields } = await send(
      t,
      "Connection: X-One, keep-alive\r\nx-one: 1\r\nX-ONE: 2\r\nConnection: x-two,, ,X-Absent\r\nX-Two: 1\r\nX-Three: 3\r\n",
    );
    assert.deepEqual(valuesOf(fields, "x-one"), []);
    assert.deepEqual(valuesOf(fields, "x-two"), []);
    assert.deepEqual(valuesOf(fields, "x-three"), ["3"]);
    assert.deepEqual(valuesOf(fields, "connection"), ["keep-alive"]);
  });

  test(`${forwarder}: Connection cannot switch off Host, framing or authentication`, async (t) => {
    const names = "Host, Content-Length, Authorization, Cookie, Transfer-Encoding, X-Forwarded-For, Via";
    const { fields, body } = await send(
      t,
      `Connection: ${names}, X-Gone\r\nX-Gone: 1\r\nContent-Length: 5\r\nAuthorization: Basic YTpi\r\nCookie: a=b\r\n`,
      "hello",
    );
    assert.equal(body, "hello");
    assert.deepEqual(valuesOf(fields, "host"), ["a.example"]);
    assert.deepEqual(valuesOf(fields, "content-length"), ["5"]);
    assert.deepEqual(valuesOf(fields, "authorization"), ["Basic YTpi"]);
    assert.deepEqual(valuesOf(fields, "cookie"), ["a=b"]);
    assert.deepEqual(valuesOf(fields, "x-forwarded-for"), ["127.0.0.1"]);
    assert.equal(valuesOf(fields, "via").length, 1);
    assert.deepEqual(valuesOf(fields, "x-gone"), []);
  });

  test(`${forwarder}: Connection: Transfer-Encoding does not unframe a chunked body`, async (t) => {
    const { fields, body } = await send(
      t,
      "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
      "5\r\nhello\r\n0\r\n\r\n",
    );
    assert.equal(body, "hello");
    assert.deepEqual(valuesOf(fields, "transfer-encoding"), ["chunked"]);
  });

  test(`${forwarder}: fields of one hop are not relayed, whether or not Connection names them`, async (t) => {
    const { fields } = await send(
      t,
      "Keep-Alive: timeout=5, max=10\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: foo/1\r\nHTTP2-Settings: AAAA\r\n" +
        "Trailer: X-T\r\nX-Kept: 1\r\n",
    );
    for (const name of ["keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"]) {
      assert.deepEqual(valuesOf(fields, name), [], name);
    }
    assert.deepEqual(valuesOf(fields, "connection"), ["keep-alive"]);
    assert.deepEqual(valuesOf(fields, "x-kept"), ["1"]);
  });

  for (const value of ["trailers", "gzip;q=0.5, trailers", "Trailers"]) {
    test(`${forwarder}: TE: ${value} is relayed as TE: trailers, and Connection names it`, async (t) => {
      const { fields } = await send(t, `TE: ${value}\r\nConnection: TE\r\n`);
      assert.deepEqual(valuesOf(fields, "te"), ["trailers"]);
      assert.deepEqual(
        valuesOf(fields, "connection")
          .flatMap((line) => line.toLowerCase().split(/\s*,\s*/))
          .toSorted(),
        ["keep-alive", "te"],
      );
    });
  }

  test(`${forwarder}: Proxy-Authorization is for us and goes no further; Authorization does`, async (t) => {
    const { fields } = await send(t, "Proxy-Authorization: Basic YTpi\r\nAuthorization: Bearer x\r\n");
    assert.deepEqual(valuesOf(fields, "authorization"), ["Bearer x"]);
    assert.deepEqual(valuesOf(fields, "proxy-authorization"), []);
  });
}
