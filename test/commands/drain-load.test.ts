import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { FORWARDERS } from "../support/peers.ts";
import { runSidecar } from "./running.ts";

// `npm run torture:drain` asks for more of it.
const CONNECTIONS = Number(process.env["DRAIN_CONNECTIONS"] ?? 100);
const TIMES = Number(process.env["DRAIN_ROUNDS"] ?? 3);
const WEB_SOCKETS = CONNECTIONS / 20;
/** Responses before the signal comes. */
const WARM = 1000;
const CHUNK = Buffer.alloc(8 * 1024, "0123456789abcdef");
const CHUNKS = 12;

/** An origin under load. */
interface BusyOrigin {
  readonly url: string;
  /** How often each upload came. */
  readonly uploads: Map<string, number>;
  /** Close codes of the WebSockets that it had, as they close. */
  readonly codes: number[];
}

/** Answers `/small`, takes `POST /upload`, streams `/stream`, and echoes what comes on a WebSocket. */
async function busyOrigin(t: TestContext): Promise<BusyOrigin> {
  const codes: number[] = [];
  const uploads = new Map<string, number>();
  const server = http.createServer((request, response) => {
    if (request.url === "/stream") {
      let left = CHUNKS;
      const more = (): void => {
        if (left-- === 0) response.end();
        else response.write(CHUNK, () => setImmediate(more));
      };
      more();
      return;
    }
    const hash = createHash("sha1");
    request.on("data", (bytes) => hash.update(bytes));
    request.on("end", () => {
      if (request.method === "POST") uploads.set(request.url!, (uploads.get(request.url!) ?? 0) + 1);
      response.end(hash.digest("hex"));
    });
  });
  new WebSocketServer({ server }).on("connection", (socket) => {
    socket.on("message", (message) => socket.send(message));
    socket.on("close", (code) => codes.push(code));
  });
  server.keepAliveTimeout = 0;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, uploads, codes };
}

interface Answer {
  readonly status: number | undefined;
  readonly closes: boolean;
  readonly body: Buffer;
}

/** One request; rejects when the connection fails or the response is not whole. */
function send(agent: http.Agent, url: string, body?: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { agent, method: body === undefined ? "GET" : "POST" }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const closes = response.headers.connection === "close";
        resolve({ status: response.statusCode, closes, body: Buffer.concat(chunks) });
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** Opens WebSockets that always have a message on its way; resolves with their close codes once all are closed. */
async function webSockets(url: string, count: number): Promise<{ closed: Promise<number[]> }> {
  const sockets = Array.from({ length: count }, () => new WebSocket(url.replace("http", "ws")));
  await Promise.all(sockets.map((socket) => once(socket, "open")));
  const closed = Promise.all(
    sockets.map(async (socket, index) => {
      socket.on("message", (message) => socket.send(message));
      socket.send(CHUNK.subarray(0, 1 + index * 1000));
      const [code] = await once(socket, "close");
      return code as number;
    }),
  );
  return { closed };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: SIGTERM under load loses nothing, time after time`, async (t) => {
    const origin = await busyOrigin(t);
    for (let time = 0; time < TIMES; time++) {
      const sidecar = await runSidecar(t, {
        forwarder,
        inbound: { listen: "127.0.0.1:0", upstream: origin.url },
        drain: { idleGrace: "1s", deadline: "60s" },
        log: { access: false },
      });
      const warm = Promise.withResolvers<void>();
      const failures: string[] = [];
      let answers = 0;
      let uploads = 0;
      let announced = false;
      const { closed } = await webSockets(sidecar.inbound, WEB_SOCKETS);

      // One connection each; it goes on until it is told that the connection closes.
      const peer = async (index: number): Promise<void> => {
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        for (let count = index; ; count++) {
          const after = announced;
          const path = count % 3 === 0 ? "/small" : count % 3 === 1 ? `/upload-${time}-${index}-${count}` : "/stream";
          const body = count % 3 === 1 ? CHUNK.subarray(0, 1 + ((count * 977) % CHUNK.length)) : undefined;
          if (body !== undefined) uploads++;
          const answer = await send(agent, sidecar.inbound + path, body);
          const expected = createHash("sha1")
            .update(body ?? "")
            .digest("hex");
          if (answer.status !== 200) failures.push(`${path}: ${answer.status}`);
          else if (path !== "/stream" && answer.body.toString() !== expected) failures.push(`${path}: wrong body`);
          else if (path === "/stream" && answer.body.length !== CHUNK.length * CHUNKS) failures.push(`${path}: short`);
          if (after && !answer.closes) failures.push(`${path}: asked after the signal, told to stay`);
          if (++answers === WARM) warm.resolve();
          if (answer.closes) {
            agent.destroy();
            return;
          }
        }
      };
      const peers = Array.from({ length: CONNECTIONS }, (_, index) =>
        peer(index).catch((error: Error) => {
          failures.push(String(error));
        }),
      );
      await warm.promise;
      sidecar.signal("SIGTERM");
      await sidecar.logged("SIGTERM: draining");
      announced = true;
      await Promise.all(peers);
      const codes = await closed;
      const { code, stderr, log } = await sidecar.ended();
      assert.deepEqual(failures, []);
      assert.equal(stderr, "");
      assert.equal(code, 0);
      while (origin.codes.length < WEB_SOCKETS) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual([...codes, ...origin.codes.splice(0)], new Array(2 * WEB_SOCKETS).fill(1001));
      assert.ok(log.every(({ level }) => level === "info"));
      // Each upload arrived, and once.
      assert.equal(origin.uploads.size, uploads);
      assert.ok([...origin.uploads.values()].every((count) => count === 1));
      origin.uploads.clear();
      t.diagnostic(`drain ${time + 1} of ${TIMES}: ${answers} responses, ${uploads} uploads, nothing lost`);
    }
  });
}
