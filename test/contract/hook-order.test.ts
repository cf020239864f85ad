/** Hooks run in the order that docs/phases.md shows, the same with every forwarder. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";
import { Tape } from "./tape.ts";

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
