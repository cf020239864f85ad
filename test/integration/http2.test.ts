import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import type { ClientHttp2Session } from "node:http2";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { after, type TestContext } from "node:test";
import type { Connection } from "../../src/plugin/api.ts";
import { authority, writePem } from "../support/certificates.ts";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { ask, begin, FRAME, FramePeer, frame, http2Peer, PREFACE, responseOf } from "../support/http2-peer.ts";
import { type Observer, observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const folder = mkdtempSync(path.join(tmpdir(), "holdfast-http2-"));
after(() => rmSync(folder, { recursive: true }));
const ours = await authority("our authority");
const pair = await ours.issue({ name: "server", hosts: ["127.0.0.1"] });
const files = { cert: writePem(folder, "cert.pem", pair.cert), key: writePem(folder, "key.pem", pair.key) };

/** Prior knowledge on a plain connection, or ALPN. */
type Way = "plain" | "tls";

async function setting(
  t: TestContext,
  { upstream, forwarder, way, config = {} }: { upstream: string; forwarder: string; way: Way; config?: object },
): Promise<{ watch: Observer; inbound: string; session: ClientHttp2Session }> {
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream,
    plugins: [{ plugin: watch.plugin }],
    config: { forwarder, ...(way === "tls" ? { inbound: { tls: files } } : {}), ...config },
  });
  return { watch, inbound: sidecar.inbound, session: await http2Peer(t, sidecar.inbound, { ca: ours.cert }) };
}

function downstreamOf(watch: Observer): Connection {
  const all = watch.opened.filter(({ side }) => side === "downstream");
  assert.equal(all.length, 1);
  return all[0]!;
}

for (const forwarder of FORWARDERS) {
  for (const way of ["plain", "tls"] as const) {
    test(`${forwarder}, ${way}: one connection carries several exchanges at once`, async (t) => {
      const held: (() => void)[] = [];
      const count = 10;
      const origin = await httpOrigin(t, (request, response) => {
        held.push(() => response.end(`answer to ${request.url}`));
        // The last first; and later ones at once.
        if (held.length >= count) for (const answer of held.reverse()) answer();
      });
      const { watch, session } = await setting(t, { upstream: origin.url, forwarder, way });
      const answers = Array.from({ length: count }, (_, index) => ask(session, { ":path": `/${index}` }));
      await origin.until(() => origin.requests.length === count);
      const connection = downstreamOf(watch);
      // The last may still be on its way through our filters.
      assert.equal(connection.state, "active");
      for (const [index, answer] of (await Promise.all(answers)).entries()) {
        assert.equal(answer.status, 200);
        assert.equal(answer.body, `answer to /${index}`);
      }
      await watch.end(count);
      await watch.until(() => watch.idled("downstream") === 1);
      assert.equal(connection.state, "idle");
      assert.equal(connection.protocol, "h2");
      assert.equal(connection.secure, way === "tls");
      assert.equal(connection.exchanges, count);
      assert.equal(connection.activeExchanges, 0);
      assert.ok(connection.bytesRead > 100 && connection.bytesWritten > 100);
      for (const { exchange, outcome } of watch.ended) {
        assert.equal(exchange.downstream, connection);
        assert.equal(exchange.request.version, "2");
        assert.equal(outcome.error, undefined);
        assert.equal(exchange.downstreamIdleMs, 0);
      }
      // One after another they need only one connection upstream.
      const upstreams = origin.sockets.length;
      assert.equal((await ask(session, { ":path": "/again" })).body, "answer to /again");
      assert.equal(origin.sockets.length, upstreams);
      assert.deepEqual(valuesOf(origin.requests[0]!.fields, "x-forwarded-proto"), [way === "tls" ? "https" : "http"]);
      assert.match(valuesOf(origin.requests[0]!.fields, "via")[0]!, /^2 /);
    });

    test(`${forwarder}, ${way}: bodies of any size pass both ways at the pace of who reads them`, async (t) => {
      const size = 3_000_000;
      const origin = await httpOrigin(t, (_request, response, seen) => response.end(seen.body, "latin1"));
      const { session } = await setting(t, { upstream: origin.url, forwarder, way });
      const body = Buffer.alloc(size, "0123456789abcdef").toString("latin1");
      const answers = await Promise.all([
        ask(session, { ":method": "POST", ":path": "/" }, body),
        ask(session, { ":method": "PUT", ":path": "/", "content-length": size }, body),
      ]);
      for (const answer of answers) assert.ok(answer.body === body);
      const byMethod = (method: string) => origin.requests.find((request) => request.method === method)!;
      assert.deepEqual(valuesOf(byMethod("POST").fields, "transfer-encoding"), ["chunked"]);
      assert.deepEqual(valuesOf(byMethod("PUT").fields, "content-length"), [String(size)]);
      assert.deepEqual(valuesOf(byMethod("PUT").fields, "transfer-encoding"), []);
    });

    test(`${forwarder}, ${way}: a body that turns out to be empty is one, with and without its length`, async (t) => {
      const origin = await httpOrigin(t);
      const { session } = await setting(t, { upstream: origin.url, forwarder, way });
      for (const headers of [{}, { "content-length": 0 }]) {
        const answer = await ask(session, { ":method": "POST", ":path": "/", ...headers }, "");
        assert.equal(answer.body, "ok");
      }
      assert.ok(origin.requests.every(({ complete, body }) => complete && body === ""));
    });

    test(`${forwarder}, ${way}: responses without a body, and one with a status that has none`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }, head) => {
        const status = /\/(\d+) /.exec(head)![1]!;
        const length = status === "204" || status === "304" ? "" : "Content-Length: 2\r\n";
        const body = status === "200" && !head.startsWith("HEAD") ? "ok" : "";
        socket.write(`HTTP/1.1 ${status} Any\r\n${status === "205" ? "Content-Length: 0\r\n" : length}\r\n${body}`);
      });
      const { session } = await setting(t, { upstream: origin.url, forwarder, way });
      for (const [method, status] of [
        ["GET", 204],
        ["GET", 304],
        ["GET", 205],
        ["HEAD", 200],
        ["GET", 200],
      ] as const) {
        const answer = await ask(session, { ":method": method, ":path": `/${status}` });
        assert.equal(answer.status, status);
        assert.equal(answer.rstCode, 0);
        assert.equal(answer.body, status === 200 && method === "GET" ? "ok" : "");
        if (status === 200) assert.deepEqual(valuesOf(answer.fields, "content-length"), ["2"]);
      }
      assert.equal(origin.connections.length, 1);
    });

    test(`${forwarder}, ${way}: trailers pass both ways`, async (t) => {
      const origin = await httpOrigin(t, (_request, response) => {
        response.writeHead(200, { trailer: "X-Sum" });
        response.write("body");
        response.addTrailers([
          ["X-Sum", "1"],
          ["x-sum", "2"],
          ["Authorization", "evil"],
        ]);
        response.end();
      });
      const { session } = await setting(t, { upstream: origin.url, forwarder, way });
      const stream = session.request(
        { ":method": "POST", ":path": "/", te: "trailers", trailer: "x-check" },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-check": ["a", "b"], host: "evil" }));
      const response = responseOf(stream);
      stream.end("hello");
      const { status, body, fields, trailers, rstCode } = await response;
      assert.deepEqual({ status, body, rstCode }, { status: 200, body: "body", rstCode: 0 });
      assert.deepEqual(valuesOf(fields, "trailer"), ["X-Sum"]);
      assert.deepEqual(trailers, ["x-sum", "1", "x-sum", "2"]);
      const [request] = origin.requests;
      assert.equal(request!.body, "hello");
      assert.deepEqual(request!.trailers, ["x-check", "a", "x-check", "b"]);
      assert.deepEqual(valuesOf(request!.fields, "te"), ["trailers"]);
      assert.deepEqual(valuesOf(request!.fields, "trailer"), ["x-check"]);
    });

    test(`${forwarder}, ${way}: 1xx are passed on, and 100-continue is waited for`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }, head) => {
        if (head.startsWith("GET")) {
          socket.write("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n");
          socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
          return;
        }
        assert.match(head, /\r\nexpect: 100-continue\r\n/i);
        socket.write("HTTP/1.1 100 Continue\r\n\r\n");
        socket.once("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
      });
      const { session } = await setting(t, { upstream: origin.url, forwarder, way });
      assert.deepEqual((await ask(session, { ":path": "/" })).interim, [103]);
      const headers = { ":method": "POST", ":path": "/", "content-length": 5, expect: "100-continue" };
      const stream = begin(session, headers, false);
      const response = responseOf(stream);
      stream.on("continue", () => stream.end("hello"));
      const answer = await response;
      assert.equal(answer.status, 200);
      assert.deepEqual(answer.interim, [100]);
    });

    test(`${forwarder}, ${way}: a plugin's reply and a failure are answers like any other`, async (t) => {
      const origin = await rawOrigin(t, ({ socket }) => socket.destroy());
      const { session, watch } = await setting(t, { upstream: origin.url, forwarder, way });
      const failed = await ask(session, { ":method": "POST", ":path": "/" }, "hello");
      assert.equal(failed.status, 502);
      assert.equal(failed.body, "502 HF_UPSTREAM_CLOSED\n");
      assert.equal((await ask(session, { ":path": "/" })).status, 502);
      assert.equal(downstreamOf(watch).state, "idle");
    });
  }

  test(`${forwarder}: the preface is recognised however it is cut, and nothing else is taken for it`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const bytes = PREFACE + frame(FRAME.settings, 0, 0);
    for (const cut of [1, 3, 4, 18, 23, 24, 30]) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.socket.setNoDelay(true);
      peer.send(bytes.slice(0, cut));
      await new Promise((resolve) => setImmediate(resolve));
      peer.send(bytes.slice(cut));
      // SETTINGS, and the acknowledgement of ours.
      await peer.until((text) => text.includes(frame(FRAME.settings, 1, 0)));
    }
    for (const method of ["P", "PR", "PRI", "PRIX", "PUT"]) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(method.slice(0, 1));
      await new Promise((resolve) => setImmediate(resolve));
      peer.send(`${method.slice(1)} /${method} HTTP/1.1\r\nHost: h\r\n\r\n`);
      // node:http, here and at the origin, knows its methods by name.
      await peer.until((text) => /^HTTP\/1\.1 (200|400|502|505) /.test(text));
    }
    assert.ok(origin.requests.some(({ method }) => method === "PUT"));
  });

  test(`${forwarder}: a peer that stops in the middle of the preface is refused in time`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "connection-limits", config: { headTimeout: "100ms" } }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("PRI * HT");
    assert.match(await peer.untilEnd(), /^HTTP\/1\.1 408 /);
    const gone = await RawPeer.connect(t, sidecar.inbound);
    gone.send("PRI");
    gone.socket.end();
    await gone.untilEnd();
  });

  test(`${forwarder}: a peer that sends the preface and nothing else is closed in time`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "connection-limits", config: { headTimeout: "100ms" } }],
      config: { forwarder },
    });
    const peer = await FramePeer.connect(t, sidecar.inbound);
    await peer.until(({ type }) => type === FRAME.goaway);
    await peer.peer.untilEnd();
  });

  test(`${forwarder}: where HTTP/2 is not taken, its preface is a wrong version`, async (t) => {
    const origin = await httpOrigin(t);
    const config = { forwarder, inbound: { http2: false } };
    const sidecar = await testSidecar(t, { upstream: origin.url, config });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(PREFACE);
    assert.match(await peer.untilEnd(), /^HTTP\/1\.1 505 /);
  });
}
