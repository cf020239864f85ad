import assert from "node:assert/strict";
import test from "node:test";
import { httpOrigin, valuesOf } from "../support/http-origin.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";

function head(method: string): string {
  return `${method} / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n`;
}

function chunk(text: string, extension = ""): string {
  return `${text.length.toString(16)}${extension}\r\n${text}\r\n`;
}

/** Chunked bodies that are not valid from some point on. */
const INVALID: readonly (readonly [name: string, bytes: string])[] = [
  ["a size with a plus", "+3\r\nabc\r\n"],
  ["a size with a minus", "-3\r\nabc\r\n"],
  ["a size with 0x", "0x3\r\nabc\r\n"],
  ["a size with an underscore", "0_3\r\nabc\r\n"],
  ["a size with junk behind it", "3x\r\nabc\r\n"],
  ["a size with a space before it", " 3\r\nabc\r\n"],
  ["a size of 2^64 + 3", "10000000000000003\r\nabc\r\n"],
  ["a size of many digits", `${"f".repeat(40)}\r\nabc\r\n`],
  ["no size", "\r\nabc\r\n"],
  ["no size but an extension", ";a=b\r\nabc\r\n"],
  ["bare LF behind the size", "3\nabc\r\n"],
  ["bare CR behind the size", "3\rabc\r\n"],
  ["bare LF in an extension", "3;a\nabc\r\n"],
  ["bare CR in an extension", "3;a\rb\r\nabc\r\n"],
  ["NUL in an extension", "3;a=\0\r\nabc\r\n"],
  ["bare LF behind the data", "3\r\nabc\n"],
  ["bare CR behind the data", "3\r\nabc\r0\r\n"],
  ["no CRLF behind the data", "3\r\nabc0\r\n\r\n"],
  ["more data than the size", "3\r\nabcd\r\n"],
  ["bare LF behind the last chunk", "0\n\r\n"],
  ["bare LF at the end", "0\r\n\n"],
  ["a request where the end should be", `0\r\n${SMUGGLED}`],
  ["a trailer with a space before the colon", "0\r\nX-A : 1\r\n\r\n"],
  ["a folded trailer", "0\r\nX-A: 1\r\n 2\r\n\r\n"],
  ["a trailer with NUL", "0\r\nX-A: \0\r\n\r\n"],
  ["a trailer with bare LF", "0\r\nX-A: 1\n\r\n"],
  ["a trailer without a colon", "0\r\nX-A\r\n\r\n"],
];

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a chunked body keeps its framing with every method`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const methods = ["GET", "DELETE", "OPTIONS", "POST", "PUT", "PATCH", "PROPFIND", "HEAD"];
    for (const [index, method] of methods.entries()) {
      peer.send(head(method) + chunk(SMUGGLED) + chunk("tail") + chunk(""));
      const end = method === "HEAD" ? /\r\n\r\n$/ : /\r\n\r\nok$/;
      await peer.until((text) => text.split("HTTP/1.1 200 OK").length === index + 2 && end.test(text));
    }
    assert.deepEqual(
      origin.requests.map(({ method, body, complete }) => [method, body, complete]),
      methods.map((method) => [method, `${SMUGGLED}tail`, true]),
    );
    for (const { fields } of origin.requests) {
      assert.deepEqual(valuesOf(fields, "transfer-encoding"), ["chunked"]);
      assert.deepEqual(valuesOf(fields, "content-length"), []);
    }
    assert.equal(origin.sockets.length, 1, "the upstream connection stays reusable");
  });

  test(`${forwarder}: an empty chunked body stays one`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${head("DELETE")}0\r\n\r\n${head("POST")}0\r\n\r\n`);
    await peer.until((text) => text.split("\r\n\r\nok").length === 3);
    assert.deepEqual(
      origin.requests.map(({ method, body, fields }) => [method, body, valuesOf(fields, "transfer-encoding")]),
      [
        ["DELETE", "", ["chunked"]],
        ["POST", "", ["chunked"]],
      ],
    );
  });

  test(`${forwarder}: a body with Content-Length keeps its framing with every method`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const methods = ["GET", "DELETE", "OPTIONS", "POST", "PUT"];
    for (const [index, method] of methods.entries()) {
      peer.send(`${method} / HTTP/1.1\r\nHost: a.example\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`);
      await peer.until((text) => text.split("\r\n\r\nok").length === index + 2);
    }
    assert.deepEqual(
      origin.requests.map(({ method, body, fields }) => [method, body, valuesOf(fields, "content-length")]),
      methods.map((method) => [method, SMUGGLED, [String(SMUGGLED.length)]]),
    );
  });

  test(`${forwarder}: no framing is added where there was none`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    const methods = ["GET", "DELETE", "OPTIONS", "POST"];
    for (const [index, method] of methods.entries()) {
      peer.send(`${method} / HTTP/1.1\r\nHost: a.example\r\n\r\n`);
      await peer.until((text) => text.split("\r\n\r\nok").length === index + 2);
    }
    for (const { fields } of origin.requests) {
      assert.deepEqual(valuesOf(fields, "transfer-encoding"), []);
      // For a method that is expected to have a body, 0 says the same (RFC 9110 §8.6).
      assert.ok(["", "0"].includes(valuesOf(fields, "content-length").join()));
    }
  });

  test(`${forwarder}: an invalid body that comes along with its head is an exchange that failed`, async (t) => {
    const origin = await httpOrigin(t);
    const watch = observer();
    const plugins = [{ plugin: watch.plugin }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${head("POST")}zz
`);
    assert.match(await peer.untilEnd(), /^HTTP\/1\.1 400 /);
    const { outcome } = await watch.end();
    assert.equal(outcome.error?.code, "HF_BAD_FRAMING");
    assert.equal(outcome.status, 400);
  });

  test(`${forwarder}: chunk extensions are read over`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(
      head("POST") + chunk("one", ";a=b") + chunk("two", ';a="b;c"') + chunk("three", ";a;b=c") + chunk("", ";last"),
    );
    await peer.until((text) => text.endsWith("\r\n\r\nok"));
    assert.deepEqual(
      origin.requests.map(({ body }) => body),
      ["onetwothree"],
    );
  });

  test(`${forwarder}: chunk extensions without end are cut`, async (t) => {
    const origin = await httpOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`${head("POST")}3;${"a".repeat(100_000)}\r\nabc\r\n0\r\n\r\n`);
    const answer = await peer.untilEnd();
    if (answer !== "") assert.match(answer, /^HTTP\/1\.1 4\d\d [\s\S]*\r\nConnection: close\r\n/i);
    await origin.until(() => origin.requests.every(({ socket }) => socket.destroyed));
    assert.ok(origin.requests.every(({ complete }) => !complete));
  });

  for (const [when, first] of [
    ["at once", ""],
    ["later in a body", chunk("first")],
  ] as const) {
    test(`${forwarder}: an invalid chunk ${when} never makes a whole request upstream`, {
      timeout: 30_000,
    }, async (t) => {
      const origin = await httpOrigin(t);
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      for (const [name, bytes] of INVALID) {
        await t.test(name, { timeout: 5000 }, async (row) => {
          const seen = origin.requests.length;
          const peer = await RawPeer.connect(row, sidecar.inbound);
          peer.send(head("POST") + first);
          if (first !== "") await origin.until(() => origin.requests[seen]?.body === "first");
          peer.send(`${bytes}0\r\n\r\n${SMUGGLED}`);
          const answer = await peer.untilEnd();
          assert.match(answer, /^HTTP\/1\.1 400 /);
          assert.match(answer, /\r\nConnection: close\r\n/i);
          assert.equal(answer.split("HTTP/1.1 ").length, 2, "one answer");
          await origin.until(() => origin.requests.every(({ socket }) => socket.destroyed));
          const requests = origin.requests.slice(seen);
          assert.ok(requests.length <= 1, "one request at most");
          assert.ok(requests.every(({ complete }) => !complete));
        });
      }
    });
  }

  test(`${forwarder}: an invalid chunk in a request that waits its turn stops only that request`, async (t) => {
    let answerFirst = (): void => {};
    const origin = await httpOrigin(t, (_request, response) => {
      answerFirst = () => response.end("ok");
    });
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(`GET /first HTTP/1.1\r\nHost: a.example\r\n\r\n${head("POST")}${chunk("abc")}zz\r\n${SMUGGLED}`);
    await origin.until(() => origin.requests[0]?.complete === true);
    answerFirst();
    const answer = await peer.untilEnd();
    assert.match(answer, /^HTTP\/1\.1 200 [\s\S]*\r\n\r\nokHTTP\/1\.1 400 [\s\S]*\r\nConnection: close\r\n/i);
    await origin.until(() => origin.requests.every(({ complete, socket }) => complete || socket.destroyed));
    assert.deepEqual(
      origin.requests.filter(({ complete }) => complete).map(({ target }) => target),
      ["/first"],
    );
  });

  for (const [framing, start] of [
    ["a chunked", `${head("POST")}${chunk("first")}`],
    ["a Content-Length", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100\r\n\r\nfirst"],
  ] as const) {
    for (const how of ["FIN", "RST"] as const) {
      test(`${forwarder}: ${how} in the middle of ${framing} body never makes a whole request upstream`, async (t) => {
        const origin = await httpOrigin(t);
        const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
        const peer = await RawPeer.connect(t, sidecar.inbound);
        peer.send(start);
        await origin.until(() => origin.requests[0]?.body === "first");
        if (how === "FIN") peer.socket.end();
        else peer.socket.resetAndDestroy();
        await origin.until(() => origin.requests.every(({ socket }) => socket.destroyed));
        assert.equal(origin.requests[0]?.complete, false);
        if (how === "FIN") await peer.untilEnd();
      });
    }
  }
}
