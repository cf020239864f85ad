/**
 * What an upstream can do wrong, over both forwarders: the status, the line in the log, the metrics, and that nothing
 * is left of it, in memory neither. docs/faults.md has the same table.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import test, { type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FAILURES, type FailureCode } from "../../src/errors.ts";
import type { CloseReason } from "../../src/plugin/api.ts";
import { held, inMemory, noMoreHeldThan, noMoreInMemoryThan } from "../support/held.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET /right HTTP/1.1\r\nHost: h\r\n\r\n";

interface Fault {
  /** What the upstream does with `/wrong`. */
  readonly upstream: (connection: OriginConnection) => void;
  /** What the peer gets: a response with this status, whole, or one with it that is cut. */
  readonly status: number;
  readonly cut?: true;
  /** `undefined`: the exchange has not failed. */
  readonly code: FailureCode | undefined;
  /** Why the upstream connection is closed. */
  readonly reason: CloseReason;
}

const FAULTS: Readonly<Record<string, Fault>> = {
  "resets before it answers": {
    upstream: ({ socket }) => socket.resetAndDestroy(),
    status: 502,
    code: "HF_UPSTREAM_CLOSED",
    reason: "peer_reset",
  },
  "closes before it answers": {
    upstream: ({ socket }) => socket.end(),
    status: 502,
    code: "HF_UPSTREAM_CLOSED",
    reason: "peer_closed",
  },
  "resets in the middle of the head": {
    upstream: ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Le", () => socket.resetAndDestroy()),
    status: 502,
    code: "HF_UPSTREAM_CLOSED",
    reason: "peer_reset",
  },
  "closes in the middle of the head": {
    upstream: ({ socket }) => socket.end("HTTP/1.1 200 OK\r\nContent-Le"),
    status: 502,
    code: "HF_UPSTREAM_CLOSED",
    reason: "peer_closed",
  },
  "resets in the middle of the body": {
    upstream: ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun");
      // Once that has been read.
      setTimeout(() => socket.resetAndDestroy(), 50);
    },
    status: 200,
    cut: true,
    code: "HF_UPSTREAM_INCOMPLETE",
    reason: "peer_reset",
  },
  "closes in the middle of the body": {
    upstream: ({ socket }) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun"),
    status: 200,
    cut: true,
    code: "HF_UPSTREAM_INCOMPLETE",
    reason: "peer_closed",
  },
  "closes before the last chunk": {
    upstream: ({ socket }) => socket.end("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"),
    status: 200,
    cut: true,
    code: "HF_UPSTREAM_INCOMPLETE",
    reason: "peer_closed",
  },
  "says nothing": {
    upstream: () => {},
    status: 504,
    code: "HF_UPSTREAM_TIMEOUT",
    reason: "request_timeout",
  },
  "stalls in the head": {
    upstream: ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Le"),
    status: 504,
    code: "HF_UPSTREAM_TIMEOUT",
    reason: "request_timeout",
  },
  "stalls in the body": {
    upstream: ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun"),
    status: 200,
    cut: true,
    code: "HF_UPSTREAM_TIMEOUT",
    reason: "request_timeout",
  },
  "sends what is not HTTP": {
    upstream: ({ socket }) => socket.write("220 mail.example ESMTP\r\n\r\n"),
    status: 502,
    code: "HF_UPSTREAM_BAD_RESPONSE",
    reason: "protocol_error",
  },
  "sends a head that is not valid": {
    upstream: ({ socket }) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    status: 502,
    code: "HF_UPSTREAM_BAD_RESPONSE",
    reason: "protocol_error",
  },
  "sends a chunk that is not valid": {
    upstream: ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
      setTimeout(() => socket.write("what?\r\n"), 50);
    },
    status: 200,
    cut: true,
    code: "HF_UPSTREAM_BAD_RESPONSE",
    reason: "protocol_error",
  },
  "sends more fields than limits.fields": {
    upstream: ({ socket }) => socket.write(`HTTP/1.1 200 OK\r\n${"X: y\r\n".repeat(500)}Content-Length: 2\r\n\r\nok`),
    status: 502,
    code: "HF_UPSTREAM_HEAD_TOO_LARGE",
    reason: "protocol_error",
  },
  "sends a head without end": {
    upstream: ({ socket }) => {
      const flood = (): void => {
        if (socket.writable) socket.write("X-Flood: ".padEnd(4000, "x").concat("\r\n"), flood);
      };
      socket.write("HTTP/1.1 200 OK\r\n", flood);
    },
    status: 502,
    code: "HF_UPSTREAM_HEAD_TOO_LARGE",
    reason: "protocol_error",
  },
  "answers twice": {
    upstream: ({ socket }) => socket.write(OK + OK),
    status: 200,
    code: undefined,
    reason: "protocol_error",
  },
  "sends bytes while idle": {
    upstream: ({ socket }) => {
      socket.write(OK);
      setTimeout(() => socket.write(OK), 50);
    },
    status: 200,
    code: undefined,
    reason: "protocol_error",
  },
  "closes while idle": {
    upstream: ({ socket }) => socket.end(OK),
    status: 200,
    code: undefined,
    reason: "peer_closed",
  },
};

async function metrics(admin: string): Promise<string> {
  const [response] = (await once(http.get(`${admin}/metrics`, { agent: false }), "response")) as [http.IncomingMessage];
  let text = "";
  for await (const piece of response.setEncoding("utf8")) text += piece;
  return text;
}

/** Sum of the series of a metric that have all of these labels. */
function sum(text: string, name: string, ...labels: readonly string[]): number {
  let total = 0;
  for (const line of text.split("\n")) {
    const [, found, value] = new RegExp(`^${name}\\{(.*)\\} (\\S+)$`).exec(line) ?? [];
    if (found !== undefined && labels.every((label) => found.includes(label))) total += Number(value);
  }
  return total;
}

/** A peer's connection on which one request got what it got. */
async function ask(t: TestContext, url: string, target: string): Promise<RawPeer> {
  const peer = await RawPeer.connect(t, url);
  peer.send(GET.replace("/right", target));
  return peer;
}

for (const forwarder of FORWARDERS) {
  for (const [what, { upstream, status, cut, code, reason }] of Object.entries(FAULTS)) {
    test(`${forwarder}: an upstream that ${what}`, async (t) => {
      const origin = await rawOrigin(t, (connection, head) => {
        if (head.startsWith("GET /wrong ")) upstream(connection);
        else connection.socket.write(OK);
      });
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        config: { forwarder, inbound: { connectTimeout: "250ms", responseTimeout: "250ms" } },
      });
      const { view } = sidecar.sidecar;
      const allClosed = async (): Promise<void> => {
        while ([...view.connections()].length > 0) await sleep(5);
        while (origin.connections.some(({ socket }) => !socket.destroyed)) await sleep(5);
      };
      const finish = async (): Promise<void> => {
        // Whatever is idle upstream is ended by the origin.
        for (const { socket } of origin.connections) if (!socket.destroyed) socket.end();
        await allClosed();
      };
      // Once before anything is counted, so that what is made once is there.
      const first = await ask(t, sidecar.inbound, "/right");
      await first.until((text) => text.endsWith("ok"));
      first.socket.destroy();
      await finish();
      await metrics(sidecar.admin);
      const before = held();
      const memoryBefore = inMemory();

      const peer = await ask(t, sidecar.inbound, "/wrong");
      if (cut) {
        await peer.untilEnd();
        assert.doesNotMatch(peer.received, /\r\n0\r\n\r\n$/);
      } else {
        await peer.until((text) => /\r\n\r\n(?:ok|\d{3} HF_\w+\n)$/.test(text));
      }
      assert.match(peer.received, new RegExp(`^HTTP/1\\.1 ${status} `));
      assert.equal(peer.received.match(/HTTP\/1\.1 /g)?.length, 1);
      if (code !== undefined && !cut) {
        const type = FAILURES[code].proxyError;
        assert.ok(peer.received.includes(`Proxy-Status: holdfast-test; error=${type}; details="${code}"\r\n`));
      }

      // The one connection that it was on is given up for that reason; the next request is served on another.
      const closedFor = async (): Promise<number> =>
        sum(await metrics(sidecar.admin), "holdfast_connection_closed_total", '"upstream"', `"${reason}"`);
      const already = reason === "peer_closed" ? 1 : 0;
      while ((await closedFor()) <= already) await sleep(5);
      const next = await ask(t, sidecar.inbound, "/right");
      await next.until((text) => text.endsWith("\r\n\r\nok"));
      assert.equal(origin.connections.length, 3);

      const line = sidecar.log.find(({ path }) => path === "/wrong") as
        | { readonly status: number; readonly level: number; readonly error?: { readonly code: string } }
        | undefined;
      assert.equal(line?.status, status);
      assert.equal(line?.error?.code, code);
      assert.equal(line?.level, code === undefined ? 30 : 40, "info, or warn");
      if (code !== undefined) {
        const text = await metrics(sidecar.admin);
        const labels = [`error_type="${code}"`, `http_response_status_code="${status}"`];
        assert.equal(sum(text, "http_server_request_duration_seconds_count", ...labels), 1);
      }

      peer.socket.destroy();
      next.socket.destroy();
      await finish();
      await noMoreHeldThan(before);
      await noMoreInMemoryThan(memoryBefore);
      assert.deepEqual(
        [...view.pools()].map(({ connections, queued }) => ({ connections, queued })),
        [{ connections: 0, queued: 0 }],
      );
    });
  }

  test(`${forwarder}: an upstream that refuses the connection`, async (t) => {
    const server = net.createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    const sidecar = await testSidecar(t, { upstream: `http://127.0.0.1:${port}`, config: { forwarder } });
    await metrics(sidecar.admin);
    const before = held();
    const peer = await ask(t, sidecar.inbound, "/wrong");
    assert.match(await peer.until((text) => text.endsWith(" HF_UPSTREAM_REFUSED\n")), /^HTTP\/1\.1 502 /);
    const line = sidecar.log.find(({ path }) => path === "/wrong") as { readonly error?: { readonly message: string } };
    assert.equal(line.error?.message, `127.0.0.1:${port} refused the connection`);
    const text = await metrics(sidecar.admin);
    assert.equal(sum(text, "http_server_request_duration_seconds_count", 'error_type="HF_UPSTREAM_REFUSED"'), 1);
    assert.equal(sum(text, "holdfast_connection_closed_total", '"upstream"', '"connect_failed"'), 1);
    peer.socket.destroy();
    while ([...sidecar.sidecar.view.connections()].length > 0) await sleep(5);
    await noMoreHeldThan(before);
  });
}

test("docs/faults.md says the same", () => {
  const page = readFileSync(new URL("../../docs/faults.md", import.meta.url), "utf8");
  for (const [what, { status, cut, code, reason }] of Object.entries(FAULTS)) {
    const row = `| ${what} | ${status}${cut ? ", then cut" : ""} | ${code === undefined ? "none" : `\`${code}\``} | \`${reason}\` |`;
    assert.ok(page.includes(row), `no row: ${row}`);
  }
});
