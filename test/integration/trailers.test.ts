import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

const HEAD = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: request trailers are forwarded in order, whether or not they were announced`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${HEAD}Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-SUM: caf\xe9\r\nX-More: 2\r\n\r\n`);
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    const [request] = origin.requests;
    assert.equal(request!.body, "hello");
    assert.deepEqual(valuesOf(request!.fields, "trailer"), ["X-Sum"]);
    assert.deepEqual(request!.trailers, ["X-Sum", "1", "x-SUM", "caf\xe9", "X-More", "2"]);
  });

  test(`${forwarder}: trailers that frame, route or authenticate are dropped, and merged nowhere`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const names = ["Host", "Authorization", "Cookie", "Connection", "X-Forwarded-For", "Content-Type", "TE", "Upgrade"];
    names.push("X-Forwarded-Port", "X-Real-IP", "Forwarded");
    peer.send(
      `${HEAD}Trailer: X-Kept, ${names.join(", ")}\r\n\r\n0\r\nX-Kept: 1\r\n` +
        `${names.map((name) => `${name}: evil\r\n`).join("")}\r\n`,
    );
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    const [request] = origin.requests;
    assert.deepEqual(request!.trailers, ["X-Kept", "1"]);
    assert.deepEqual(
      valuesOf(request!.fields, "trailer").flatMap((line) => line.toLowerCase().split(", ")),
      ["x-kept"],
    );
    assert.ok(!request!.fields.includes("evil"));
    assert.deepEqual(valuesOf(request!.fields, "host"), ["a.example"]);
  });

  for (const [name, value] of [
    ["Content-Length", "5"],
    ["Transfer-Encoding", "chunked"],
  ] as const) {
    test(`${forwarder}: ${name} as a trailer is refused or dropped, never relayed`, async (t) => {
      const origin = await httpOrigin(t);
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(`${HEAD}\r\n5\r\nhello\r\n0\r\n${name}: ${value}\r\n\r\n`);
      const answer = await peer.until((text) => text.includes("\r\n\r\n"));
      if (answer.startsWith("HTTP/1.1 400 ")) {
        await peer.untilEnd();
        await origin.until(() => origin.requests.every(({ socket }) => socket.destroyed));
        assert.ok(origin.requests.every(({ complete }) => !complete));
      } else {
        assert.match(answer, /^HTTP\/1\.1 200 /);
        assert.deepEqual(origin.requests[0]!.trailers, []);
      }
    });
  }

  test(`${forwarder}: what a trailer section may hold is limited`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      config: { forwarder, limits: { head: "8KiB", target: "4KiB" } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${HEAD}\r\n5\r\nhello\r\n0\r\nX-A: ${"a".repeat(200_000)}\r\n\r\n`);
    assert.match(await peer.untilEnd(), /^HTTP\/1\.1 4\d\d [\s\S]*\r\nConnection: close\r\n/i);
    await origin.until(() => origin.requests.every(({ socket }) => socket.destroyed));
    assert.ok(origin.requests.every(({ complete }) => !complete));
  });

  test(`${forwarder}: response trailers reach a peer that speaks HTTP/1.1`, async (t) => {
    const origin = await httpOrigin(t, (_request, response) => {
      response.writeHead(200, { trailer: "X-Sum" });
      response.write("body");
      response.addTrailers({ "X-Sum": "1", Authorization: "evil" });
      response.end();
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    const answer = await peer.until((text) => /\r\n0\r\n(.*\r\n)*\r\n$/.test(text));
    assert.match(answer, /\r\nTrailer: X-Sum\r\n/i);
    assert.match(answer, /4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n$/);

    const old = await RawPeer.connect(t, sidecar.inbound);
    old.send("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n");
    const oldAnswer = await old.untilEnd();
    assert.ok(oldAnswer.endsWith("\r\n\r\nbody"));
    assert.doesNotMatch(oldAnswer, /X-Sum/i);
  });
}
