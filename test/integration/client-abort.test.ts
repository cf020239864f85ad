/**
 * A peer that goes away stops what was done for it, and leaves nothing behind.
 *
 * The end of its side after a whole request is taken for that by http-proxy-3, as by node:http. The wire forwarder
 * still answers, because the peer may have ended only its own side; a peer that is gone then resets.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import test, { type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Outcome } from "../../src/plugin/api.ts";
import { definePlugin } from "../../src/plugin/api.ts";
import { FORWARDERS, type RawOrigin, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

const HOWS = {
  FIN: (peer: RawPeer) => void peer.socket.destroy(),
  RST: (peer: RawPeer) => void peer.socket.resetAndDestroy(),
} as const;

interface Phase {
  readonly send: string;
  /** The request is whole when the peer goes away. */
  readonly whole?: true;
  /** What the origin answers to the head. */
  readonly answer?: string;
  /** When the peer goes away. */
  readonly reached: (origin: RawOrigin, peer: RawPeer) => Promise<unknown>;
}

async function received(origin: RawOrigin, text: string): Promise<void> {
  await origin.connected(1);
  while (!origin.received().includes(text)) await once(origin.connections[0]!.socket, "data");
}

const HEAD = "Host: a.example\r\n";
const PHASES: Record<string, Phase> = {
  "while it waits for the response": {
    whole: true,
    send: `GET /now HTTP/1.1\r\n${HEAD}\r\n`,
    reached: (origin) => received(origin, "/now"),
  },
  "while it waits for the response to a whole body": {
    whole: true,
    send: `POST /now HTTP/1.1\r\n${HEAD}Content-Length: 5\r\n\r\nhello`,
    reached: (origin) => received(origin, "hello"),
  },
  "before the first byte of its body": {
    send: `POST /now HTTP/1.1\r\n${HEAD}Content-Length: 10\r\n\r\n`,
    reached: (origin) => received(origin, "/now"),
  },
  "in the middle of its body": {
    send: `POST /now HTTP/1.1\r\n${HEAD}Content-Length: 10\r\n\r\nhello`,
    reached: (origin) => received(origin, "hello"),
  },
  "in the middle of its chunked body": {
    send: `POST /now HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
    reached: (origin) => received(origin, "hello"),
  },
  "while it waits for 100": {
    send: `POST /now HTTP/1.1\r\n${HEAD}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n`,
    reached: (origin) => received(origin, "/now"),
  },
  "behind the response head": {
    whole: true,
    send: `GET /now HTTP/1.1\r\n${HEAD}\r\n`,
    answer: "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    reached: (_, peer) => peer.until((text) => text.endsWith("\r\n\r\n")),
  },
  "in the middle of the response": {
    whole: true,
    send: `GET /now HTTP/1.1\r\n${HEAD}\r\n`,
    answer: "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf",
    reached: (_, peer) => peer.until((text) => text.endsWith("half")),
  },
  "in the middle of a chunked response": {
    whole: true,
    send: `GET /now HTTP/1.1\r\n${HEAD}\r\n`,
    answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    reached: (_, peer) => peer.until((text) => text.includes("half")),
  },
  "while it waits for an upgrade": {
    send: `GET /now HTTP/1.1\r\n${HEAD}Connection: upgrade\r\nUpgrade: foo\r\n\r\n`,
    reached: (origin) => received(origin, "/now"),
  },
};

for (const forwarder of FORWARDERS) {
  async function start(t: TestContext, url: string) {
    const outcomes: Outcome[] = [];
    const plugin = definePlugin({
      name: "outcomes",
      apiVersion: 1,
      description: "remembers outcomes",
      config: {},
      setup: () => ({ exchange: () => ({ end: (outcome) => void outcomes.push(outcome) }) }),
    });
    const { sidecar, inbound } = await testSidecar(t, { upstream: url, plugins: [{ plugin }], config: { forwarder } });
    return {
      outcomes,
      inbound,
      async nothingOpen(): Promise<void> {
        while ([...sidecar.view.connections()].length > 0) await turn();
      },
    };
  }

  for (const [phase, { send, whole, answer, reached }] of Object.entries(PHASES)) {
    for (const [how, leave] of Object.entries(HOWS)) {
      test(`${forwarder}: ${how} ${phase} stops the upstream request`, async (t) => {
        const origin = await rawOrigin(t, ({ socket }) => {
          if (answer !== undefined) socket.write(answer);
        });
        const { inbound, outcomes, nothingOpen } = await start(t, origin.url);
        const peer = await RawPeer.connect(t, inbound);
        peer.send(send);
        await reached(origin, peer);
        leave(peer);
        const { socket } = origin.connections[0]!;
        if (forwarder === "wire" && how === "FIN" && whole) {
          if (answer === undefined) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
          while (!socket.destroyed) {
            socket.write("1\r\n1\r\n");
            await turn();
          }
        }
        if (!socket.destroyed) await once(socket, "close");
        await nothingOpen();
        assert.equal(outcomes.length, 1);
        assert.equal(outcomes[0]!.error?.code, "HF_DOWNSTREAM_ABORTED");
        assert.equal(origin.connections.length, 1);
      });
    }
  }

  for (const [how, leave] of Object.entries(HOWS)) {
    test(`${forwarder}: ${how} before a request head is whole leaves nothing`, async (t) => {
      const origin = await rawOrigin(t, () => {});
      const { inbound, outcomes, nothingOpen } = await start(t, origin.url);
      for (const piece of ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a.example\r\n"]) {
        const peer = await RawPeer.connect(t, inbound);
        peer.send(piece);
        leave(peer);
      }
      await nothingOpen();
      assert.equal(outcomes.length, 0);
      assert.equal(origin.connections.length, 0);
    });

    if (forwarder === "wire" && how === "FIN") continue;
    test(`${forwarder}: ${how} in the queue for a connection, and the next in the queue gets it`, async (t) => {
      const answers: (() => void)[] = [];
      const origin = await rawOrigin(t, ({ socket }) => {
        answers.push(() => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
      });
      const plugin = definePlugin({
        name: "one-connection",
        apiVersion: 1,
        description: "one upstream connection",
        config: {},
        setup: () => ({
          pool(pool) {
            pool.maxConnections = 1;
          },
        }),
      });
      const { inbound, sidecar } = await testSidecar(t, {
        upstream: origin.url,
        plugins: [{ plugin }],
        config: { forwarder },
      });
      const queued = async (count: number): Promise<void> => {
        while ([...sidecar.view.pools()].every((pool) => pool.queued !== count)) await turn();
      };
      const [first, second, third] = [
        await RawPeer.connect(t, inbound),
        await RawPeer.connect(t, inbound),
        await RawPeer.connect(t, inbound),
      ];
      first.send(`GET /1 HTTP/1.1\r\n${HEAD}\r\n`);
      await received(origin, "/1");
      second.send(`GET /2 HTTP/1.1\r\n${HEAD}\r\n`);
      await queued(1);
      third.send(`GET /3 HTTP/1.1\r\n${HEAD}\r\n`);
      await queued(2);
      leave(second);
      await queued(1);
      answers[0]!();
      await first.until((text) => text.endsWith("\r\n\r\nok"));
      await received(origin, "/3");
      answers[1]!();
      await third.until((text) => text.endsWith("\r\n\r\nok"));
      assert.doesNotMatch(origin.received(), /GET \/2 /);
      assert.equal(origin.connections.length, 1);
    });
  }
}
