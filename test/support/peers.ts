/**
 * Peers on real sockets for integration tests: an origin that records every byte and answers what the test says, and
 * a downstream peer that sends exact bytes.
 */
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import net from "node:net";
import type { TestContext } from "node:test";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { startTestSidecar, type TestSidecar, type TestSidecarOptions } from "../../src/testing.ts";

/** Every forwarder: integration tests run over each of them. */
export const FORWARDERS: readonly ForwarderName[] = ["wire", "http-proxy-3"];

/** One accepted connection of a {@link RawOrigin}. */
export interface OriginConnection {
  readonly socket: Socket;
  /** Everything received on it so far. */
  received: string;
}

/** An origin without an HTTP implementation of its own. */
export interface RawOrigin {
  readonly url: string;
  readonly port: number;
  readonly connections: readonly OriginConnection[];
  /** Everything received, over all connections, in order of arrival (latin1). */
  received(): string;
  /** Resolves once `count` connections were accepted. */
  connected(count: number): Promise<void>;
}

/**
 * Starts an origin that calls `onRequest` each time a whole request head (and nothing but what came with it) has
 * arrived on a connection. It closes when the test ends.
 *
 * @param onRequest - gets the connection, the text of the head, and how many heads came on it so far
 */
export async function rawOrigin(
  t: TestContext,
  onRequest: (connection: OriginConnection, head: string, index: number) => void,
): Promise<RawOrigin> {
  const connections: OriginConnection[] = [];
  const all: string[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const connection: OriginConnection = { socket, received: "" };
    connections.push(connection);
    let rest = "";
    let heads = 0;
    socket.on("error", () => {});
    socket.on("data", (bytes: Buffer) => {
      const text = bytes.toString("latin1");
      connection.received += text;
      all.push(text);
      rest += text;
      // Good enough for tests: bodies that hold an empty line are not parsed as bodies.
      for (let end = rest.indexOf("\r\n\r\n"); end !== -1; end = rest.indexOf("\r\n\r\n")) {
        const head = rest.slice(0, end + 4);
        rest = rest.slice(end + 4);
        if (/^[A-Z]+ \S+ HTTP\/1\.[01]\r\n/.test(head)) onRequest(connection, head, ++heads);
      }
    });
    socket.on("end", () => socket.end());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const { socket } of connections) socket.destroy();
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    connections,
    received: () => all.join(""),
    async connected(count) {
      while (connections.length < count) await once(server, "connection");
    },
  };
}

/** A downstream peer that sends exact bytes and collects what comes back. */
export class RawPeer {
  readonly socket: Socket;
  /** Everything received so far (latin1). */
  received = "";
  /** Whether the other side ended or closed. */
  ended = false;
  /** Resolves at the next thing that happens; one listener each, however often a test waits. */
  #next = Promise.withResolvers<void>();

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (bytes: Buffer) => {
      this.received += bytes.toString("latin1");
      this.#happened();
    });
    for (const event of ["end", "close"] as const) {
      socket.on(event, () => {
        this.ended = true;
        this.#happened();
      });
    }
    socket.on("error", () => {});
  }

  #happened(): void {
    this.#next.resolve();
    this.#next = Promise.withResolvers<void>();
  }

  /** Connects to `http://host:port`; the connection is destroyed when the test ends. */
  static async connect(t: TestContext, url: string): Promise<RawPeer> {
    const { hostname, port } = new URL(url);
    const peer = RawPeer.over(t, net.connect({ host: hostname, port: Number(port), allowHalfOpen: true }));
    await once(peer.socket, "connect");
    return peer;
  }

  /** Speaks on a socket of the test's own; it is destroyed when the test ends. */
  static over(t: TestContext, socket: Socket): RawPeer {
    t.after(() => socket.destroy());
    return new RawPeer(socket);
  }

  send(text: string): void {
    this.socket.write(text, "latin1");
  }

  /** Resolves once what was received satisfies the condition; rejects if the connection ends before. */
  async until(condition: (received: string) => boolean): Promise<string> {
    while (!condition(this.received)) {
      if (this.ended) throw new Error(`the connection ended; received ${JSON.stringify(this.received)}`);
      await this.#next.promise;
    }
    return this.received;
  }

  /** Resolves with everything received once the other side has closed. */
  async untilEnd(): Promise<string> {
    while (!this.ended) await this.#next.promise;
    return this.received;
  }
}

/** A sidecar that stops when the test ends. */
export async function testSidecar(t: TestContext, options: TestSidecarOptions): Promise<TestSidecar> {
  const sidecar = await startTestSidecar(options);
  t.after(() => sidecar.stop());
  return sidecar;
}
