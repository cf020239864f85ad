import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import net, { type AddressInfo, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { RawPeer, rawOrigin } from "../support/peers.ts";
import { type Running, runSidecar } from "./running.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LISTEN = "127.0.0.1:0";
/** Longer than a test lasts: what waits for the collector would wait in vain. */
const PATIENT = { OTEL_EXPORTER_OTLP_TIMEOUT: "3600000", OTEL_BSP_EXPORT_TIMEOUT: "3600000" };

async function listening(t: TestContext, server: net.Server): Promise<string> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function traced(t: TestContext, endpoint: string, env: Record<string, string> = {}): Promise<Running> {
  const { url } = await rawOrigin(t, ({ socket }) => socket.write(OK));
  const sidecar = await runSidecar(
    t,
    {
      inbound: { listen: LISTEN, upstream: url },
      telemetry: { otlp: { endpoint } },
      drain: { idleGrace: "0s", deadline: "60s" },
    },
    { env: { OTEL_SDK_DISABLED: "false", OTEL_BSP_SCHEDULE_DELAY: "10", ...PATIENT, ...env } },
  );
  return sidecar;
}

async function exchange(t: TestContext, url: string): Promise<void> {
  const peer = await RawPeer.connect(t, url);
  peer.send("GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
  await peer.until((text) => text.endsWith("ok"));
  peer.socket.destroy();
}

/** Sends requests until the SDK is loaded and a span goes to the collector. */
async function exchangesUntil(t: TestContext, url: string, done: Promise<unknown>): Promise<void> {
  let isDone = false;
  void done.then(() => {
    isDone = true;
  });
  while (!isDone) await exchange(t, url);
}

test("a collector that takes spans and never answers does not hold up the end", async (t) => {
  const collector = net.createServer((socket) => socket.on("error", () => {}).resume());
  const asked = once(collector, "connection");
  const sidecar = await traced(t, await listening(t, collector));
  await exchangesUntil(t, sidecar.inbound, asked);
  sidecar.signal("SIGTERM");
  const { code, stderr } = await sidecar.ended();
  assert.equal(code, 0);
  assert.equal(stderr, "");
});

test("a second signal while the collector is waited for ends it with 1", async (t) => {
  const collector = net.createServer((socket) => socket.on("error", () => {}).resume());
  const asked = once(collector, "connection");
  const sidecar = await traced(t, await listening(t, collector));
  await exchangesUntil(t, sidecar.inbound, asked);
  sidecar.signal("SIGTERM");
  await sidecar.logged("SIGTERM: draining");
  sidecar.signal("SIGTERM");
  assert.equal((await sidecar.ended()).code, 1);
});

test("a collector that is not there does not hold up the end", async (t) => {
  const collector = net.createServer();
  const endpoint = await listening(t, collector);
  collector.close();
  const sidecar = await traced(t, endpoint);
  await exchange(t, sidecar.inbound);
  sidecar.signal("SIGTERM");
  const { code, stderr } = await sidecar.ended();
  assert.equal(code, 0);
  assert.equal(stderr, "");
});

test("spans of the last exchanges reach the collector before the end, and standard error stays empty", async (t) => {
  const delivered: string[] = [];
  const collector = http.createServer((request, response) => {
    let body = "";
    request.setEncoding("latin1").on("data", (text) => {
      body += text;
    });
    request.on("end", () => {
      delivered.push(body);
      response.end("{}");
    });
  });
  const sidecar = await traced(t, await listening(t, collector), {
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_BSP_SCHEDULE_DELAY: "10",
  });
  await exchangesUntil(t, sidecar.inbound, once(collector, "request"));
  const before = delivered.length;
  await exchange(t, sidecar.inbound);
  sidecar.signal("SIGTERM");
  const { code, stderr } = await sidecar.ended();
  assert.equal(stderr, "");
  assert.equal(code, 0);
  assert.ok(delivered.length > before);
});

test("the sidecar is ready before the OpenTelemetry SDK is loaded", async (t) => {
  const collector = net.createServer((socket) => socket.on("error", () => {}).resume());
  // Tells on standard output what of OpenTelemetry is loaded, in the order of the log.
  const spy = `
    import { writeSync } from "node:fs";
    import { registerHooks } from "node:module";
    registerHooks({
      resolve(specifier, context, next) {
        if (specifier.startsWith("@opentelemetry/")) {
          writeSync(1, JSON.stringify({ msg: "loads " + specifier }) + "\\n");
        }
        return next(specifier, context);
      },
    });`;
  const sidecar = await traced(t, await listening(t, collector), {
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(spy)}`,
  });
  await sidecar.logged("loads @opentelemetry/exporter-metrics-otlp-proto");
  sidecar.signal("SIGKILL");
  const { log, stderr } = await sidecar.ended();
  assert.equal(stderr, "");
  const messages = log.map(({ msg }) => String(msg));
  const ready = messages.indexOf("orders: ready");
  assert.ok(ready !== -1);
  const early = messages.slice(0, ready).filter((message) => message.startsWith("loads "));
  assert.deepEqual(early, []);
});
