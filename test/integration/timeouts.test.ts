import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import test from "node:test";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const failed = (text: string): boolean => /\r\n\r\n5\d\d HF_\w+\n$/.test(text);

/** A port on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = net.createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: nobody listens: 502 connection_refused; the connection to the caller stays`, async (t) => {
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: `http://127.0.0.1:${await closedPort()}`,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    for (let round = 1; round <= 2; round++) {
      peer.received = "";
      peer.send(GET);
      const text = await peer.until(failed);
      assert.match(text, /^HTTP\/1\.1 502 Bad Gateway\r\n/);
      assert.match(
        text,
        /\r\nProxy-Status: holdfast-test; error=connection_refused; details="HF_UPSTREAM_REFUSED"\r\n/,
      );
      assert.match(text, /\r\nConnection: keep-alive\r\n/);
      const { reason, connection } = await watch.closedOn("upstream", round);
      assert.equal(reason, "connect_failed");
      assert.match(String(connection.error), /refused the connection/);
      const { outcome } = await watch.end(round);
      assert.equal(outcome.error?.code, "HF_UPSTREAM_REFUSED");
    }
  });

  test(`${forwarder}: a name without an address: 502 dns_error`, async (t) => {
    const sidecar = await testSidecar(t, { upstream: "http://no-such-host.invalid:80", config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    const text = await peer.until(failed);
    assert.match(text, /^HTTP\/1\.1 502 Bad Gateway\r\n/);
    assert.match(text, /\r\nProxy-Status: holdfast-test; error=dns_error; details="HF_UPSTREAM_DNS"\r\n/);
  });

  test(`${forwarder}: an upstream that never finishes connecting: 504 connection_timeout`, async (t) => {
    // TLS is part of connecting, and this origin never says hello.
    const silent = net.createServer((socket) => {
      socket.on("error", () => {});
      socket.resume();
    });
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    t.after(() => void silent.close());
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: `https://127.0.0.1:${(silent.address() as AddressInfo).port}`,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, inbound: { connectTimeout: "200ms" } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    const text = await peer.until(failed);
    assert.match(text, /^HTTP\/1\.1 504 Gateway Timeout\r\n/);
    assert.match(
      text,
      /\r\nProxy-Status: holdfast-test; error=connection_timeout; details="HF_UPSTREAM_CONNECT_TIMEOUT"\r\n/,
    );
    const { reason, connection } = await watch.closedOn("upstream");
    assert.equal(reason, "connect_failed");
    assert.ok(connection.setup.connectMs !== undefined);
    assert.equal(connection.setup.tlsMs, undefined);
  });

  for (const [what, request] of Object.entries({
    "a request": GET,
    "an upgrade": "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
  })) {
    test(`${forwarder}: no answer to ${what} within responseTimeout: 504 http_response_timeout`, async (t) => {
      const origin = await rawOrigin(t, () => {});
      const watch = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin: watch.plugin }],
        config: { forwarder, inbound: { connectTimeout: "200ms", responseTimeout: "200ms" } },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(request);
      const text = await peer.until(failed);
      assert.match(text, /^HTTP\/1\.1 504 Gateway Timeout\r\n/);
      assert.match(
        text,
        /\r\nProxy-Status: holdfast-test; error=http_response_timeout; details="HF_UPSTREAM_TIMEOUT"\r\n/,
      );
      assert.match(text, /\r\nConnection: keep-alive\r\n/);
      assert.equal((await watch.closedOn("upstream")).reason, "request_timeout");
      assert.equal(origin.connections.length, 1);
    });
  }

  test(`${forwarder}: a response that stops in its middle for responseTimeout is cut`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) =>
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    );
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, inbound: { connectTimeout: "200ms", responseTimeout: "200ms" } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    const text = await peer.untilEnd();
    assert.match(text, /hello/);
    assert.doesNotMatch(text, /\r\n0\r\n/);
    const { outcome } = await watch.end();
    assert.equal(outcome.status, 200);
    assert.equal(outcome.error?.code, "HF_UPSTREAM_TIMEOUT");
    assert.equal((await watch.closedOn("upstream")).reason, "request_timeout");
    assert.equal((await watch.closedOn("downstream")).reason, "aborted");
  });

  test(`${forwarder}: an upstream that stops taking an upload for responseTimeout: 504`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => void socket.pause());
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, inbound: { connectTimeout: "400ms", responseTimeout: "400ms" } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const length = 64 * 1024 * 1024;
    peer.send(`POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ${length}\r\n\r\n`);
    peer.socket.write(Buffer.alloc(length));
    const { outcome } = await watch.end();
    assert.equal(outcome.error?.code, "HF_UPSTREAM_TIMEOUT");
    assert.ok(outcome.requestBytes < length);
    assert.equal((await watch.closedOn("upstream")).reason, "request_timeout");
  });

  test(`${forwarder}: a caller that stops taking the response for responseTimeout is cut, and nobody else is blamed`, async (t) => {
    const length = 64 * 1024 * 1024;
    const origin = await rawOrigin(t, ({ socket }) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n`);
      socket.write(Buffer.alloc(length));
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, inbound: { connectTimeout: "400ms", responseTimeout: "400ms" } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.socket.pause();
    peer.send(GET);
    const { outcome } = await watch.end();
    assert.equal(outcome.error?.code, "HF_DOWNSTREAM_ABORTED");
    assert.equal((await watch.closedOn("downstream")).reason, "aborted");
    assert.equal((await watch.closedOn("upstream")).reason, "aborted");
  });

  test(`${forwarder}: one who waits in vain does not harm the connection that serves another`, async (t) => {
    // The response is complete at the upstream's end; its slow reader is cut while that connection serves the next.
    const length = 24 * 1024 * 1024;
    const origin = await rawOrigin(t, ({ socket }, head) => {
      if (head.includes("/slow")) {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n`);
        socket.write(Buffer.alloc(length));
      } else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, inbound: { connectTimeout: "600ms", responseTimeout: "600ms" } },
    });
    const [slow, quick] = [await RawPeer.connect(t, sidecar.inbound), await RawPeer.connect(t, sidecar.inbound)];
    slow.socket.pause();
    slow.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
    await origin.connected(1);
    while (watch.ended.every(({ exchange }) => exchange.request.target !== "/slow")) {
      quick.received = "";
      quick.send(GET);
      assert.match(await quick.until((text) => text.endsWith("\r\n\r\nok")), /^HTTP\/1\.1 200 OK\r\n/);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.ok(
      watch.ended.every(({ exchange, outcome }) => exchange.request.target === "/slow" || outcome.error === undefined),
    );
  });
}
