import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import test from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { observer } from "../support/observer.ts";
import { FORWARDERS, testSidecar } from "../support/peers.ts";

const REQUESTS = 800;
const CALLERS = 20;

/** The same numbers from 0 to below 1 in every run. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) & 0x7fffffff;
    return state / 0x80000000;
  };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: an origin and callers that break off at random get and see nothing that is not theirs`, async (t) => {
    const roll = dice(20);
    const posts = new Map<string, number>();
    const origin = http.createServer((request, response) => {
      const fate = roll();
      if (request.method === "POST") posts.set(request.url!, (posts.get(request.url!) ?? 0) + 1);
      if (fate < 0.06) {
        request.socket.destroy();
        return;
      }
      let bytes = 0;
      request.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      request.on("end", () => {
        const body = `${request.method} ${request.url} ${bytes} ${"x".repeat(Math.floor(roll() * 40_000))}.`;
        if (fate < 0.1) {
          response.writeHead(200, { "content-length": body.length });
          response.write(body.slice(0, 3), () => request.socket.destroy());
        } else if (fate < 0.2) {
          response.setHeader("Connection", "close");
          response.end(body);
        } else if (fate < 0.4) {
          response.write(body.slice(0, 20));
          setImmediate(() => response.end(body.slice(20)));
        } else response.end(body);
      });
    });
    // Short, so that connections go stale under the pool all the time.
    origin.keepAliveTimeout = 20;
    origin.listen(0, "127.0.0.1");
    await once(origin, "listening");
    t.after(() => {
      origin.closeAllConnections();
      origin.close();
    });
    const watch = observer();
    const sidecar = await testSidecar(t, {
      upstream: `http://127.0.0.1:${(origin.address() as AddressInfo).port}`,
      plugins: [{ use: "connection-limits", config: { upstream: { maxConnections: 8 } } }, { plugin: watch.plugin }],
      config: { forwarder, log: { access: false } },
    });
    const agent = new http.Agent({ keepAlive: true, maxSockets: CALLERS });
    t.after(() => agent.destroy());

    /** Sends one request; fails if what comes back whole is not its own answer. */
    async function call(number: number): Promise<void> {
      const method = roll() < 0.5 ? "GET" : "POST";
      const body = method === "GET" ? "" : "b".repeat(Math.floor(roll() * 90_000));
      const breaksOff = roll() < 0.04;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const request = http.request(`${sidecar.inbound}/${number}`, { agent, method }, (response) => {
        if (breaksOff) response.destroy();
        let text = "";
        response.on("data", (chunk) => {
          text += chunk;
        });
        response.on("error", () => resolve());
        response.on("close", () => resolve());
        response.on("end", () => {
          const expected = response.statusCode === 200 ? `${method} /${number} ${body.length} ` : "502 HF_UPSTREAM_";
          if (text.startsWith(expected)) resolve();
          else reject(new Error(`${method} /${number} got ${response.statusCode}: ${text.slice(0, 80)}`));
        });
      });
      request.on("error", () => resolve());
      request.end(body);
      await promise;
    }

    let next = 0;
    await Promise.all(
      Array.from({ length: CALLERS }, async () => {
        while (next < REQUESTS) {
          await call(next++);
          // Around the origin's own limit, where connections are neither surely alive nor surely dead.
          if (roll() < 0.1) await new Promise((resolve) => setTimeout(resolve, roll() * 40));
        }
      }),
    );
    agent.destroy();
    await watch.until(() => watch.opened.every(({ side, state }) => side === "upstream" || state === "closed"));

    assert.ok(
      [...posts.values()].every((times) => times === 1),
      "a POST was sent twice",
    );
    assert.ok(watch.ended.some(({ outcome }) => outcome.stale === "retried"));
    assert.ok(watch.ended.some(({ outcome }) => outcome.stale === "refused"));
    assert.ok(
      watch.ended.every(({ exchange, outcome }) => exchange.request.method === "GET" || outcome.stale !== "retried"),
    );
    const [pool] = [...sidecar.sidecar.view.pools()];
    assert.equal(pool!.queued, 0);
    // What still closes is given the time for it.
    while (pool!.connections !== pool!.idle) await nextTurn();
    for (const connection of watch.opened) assert.equal(connection.activeExchanges, 0);
  });
}
