/** `tcp-keepalive` on real sockets: what the kernel has set, and peers that vanish. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";
import { otherHost, whyNoOtherHost } from "./network-namespace.ts";

const run = promisify(execFile);
const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const hasSs = await run("ss", ["-V"]).then(
  () => true,
  () => false,
);
const noSs = hasSs ? false : "needs ss (iproute2)";
const noOtherHost = (await whyNoOtherHost()) ?? false;

/** Seconds until the next keepalive probe of the socket with these ports, as the kernel tells; `undefined`: none will come. */
async function probeIn(localPort: number, peerPort: number): Promise<number | undefined> {
  const { stdout } = await run("ss", ["-tnoH", `sport = :${localPort} and dport = :${peerPort}`]);
  const [, minutes, seconds] = /timer:\(keepalive,(?:(\d+)min)?(?:([\d.]+)sec)?/.exec(stdout) ?? [];
  assert.match(stdout, /^ESTAB/, "the connection is there");
  if (minutes === undefined && seconds === undefined) return undefined;
  return Number(minutes ?? 0) * 60 + Number(seconds ?? 0);
}

/** A timer that was set to this many seconds a moment ago; the machine may be slow. */
function assertSetTo(seconds: number, actual: number | undefined, what: string): void {
  assert.ok(
    actual !== undefined && actual <= seconds && actual > seconds - 20,
    `${what}: ${actual} s, set to ${seconds} s`,
  );
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: ss shows the timer of each side, also after an exchange`, { skip: noSs }, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => void socket.write(OK));
    const seen = observer();
    const sidecar = await testSidecar(t, {
      upstream: "origin",
      plugins: [
        { use: "tcp-keepalive", config: { downstream: { time: "50s" }, upstream: { time: "100s" } } },
        { plugin: seen.plugin },
      ],
      config: { forwarder, backends: { origin: { address: "127.0.0.1", port: origin.port } } },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    await seen.until(() => seen.opened.length === 1);
    const downstream = seen.opened[0]!;
    assertSetTo(50, await probeIn(downstream.localPort, downstream.remotePort), "downstream, before any request");

    peer.send(GET);
    await seen.until(() => seen.idled("upstream") === 1 && seen.idled("downstream") === 1);
    const upstream = seen.opened[1]!;
    assertSetTo(50, await probeIn(downstream.localPort, downstream.remotePort), "downstream, idle");
    assertSetTo(100, await probeIn(upstream.localPort, upstream.remotePort), "upstream, idle");

    const change = async (body: object) => {
      const response = await fetch(`${sidecar.admin}/backends/origin`, {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
      assert.equal(response.status, 200, await response.text());
    };
    await change({ tcp_keepalive_time: 30 });
    assertSetTo(30, await probeIn(upstream.localPort, upstream.remotePort), "upstream, changed while open");
    await change({ tcp_keepalive_enable: false });
    assert.equal(await probeIn(upstream.localPort, upstream.remotePort), undefined, "upstream, turned off while open");
    assertSetTo(50, await probeIn(downstream.localPort, downstream.remotePort), "downstream, not touched");
  });

  test(`${forwarder}: ss shows no timer where it is off`, { skip: noSs }, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => void socket.write(OK));
    const seen = observer();
    const config = { downstream: { enable: false }, upstream: { enable: false } };
    const sidecar = await testSidecar(t, {
      upstream: origin.url,
      plugins: [{ use: "tcp-keepalive", config }, { plugin: seen.plugin }],
      config: { forwarder },
    });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    await seen.until(() => seen.idled("upstream") === 1 && seen.idled("downstream") === 1);
    for (const { side, localPort, remotePort } of seen.opened) {
      assert.equal(await probeIn(localPort, remotePort), undefined, side);
    }
  });

  test(`${forwarder}: ss shows the timer on both sides of a tunnel`, { skip: noSs }, async (t) => {
    const origin = await rawOrigin(t, () => {});
    const seen = observer();
    const config = { downstream: { time: "50s" }, upstream: { time: "100s" } };
    const sidecar = await testSidecar(t, {
      plugins: [{ use: "tcp-keepalive", config }, { plugin: seen.plugin }],
      config: { forwarder, outbound: { unmatched: "pass" } },
    });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`CONNECT 127.0.0.1:${origin.port} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await peer.until((text) => text.endsWith("\r\n\r\n"));
    for (const { side, localPort, remotePort } of seen.opened) {
      assertSetTo(side === "downstream" ? 50 : 100, await probeIn(localPort, remotePort), side);
    }
  });

  // Each waits for the kernel for three seconds and costs nothing meanwhile.
  describe(`${forwarder}: peers that vanish`, { concurrency: true }, () => {
    const quick = { time: "1s", interval: "1s", probes: 2 };

    test("an upstream", { skip: noOtherHost, timeout: 60_000 }, async (t) => {
      const host = await otherHost(t);
      const port = await host.node(`
      import http from "node:http";
      const server = http.createServer((request, response) => response.end("ok"));
      server.keepAliveTimeout = 0;
      server.listen(0, "0.0.0.0", () => console.log(server.address().port));
    `);
      const seen = observer();
      const sidecar = await testSidecar(t, {
        upstream: `http://${host.address}:${port}`,
        plugins: [{ use: "tcp-keepalive", config: { upstream: quick } }, { plugin: seen.plugin }],
        config: { forwarder },
      });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send(GET);
      await seen.until(() => seen.idled("upstream") === 1);
      await host.vanish();
      const { connection, reason } = await seen.closedOn("upstream");
      assert.equal(reason, "tcp_keepalive");
      assert.equal(connection.origin?.host, host.address);
    });

    test("a caller", { skip: noOtherHost, timeout: 60_000 }, async (t) => {
      const host = await otherHost(t);
      const origin = await rawOrigin(t, ({ socket }) => void socket.write(OK));
      const seen = observer();
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ use: "tcp-keepalive", config: { downstream: quick } }, { plugin: seen.plugin }],
        config: { forwarder, inbound: { listen: `${host.ourAddress}:0` } },
      });
      const { hostname, port } = new URL(sidecar.inbound);
      const answered = await host.node(
        `
        import net from "node:net";
        const socket = net.connect(Number(process.argv[2]), process.argv[1]);
        socket.write(${JSON.stringify(GET)});
        socket.once("data", () => console.log("answered"));
      `,
        hostname,
        port,
      );
      assert.equal(answered, "answered");
      await seen.until(() => seen.idled("downstream") === 1);
      await host.vanish();
      assert.equal((await seen.closedOn("downstream")).reason, "tcp_keepalive");
    });
  });
}

test("warns of a time that the named network path does not wait for", async (t) => {
  const start = async (path: string, time: string) => {
    const config = { path, downstream: { time } };
    const sidecar = await testSidecar(t, {
      upstream: "http://127.0.0.1:9",
      plugins: [{ use: "tcp-keepalive", config }],
    });
    return sidecar.log.filter((line) => line["plugin"] === "tcp-keepalive" && line["level"] === 40);
  };
  for (const [path, seconds] of [
    ["azure", 240],
    ["nlb", 350],
  ] as const) {
    const [warning, ...more] = await start(path, `${seconds}s`);
    assert.match(String(warning?.["msg"]), new RegExp(`${path} forgets idle connections after ${seconds} s`));
    assert.deepEqual(more, []);
    assert.deepEqual(await start(path, `${seconds - 1}s`), []);
  }
});
