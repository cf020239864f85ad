import assert from "node:assert/strict";
import test from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

const LIMITS = { head: "8KiB", target: "2KiB", fields: 50 };

function head({ target = "/", fields = "" } = {}): string {
  return `GET ${target} HTTP/1.1\r\nHost: a.example\r\n${fields}\r\n`;
}

/** As many field lines. */
function lines(count: number): string {
  return Array.from({ length: count }, (_, index) => `X-${index}: ${index}\r\n`).join("");
}

/** A head of exactly this many bytes. */
function headOf(bytes: number): string {
  const empty = head({ fields: "X-A: \r\n" });
  return head({ fields: `X-A: ${"a".repeat(bytes - empty.length)}\r\n` });
}

const TOO_MUCH: readonly (readonly [name: string, bytes: string, status: 414 | 431])[] = [
  ["a target one byte too long", head({ target: `/${"a".repeat(2048)}` }), 414],
  ["a target longer than a head may be", head({ target: `/${"a".repeat(9000)}` }), 414],
  ["a target without end", `GET /${"a".repeat(300_000)}`, 414],
  ["a target too long in absolute form", head({ target: `http://a.example/${"a".repeat(2048)}` }), 414],
  ["one field line too many", head({ fields: lines(50) }), 431],
  ["many field lines too many", head({ fields: lines(300) }), 431],
  ["empty fields without end", `GET / HTTP/1.1\r\nHost: a.example\r\n${"a:\r\n".repeat(50_000)}`, 431],
  ["a head one byte too large", headOf(8193), 431],
  ["a value without end", `GET / HTTP/1.1\r\nHost: a.example\r\nX-A: ${"a".repeat(300_000)}`, 431],
  ["a name without end", `GET / HTTP/1.1\r\nHost: a.example\r\n${"a".repeat(300_000)}`, 431],
];

// The parser of node:http gives values without the white space around them.
test("wire: white space around a value counts, in the first head of a connection and in later ones", async (t) => {
  const origin = await httpOrigin(t);
  const limits = { head: "1KiB", target: "512B" };
  const sidecar = await testSidecar(t, { upstream: origin.url, config: { limits } });
  for (const before of ["", head()]) {
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(before);
    if (before !== "") await peer.until((text) => text.endsWith("\r\n\r\nok"));
    peer.send(head({ fields: `X-A: a${" ".repeat(2000)}\r\n` }));
    const answer = await peer.untilEnd();
    assert.match(answer, /HTTP\/1\.1 431 /);
  }
});

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: what is over a limit is refused, and nothing of it goes upstream`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder, limits: LIMITS } });
    for (const [name, bytes, status] of TOO_MUCH) {
      await t.test(name, async (row) => {
        const peer = await RawPeer.connect(row, sidecar.inbound);
        peer.send(bytes);
        const answer = await peer.untilEnd();
        assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
        assert.match(answer, /\r\nConnection: close\r\n/i);
        assert.equal(answer.split("HTTP/1.1 ").length, 2);
      });
    }
    assert.equal(origin.requests.length, 0);
  });

  test(`${forwarder}: target and fields are told apart when a head comes in many reads`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    for (const [start, status] of [
      ["GET /", 414],
      ["GET / HTTP/1.1\r\nHost: a.example\r\nX-A: ", 431],
    ] as const) {
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(start + "a".repeat(1000));
      for (let count = 0; count < 200 && !peer.ended; count++) {
        peer.send("a".repeat(1000));
        await turn();
      }
      assert.match(await peer.untilEnd(), new RegExp(`^HTTP/1\\.1 ${status} `));
    }
    assert.equal(origin.requests.length, 0);
  });

  test(`${forwarder}: what is exactly at a limit is served`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder, limits: LIMITS } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const requests = [head({ target: `/${"a".repeat(2047)}` }), head({ fields: lines(49) }), headOf(8192)];
    for (const [index, request] of requests.entries()) {
      peer.send(request);
      await peer.until((text) => text.split("\r\n\r\nok").length === index + 2);
    }
    assert.equal(origin.requests[0]!.target.length, 2048);
  });

  test(`${forwarder}: no field is lost, however many there are`, async (t) => {
    const origin = await httpOrigin(t, (_request, response) => {
      response.writeHead(200, ["Content-Length", "2", ...Array.from({ length: 1500 }, () => ["X-R", "1"]).flat()]);
      response.end("ok");
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder, limits: { fields: 3000 } } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const count = 2500;
    peer.send(head({ fields: lines(count) }));
    const answer = await peer.until((text) => text.endsWith("\r\n\r\nok"));
    const { fields } = origin.requests[0]!;
    for (let index = 0; index < count; index++) assert.deepEqual(valuesOf(fields, `X-${index}`), [String(index)]);
    assert.equal(answer.match(/\r\nX-R: 1/g)?.length, 1500);
  });

  test(`${forwarder}: the limits hold for each request of a connection`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder, limits: LIMITS } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    // Together more than one head may be.
    peer.send(headOf(5000).repeat(10) + headOf(8193));
    const answer = await peer.untilEnd();
    assert.equal(answer.match(/HTTP\/1\.1 200 /g)?.length, 10);
    assert.match(answer, /okHTTP\/1\.1 431 /);
    assert.equal(origin.requests.length, 10);
  });
}
