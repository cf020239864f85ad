/**
 * Where clouds hand out credentials, a request leads only if a route of the configuration says so: whoever makes the
 * service fetch an address of their choice does not get there through the sidecar.
 */
import assert from "node:assert/strict";
import type { LookupFunction } from "node:net";
import test from "node:test";
import { RESERVED_ADDRESSES } from "../../src/proxy/reserved-addresses.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const METADATA = ["169.254.169.254", "169.254.170.2", "[fe80::a9fe:a9fe]", "[fd00:ec2::254]", "168.63.129.16"];

test("which addresses are reserved", () => {
  for (const address of ["169.254.0.1", "169.254.255.255", "100.100.100.200"]) {
    assert.ok(RESERVED_ADDRESSES.check(address, "ipv4"), address);
  }
  for (const address of ["fe80::1", "febf::1", "fd00:ec2::23", "fd20:ce::254", "::ffff:169.254.169.254"]) {
    assert.ok(RESERVED_ADDRESSES.check(address, "ipv6"), address);
  }
  for (const address of ["127.0.0.1", "10.0.0.1", "169.253.1.1", "100.100.100.201"]) {
    assert.ok(!RESERVED_ADDRESSES.check(address, "ipv4"), address);
  }
  for (const address of ["::1", "fd00::1", "fec0::1"]) assert.ok(!RESERVED_ADDRESSES.check(address, "ipv6"), address);
});

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: no request leads to a reserved address by itself, by name or by number, tunnels included`, async (t) => {
    const lookup: LookupFunction = (_host, _options, done) => done(null, [{ address: "169.254.169.254", family: 4 }]);
    const sidecar = await testSidecar(t, { lookup, config: { forwarder, outbound: { connectTimeout: "1s" } } });
    for (const host of [...METADATA, "metadata.example"]) {
      for (const [method, target] of [
        ["GET", `http://${host}/latest/meta-data/`],
        ["CONNECT", `${host}:80`],
      ]) {
        const peer = await RawPeer.connect(t, sidecar.outbound);
        peer.send(`${method} ${target} HTTP/1.1\r\nHost: ${method === "GET" ? host : target}\r\n\r\n`);
        assert.match(
          await peer.until((text) => text.includes("HF_")),
          /^HTTP\/1\.1 403 [\s\S]*HF_NO_ROUTE/,
          `${method} ${host}`,
        );
      }
    }
    const line = sidecar.log.find(({ path }) => path === "/latest/meta-data/") as { error?: { message: string } };
    assert.match(line.error?.message ?? "", /give it a route$/);
  });

  test(`${forwarder}: a name with a reserved address among others leads to the others`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    const lookup: LookupFunction = (_host, _options, done) =>
      done(null, [
        { address: "169.254.169.254", family: 4 },
        { address: "127.0.0.1", family: 4 },
      ]);
    const sidecar = await testSidecar(t, { lookup, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`GET / HTTP/1.1\r\nHost: some.example:${origin.port}\r\n\r\n`);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
  });

  test(`${forwarder}: a route of the configuration leads wherever it says`, async (t) => {
    const routes = [{ host: "metadata.example", upstream: "http://169.254.169.254:1" }];
    const config = { forwarder, outbound: { listen: "127.0.0.1:0", connectTimeout: "50ms", routes } };
    const sidecar = await testSidecar(t, { config });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send("GET / HTTP/1.1\r\nHost: metadata.example\r\n\r\n");
    // Whatever is there, or nothing: it was tried.
    const answer = await peer.until((text) => text.includes("\r\n\r\n"));
    assert.doesNotMatch(answer, /HF_NO_ROUTE/);
  });
}
