import assert from "node:assert/strict";
import test from "node:test";
import { definePlugin } from "../../src/plugin/api.ts";
import { httpOrigin, type SeenRequest, valuesOf } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  async function send(
    t: test.TestContext,
    { fields = "", version = "1.1", forwarding = {} }: { fields?: string; version?: string; forwarding?: object } = {},
  ): Promise<SeenRequest> {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder, forwarding } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`GET /a HTTP/${version}\r\nHost: a.example:81\r\n${fields}\r\n`);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    return origin.requests[0]!;
  }

  test(`${forwarder}: X-Forwarded-* say who asked, how and for what`, async (t) => {
    const { fields } = await send(t);
    assert.deepEqual(valuesOf(fields, "x-forwarded-for"), ["127.0.0.1"]);
    assert.deepEqual(valuesOf(fields, "x-forwarded-proto"), ["http"]);
    assert.deepEqual(valuesOf(fields, "x-forwarded-host"), ["a.example:81"]);
    assert.deepEqual(valuesOf(fields, "host"), ["a.example:81"]);
    assert.deepEqual(valuesOf(fields, "forwarded"), []);
  });

  test(`${forwarder}: what a trusted proxy said is kept, and ours comes last`, async (t) => {
    const { fields } = await send(t, {
      fields:
        "X-Forwarded-For: 192.0.2.1\r\nx-forwarded-for: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n" +
        "X-Forwarded-Host: b.example\r\nVia: 1.0 one\r\nvia: 2 two\r\n",
      forwarding: { trusted: ["127.0.0.0/8"] },
    });
    assert.deepEqual(valuesOf(fields, "x-forwarded-for"), ["192.0.2.1, 192.0.2.2, 127.0.0.1"]);
    assert.deepEqual(valuesOf(fields, "x-forwarded-proto"), ["https"]);
    assert.deepEqual(valuesOf(fields, "x-forwarded-host"), ["b.example"]);
    const via = valuesOf(fields, "via");
    assert.equal(via.length, 1);
    assert.match(via[0]!, /^1\.0 one, 2 two, 1\.1 holdfast-test-inbound-[0-9a-f]{8}$/);
  });

  const CLAIMS =
    "X-Forwarded-For: 192.0.2.1\r\nx-forwarded-for: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n" +
    "X-FORWARDED-HOST: bank.example\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Client-Cert: admin\r\n" +
    "X-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX-Forwarded: yes\r\nX-Forward: mine\r\n";
  const CLAIMED = ["x-forwarded-port", "x-forwarded-client-cert", "x-real-ip", "x-forwarded"];

  test(`${forwarder}: what a peer that is not trusted says of hops before it is replaced`, async (t) => {
    const trusted = ["192.0.2.0/24", "2001:db8::/32"];
    const { fields } = await send(t, { fields: CLAIMS, forwarding: { forwarded: true, trusted } });
    assert.deepEqual(valuesOf(fields, "x-forwarded-for"), ["127.0.0.1"]);
    assert.deepEqual(valuesOf(fields, "x-forwarded-proto"), ["http"]);
    assert.deepEqual(valuesOf(fields, "x-forwarded-host"), ["a.example:81"]);
    assert.deepEqual(valuesOf(fields, "forwarded"), ['for=127.0.0.1;proto=http;host="a.example:81"']);
    for (const name of CLAIMED) assert.deepEqual(valuesOf(fields, name), [], name);
    assert.deepEqual(valuesOf(fields, "x-forward"), ["mine"]);
  });

  for (const name of [...CLAIMED, "X-Forwarded-For", "x-forwarded-PROTO", "x-forwarded-host", "forwarded"]) {
    test(`${forwarder}: a lone ${name} of a peer that is not trusted goes no further`, async (t) => {
      const { fields } = await send(t, { fields: `${name}: forged\r\n`, forwarding: { xForwarded: false } });
      assert.deepEqual(valuesOf(fields, name), []);
    });
  }

  test(`${forwarder}: no Connection option hides what a trusted proxy said`, async (t) => {
    const { fields } = await send(t, {
      fields:
        "Connection: X-Forwarded-For, X-Real-IP, X-Mine\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-IP: a\r\nX-Mine: b\r\n",
      forwarding: { trusted: ["127.0.0.1"] },
    });
    assert.deepEqual(valuesOf(fields, "x-forwarded-for"), ["192.0.2.1, 127.0.0.1"]);
    assert.deepEqual(valuesOf(fields, "x-real-ip"), ["a"]);
    assert.deepEqual(valuesOf(fields, "x-mine"), []);
  });

  test(`${forwarder}: what our own service says outbound is passed on`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`GET / HTTP/1.1\r\nHost: ${new URL(origin.url).host}\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n`);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.deepEqual(valuesOf(origin.requests[0]!.fields, "x-forwarded-for"), ["192.0.2.1"]);
  });

  test(`${forwarder}: plugins and the access log are told the address that a request came from`, async (t) => {
    const seen: string[] = [];
    const watch = definePlugin({
      name: "watch",
      apiVersion: 1,
      description: "Notes where requests come from",
      config: {},
      setup: () => ({
        exchange(exchange) {
          seen.push(exchange.clientAddress);
        },
      }),
    });
    const origin = await httpOrigin(t);
    for (const trusted of [["127.0.0.1", "192.0.2.0/24"], []]) {
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch }],
        config: { forwarder, forwarding: { trusted } },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.6.6.6, 203.0.113.9:4711\r\n");
      peer.send("X-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n");
      await peer.untilEnd();
      const line = sidecar.log.find(({ path }) => path === "/");
      assert.equal(line?.["client"], trusted.length > 0 ? "203.0.113.9" : undefined);
    }
    assert.deepEqual(seen, ["203.0.113.9", "127.0.0.1"]);
  });

  test(`${forwarder}: Via says which version the peer spoke`, async (t) => {
    const { fields } = await send(t, { version: "1.0" });
    assert.match(valuesOf(fields, "via").join(), /^1\.0 holdfast-test-inbound-/);
  });

  test(`${forwarder}: Forwarded, when it is asked for`, async (t) => {
    const { fields } = await send(t, {
      fields: "Forwarded: for=192.0.2.1\r\nForwarded: for=192.0.2.2\r\n",
      forwarding: { forwarded: true, xForwarded: false, trusted: ["127.0.0.1"] },
    });
    assert.deepEqual(valuesOf(fields, "forwarded"), [
      'for=192.0.2.1, for=192.0.2.2, for=127.0.0.1;proto=http;host="a.example:81"',
    ]);
    assert.deepEqual(valuesOf(fields, "x-forwarded-for"), []);
  });

  test(`${forwarder}: all of them can be switched off`, async (t) => {
    const { fields } = await send(t, { forwarding: { xForwarded: false, forwarded: false, via: false } });
    for (const name of ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via"]) {
      assert.deepEqual(valuesOf(fields, name), [], name);
    }
  });

  test(`${forwarder}: outbound requests start at our service: nobody before it is named`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`GET / HTTP/1.1\r\nHost: ${new URL(origin.url).host}\r\n\r\n`);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    const { fields } = origin.requests[0]!;
    assert.deepEqual(valuesOf(fields, "x-forwarded-for"), []);
    assert.match(valuesOf(fields, "via").join(), /^1\.1 holdfast-test-outbound-/);
  });
}
