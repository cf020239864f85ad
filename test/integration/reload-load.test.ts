import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import type { Plugin } from "../../src/plugin/api.ts";
import { FORWARDERS, testSidecar } from "../support/peers.ts";

const RELOADS = 100;
const PEERS = 16;
const CHUNK = Buffer.alloc(4096, "0123456789abcdef");
const CHUNKS = 8;

interface BusyOrigin {
  readonly url: string;
  /** How many it has taken. */
  connections(): number;
  closeConnections(): void;
}

/** An origin that echoes uploads and streams `/stream` piece by piece, and counts the connections it took. */
async function busyOrigin(t: TestContext): Promise<BusyOrigin> {
  let connections = 0;
  const server = http.createServer((request, response) => {
    if (request.url !== "/stream") {
      request.pipe(response);
      return;
    }
    let left = CHUNKS;
    const more = (): void => {
      if (left-- === 0) response.end();
      else response.write(CHUNK, () => setImmediate(more));
    };
    more();
  });
  server.keepAliveTimeout = 0;
  server.on("connection", () => connections++);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => connections,
    closeConnections: () => server.closeAllConnections(),
  };
}

/** One request on the agent's connection; rejects when it fails or the response is not whole. */
function send(agent: http.Agent, url: string, body: Buffer | undefined): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? "GET" : "POST";
    const request = http.request(url, { agent, method }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve(Buffer.concat(chunks));
        else reject(new Error(`${method} ${url}: ${response.statusCode} ${Buffer.concat(chunks)}`));
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** What keeps the process busy, by kind. */
function resources(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: ${RELOADS} reloads under load lose nothing and leave nothing behind`, async (t) => {
    const [even, odd] = [await busyOrigin(t), await busyOrigin(t)];
    const before = resources();
    const instances: { open: number; closed: number; timer: NodeJS.Timeout }[] = [];
    const wrong: string[] = [];
    const plugin: Plugin<{ mark: string }> = {
      name: "counted",
      description: "Counts what it is shown",
      apiVersion: 1,
      config: { mark: { default: "", format: String, doc: "Anything." } },
      setup() {
        const instance = { open: 0, closed: 0, timer: setInterval(() => {}, 60_000) };
        instances.push(instance);
        const shown = new WeakSet<object>();
        return {
          connection(connection) {
            instance.open++;
            if (shown.has(connection) && instance.closed > 0) wrong.push("shown after close");
            shown.add(connection);
            return { close: () => void instance.open-- };
          },
          exchange(exchange) {
            instance.open++;
            if (instance.closed > 0) wrong.push("an exchange after close");
            if (!shown.has(exchange.downstream)) wrong.push("an exchange on a connection that was not shown");
            return {
              upstreamConnected(upstream) {
                if (!shown.has(upstream)) wrong.push("an upstream connection that was not shown");
              },
              end: () => void instance.open--,
            };
          },
          close() {
            if (instance.open !== 0) wrong.push(`closed with ${instance.open} open`);
            instance.closed++;
            clearInterval(instance.timer);
          },
        };
      },
    };
    const configuration = (turn: number) => ({
      upstream: (turn % 4 < 2 ? even : odd).url,
      plugins: [{ use: "keep-alive" }, { plugin, config: { mark: `${Math.floor(turn / 2)}` } }],
      config: { forwarder, log: { level: "error" }, limits: { fields: 100 + (turn % 3) } },
    });
    const sidecar = await testSidecar(t, configuration(0));

    let reloading = true;
    let answers = 0;
    const failures: string[] = [];
    let sockets = 0;
    const peer = async (index: number): Promise<void> => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const connect = agent.createConnection.bind(agent);
      agent.createConnection = (...args: Parameters<typeof connect>) => {
        sockets++;
        return connect(...args);
      };
      for (let count = index; reloading; count++) {
        const body = count % 3 === 0 ? CHUNK.subarray(0, 1 + ((count * 977) % CHUNK.length)) : undefined;
        const path = count % 3 === 1 ? "/stream" : "/small";
        const answer = await send(agent, sidecar.inbound + path, body).catch((error: Error) => {
          failures.push(String(error));
          return undefined;
        });
        answers++;
        const expected = path === "/stream" ? CHUNK.length * CHUNKS : (body?.length ?? 0);
        if (answer !== undefined && answer.length !== expected) failures.push(`${path}: ${answer.length} bytes`);
      }
      agent.destroy();
    };
    const peers = Array.from({ length: PEERS }, (_, index) => peer(index));
    for (let turn = 1; turn <= RELOADS; turn++) {
      const from = answers;
      const report = await sidecar.reload(configuration(turn));
      assert.equal(report.result, "applied", report.faults.join("\n"));
      while (answers < from + PEERS / 2) await new Promise((resolve) => setImmediate(resolve));
    }
    reloading = false;
    await Promise.all(peers);

    assert.deepEqual(failures, []);
    assert.deepEqual(wrong, []);
    // No connection was dropped, on either side of the sidecar but where the route went elsewhere.
    assert.equal(sockets, PEERS);
    assert.ok(even.connections() <= (RELOADS / 4 + 1) * PEERS);
    // Every other reload had other plugins. Those before are closed once nothing runs in them any more.
    assert.equal(instances.length, RELOADS / 2 + 1);
    while (instances.slice(0, -1).some(({ closed }) => closed === 0))
      await new Promise((resolve) => setTimeout(resolve));
    assert.equal(instances.at(-1)!.closed, 0);
    await sidecar.stop();
    assert.deepEqual(
      instances.map(({ open, closed }) => [open, closed]),
      instances.map(() => [0, 1]),
    );
    assert.deepEqual(wrong, []);
    // The test's time limit ends what stays behind.
    for (const origin of [even, odd]) origin.closeConnections();
    for (const name of ["Timeout", "TCPSocketWrap", "TCPServerWrap", "FSEventWrap", "StatWatcher"]) {
      while ((resources()[name] ?? 0) > (before[name] ?? 0)) await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
}
