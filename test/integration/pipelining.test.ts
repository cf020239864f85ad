import assert from "node:assert/strict";
import test from "node:test";
import { definePlugin } from "../../src/plugin/api.ts";
import { httpOrigin } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

function get(target: string): string {
  return `GET ${target} HTTP/1.1\r\nHost: a.example\r\n\r\n`;
}

/** Bodies of the responses in their order; every response has Content-Length. */
function bodies(text: string): string[] {
  const found: string[] = [];
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf("\r\n\r\n", at);
    if (end === -1) break;
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(at, end))?.[1]);
    if (text.length < end + 4 + length) break;
    found.push(text.slice(end + 4, end + 4 + length));
    at = end + 4 + length;
  }
  return found;
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: pipelined requests run one after the other, and are answered in order`, async (t) => {
    const held: (() => void)[] = [];
    const origin = await httpOrigin(t, (request, response) => {
      held.push(() => {
        response.setHeader("Content-Length", Buffer.byteLength(request.url!));
        response.end(request.url);
      });
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const targets = ["/1", "/2", "/3", "/4"];
    peer.send(targets.map(get).join(""));
    for (const [index, target] of targets.entries()) {
      await origin.until(() => held.length === index + 1);
      assert.deepEqual(
        origin.requests.map((request) => request.target),
        targets.slice(0, index + 1),
        "the next one has not begun",
      );
      assert.deepEqual(bodies(peer.received), targets.slice(0, index));
      held[index]!();
      await peer.until((text) => bodies(text).at(-1) === target);
    }
    assert.equal(peer.ended, false);
  });

  test(`${forwarder}: bodies between pipelined requests are not mistaken for requests`, async (t) => {
    const origin = await httpOrigin(t, (request, response, seen) => {
      const text = `${request.url} ${seen.body}`;
      response.setHeader("Content-Length", Buffer.byteLength(text));
      response.end(text);
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const inner = get("/inner");
    const size = inner.length.toString(16);
    const head = "HTTP/1.1\r\nHost: a.example\r\n";
    peer.send(
      `POST /1 ${head}Content-Length: ${inner.length}\r\n\r\n${inner}${get("/2")}` +
        `PUT /3 ${head}Transfer-Encoding: chunked\r\n\r\n${size}\r\n${inner}\r\n0\r\n\r\n` +
        `${get("/4")}DELETE /5 ${head}Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nX-T: 1\r\n\r\n${get("/6")}`,
    );
    await peer.until((text) => bodies(text).length === 6);
    assert.deepEqual(bodies(peer.received), [`/1 ${inner}`, "/2 ", `/3 ${inner}`, "/4 ", "/5 x", "/6 "]);
    assert.equal(origin.requests.length, 6);
  });

  test(`${forwarder}: hundreds of pipelined requests, in whatever pieces they come`, async (t) => {
    const origin = await httpOrigin(t, (request, response) => {
      response.setHeader("Content-Length", Buffer.byteLength(request.url!));
      response.end(request.url);
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.socket.setNoDelay(true);
    const targets = Array.from({ length: 300 }, (_, index) => `/${index}`);
    const text = targets.map(get).join("");
    for (let at = 0; at < text.length; at += 997) {
      peer.send(text.slice(at, at + 997));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await peer.until((received) => received.endsWith(`\r\n\r\n${targets.at(-1)}`));
    assert.deepEqual(bodies(peer.received), targets);
    assert.deepEqual(
      origin.requests.map(({ target }) => target),
      targets,
    );
  });

  test(`${forwarder}: a failed request in a pipeline does not disturb those behind it`, async (t) => {
    const origin = await httpOrigin(t, (request, response) => {
      if (request.url === "/bad") request.socket.destroy();
      else response.end("ok");
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const post = "POST /bad HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n";
    peer.send(post + get("/2") + post + get("/4"));
    const answer = await peer.until((text) => text.split("\r\n\r\nok").length === 3);
    assert.deepEqual(
      [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => status),
      ["502", "200", "502", "200"],
    );
  });

  test(`${forwarder}: requests behind one after which we close are not carried out`, async (t) => {
    const plugin = definePlugin({
      name: "closes",
      apiVersion: 1,
      description: "closes after /close",
      config: {},
      setup: () => ({
        exchange: (exchange) => ({
          response() {
            if (exchange.request.target === "/close") exchange.downstream.drain("logout");
          },
        }),
      }),
    });
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins: [{ plugin }], config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(get("/1") + get("/close") + get("/3") + get("/4"));
    const answer = await peer.untilEnd();
    assert.equal(answer.match(/HTTP\/1\.1 200 /g)?.length, 2);
    assert.equal(answer.match(/\r\nConnection: close\r\n/gi)?.length, 1);
    const next = await RawPeer.connect(t, sidecar.inbound);
    next.send(get("/5"));
    await next.until((text) => text.endsWith("\r\n\r\nok"));
    assert.deepEqual(
      origin.requests.map(({ target }) => target),
      ["/1", "/close", "/5"],
    );
  });

  test(`${forwarder}: a pipeline whose peer goes away stops`, async (t) => {
    const origin = await httpOrigin(t, () => {});
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(get("/1") + get("/2") + get("/3"));
    await origin.until(() => origin.requests[0]?.complete === true);
    peer.socket.resetAndDestroy();
    await origin.until(() => origin.requests[0]!.socket.destroyed);
    assert.equal(origin.requests.length, 1);
  });
}
