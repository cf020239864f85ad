/** Hooks run in the order that docs/phases.md shows, the same with every forwarder. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { test } from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";
import { type Deeds, Tape } from "./tape.ts";
import { unusedPort } from "./unused-port.ts";

const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/** For each hook, its lines of both plugins: in the list's order on the way there, reversed on the way back. */
function there(...hooks: string[]): string[] {
  return hooks.flatMap((hook) => [`a ${hook}`, `b ${hook}`]);
}
function back(...hooks: string[]): string[] {
  return hooks.flatMap((hook) => [`b ${hook}`, `a ${hook}`]);
}

/**
 * The record in two strands, each in a fixed order: what an upstream connection does after its part of the exchange may
 * come before or after what is left to do downstream.
 */
function strands(events: readonly string[]): { upstream: string[]; rest: string[] } {
  const isLoose = (event: string) => / (?:idle|close) upstream$/.test(event);
  return { upstream: events.filter(isLoose), rest: events.filter((event) => !isLoose(event)) };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: an exchange on fresh connections, another that reuses them, and the close`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }) => void socket.write(OK));
    const tape = new Tape();
    const plugins = [{ plugin: tape.plugin("a") }, { plugin: tape.plugin("b") }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);

    peer.send(GET);
    await peer.until((text) => text.endsWith("ok"));
    await tape.ran("a idle downstream");
    await tape.ran("a idle upstream");
    const first = strands(tape.events.splice(0));
    assert.deepEqual(first.rest, [
      ...there("connection downstream", "active downstream", "exchange", "request", "pool"),
      ...there("connection upstream", "active upstream", "upstreamConnected"),
      ...back("response", "end", "idle downstream"),
    ]);
    assert.deepEqual(first.upstream, back("idle upstream"));

    peer.send(GET);
    await peer.until((text) => text.length > 100 && text.lastIndexOf("ok") > text.indexOf("ok"));
    await tape.ran("a idle downstream");
    await tape.ran("a idle upstream");
    const second = strands(tape.events.splice(0));
    assert.deepEqual(second.rest, [
      ...there("active downstream", "exchange", "request", "active upstream", "upstreamConnected"),
      ...back("response", "end", "idle downstream"),
    ]);
    assert.deepEqual(second.upstream, back("idle upstream"));

    await sidecar.stop();
    const last = strands(tape.events);
    assert.deepEqual(last.rest, back("close downstream").concat(["b close", "a close"]));
    assert.deepEqual(last.upstream, back("close upstream"));
  });

  test(`${forwarder}: a reply of the second plugin`, async (t) => {
    const tape = new Tape();
    const plugins = [
      { plugin: tape.plugin("a") },
      { plugin: tape.plugin("b", { request: () => ({ status: 204 }) }) },
      { plugin: tape.plugin("c") },
    ];
    const sidecar = await testSidecar(t, { upstream: "http://127.0.0.1:9", plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    await peer.until((text) => text.endsWith("\r\n\r\n"));
    await tape.ran("a idle downstream");
    const each = (hook: string, names: string) => [...names].map((name) => `${name} ${hook}`);
    assert.deepEqual(tape.events, [
      ...each("connection downstream", "abc"),
      ...each("active downstream", "abc"),
      ...each("exchange", "abc"),
      // The first reply wins: the request hooks of later plugins do not run, all their other hooks do.
      ...each("request", "ab"),
      ...each("response", "cba"),
      ...each("end", "cba"),
      ...each("idle downstream", "cba"),
    ]);
  });

  test(`${forwarder}: a retry on a fresh connection`, async (t) => {
    const origin = await rawOrigin(t, ({ socket }, _head, index) => {
      if (index > 1) socket.resetAndDestroy();
      else socket.write(OK);
    });
    const tape = new Tape();
    const plugins = [{ plugin: tape.plugin("a") }, { plugin: tape.plugin("b") }];
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins, config: { forwarder } });
    const peer = await RawPeer.connect(t, sidecar.inbound);
    peer.send(GET);
    await tape.ran("a idle downstream");
    await tape.ran("a idle upstream");
    tape.events.length = 0;

    peer.send(GET);
    await tape.ran("a idle downstream");
    await tape.ran("a idle upstream");
    await tape.ran("a close upstream");
    const { rest, upstream } = strands(tape.events);
    assert.deepEqual(rest, [
      ...there("active downstream", "exchange", "request", "active upstream", "upstreamConnected"),
      ...back("retry"),
      ...there("connection upstream", "active upstream", "upstreamConnected"),
      ...back("response", "end", "idle downstream"),
    ]);
    for (const hook of ["close upstream", "idle upstream"]) {
      assert.deepEqual(
        upstream.filter((event) => event.endsWith(hook)),
        back(hook),
      );
    }
  });
}

/** What the ways of docs/phases.md are acted with. */
interface Scene {
  readonly tape: Tape;
  readonly deeds: Deeds;
  /** Port of the origin. */
  readonly port: number;
  /** A port that nothing listens on. */
  readonly closedPort: number;
  connect(): Promise<RawPeer>;
  /** What the origin does with the next requests, in turn; then it answers 200. */
  readonly answers: ((socket: Socket) => void)[];
}

/** By heading in docs/phases.md: makes it happen, up to the caller's end of the connection. */
const PATHS: Record<string, (scene: Scene) => Promise<RawPeer>> = {
  async Success({ connect, tape }) {
    const peer = await connect();
    peer.send(GET);
    await tape.ran("a idle upstream");
    return peer;
  },
  async "A plugin replies"({ connect, deeds }) {
    deeds.request = () => ({ status: 403 });
    const peer = await connect();
    peer.send(GET);
    await peer.until((text) => text.endsWith("\r\n\r\n"));
    return peer;
  },
  async Retry({ connect, tape, answers }) {
    const peer = await connect();
    answers.push(
      (socket) => void socket.write(OK),
      (socket) => void socket.resetAndDestroy(),
    );
    peer.send(GET);
    await tape.ran("a idle downstream");
    await tape.ran("a idle upstream");
    tape.events.length = 0;
    peer.send(GET);
    await tape.ran("a idle upstream");
    return peer;
  },
  async "Failure before a connection"({ connect, closedPort }) {
    const peer = await connect();
    peer.send(GET.replace("a", `127.0.0.1:${closedPort}`));
    await peer.until((text) => text.endsWith("HF_UPSTREAM_REFUSED\n"));
    return peer;
  },
  async "Failure after it"({ connect, answers }) {
    answers.push((socket) => void socket.end());
    const peer = await connect();
    peer.send(GET);
    await peer.until((text) => text.endsWith("HF_UPSTREAM_CLOSED\n"));
    return peer;
  },
  async Upgrade({ connect, answers }) {
    answers.push((socket) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\nhi");
    });
    const peer = await connect();
    peer.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\n");
    await peer.until((text) => text.endsWith("hi"));
    return peer;
  },
  async Tunnel({ connect, port }) {
    const peer = await connect();
    peer.send(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await peer.until((text) => text.endsWith("\r\n\r\n"));
    return peer;
  },
};

/** The two strands of a path as docs/phases.md lists them. */
function documented(heading: string): { rest: string[]; upstream: string[] } {
  const page = readFileSync(new URL("../../docs/phases.md", import.meta.url), "utf8");
  const section = page.split(/^### /m).find((each) => each.startsWith(`${heading}\n`)) ?? "";
  const [, block = ""] = /```text\n([\s\S]*?)```/.exec(section) ?? [];
  const [rest = "", upstream = ""] = block.split("\n");
  const events = (line: string) =>
    line
      .split(", ")
      .filter((event) => event !== "")
      .map((event) => `a ${event.replace("↓", "downstream").replace("↑", "upstream")}`);
  return { rest: events(rest), upstream: events(upstream) };
}

test("docs/phases.md lists the hooks of each path and of no other", () => {
  const page = readFileSync(new URL("../../docs/phases.md", import.meta.url), "utf8");
  assert.deepEqual(
    [...page.matchAll(/^### (.*)$/gm)].map(([, heading]) => heading),
    Object.keys(PATHS),
  );
});

for (const forwarder of FORWARDERS) {
  for (const [heading, act] of Object.entries(PATHS)) {
    const side = heading === "Tunnel" || heading === "Failure before a connection" ? "outbound" : "inbound";
    test(`${forwarder}: docs/phases.md tells the truth: ${heading}`, async (t) => {
      const answers: ((socket: Socket) => void)[] = [];
      const origin = await rawOrigin(t, ({ socket }) => {
        const answer = answers.shift();
        if (answer === undefined) socket.write(OK);
        else answer(socket);
      });
      const tape = new Tape();
      const deeds: Deeds = {};
      const sidecar = await testSidecar(t, {
        upstream: origin.url,
        outbound: true,
        plugins: [{ plugin: tape.plugin("a", deeds), directions: [side] }],
        config: { forwarder, outbound: { unmatched: "pass" } },
      });
      const peer = await act({
        tape,
        deeds,
        answers,
        port: origin.port,
        closedPort: await unusedPort(),
        connect: () => RawPeer.connect(t, sidecar[side]),
      });
      peer.socket.end();
      await tape.ran("a close downstream");
      await tape.ran("a end");
      await sidecar.stop();
      const expected = documented(heading);
      const happened = tape.events.filter((event) => event !== "a close");
      if (heading === "Failure before a connection") {
        assert.deepEqual(happened, expected.rest);
        return;
      }
      const { rest, upstream } = strands(happened);
      assert.deepEqual(rest, expected.rest);
      assert.deepEqual(upstream, expected.upstream);
    });
  }
}
