/** A sidecar whose plugin can be told to misbehave, and what makes each of its hooks run. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { TestContext } from "node:test";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { definePlugin, type Plugin } from "../../src/plugin/api.ts";
import type { TestSidecar } from "../../src/testing.ts";
import { type RawOrigin, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";
import { type HookPlace, hookName, type Misdeed, Saboteur } from "./saboteur.ts";

const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/** Status of the response to what is sent on this connection. */
export async function statusOf(peer: RawPeer, request = GET): Promise<number> {
  const from = peer.received.length;
  peer.send(request);
  const received = await peer.until((text) => /\r\n\r\n(?:ok|500 HF_PLUGIN_FAILED\n)$/.test(text.slice(from)));
  return Number(received.slice(from + 9, from + 12));
}

/** A sidecar with one plugin that can be told to misbehave, before an origin that can be told to close. */
export class Stage {
  static async open(
    t: TestContext,
    forwarder: ForwarderName,
    plugin: Plugin<unknown>,
    onError: "continue" | "fail",
  ): Promise<Stage> {
    const origin = await rawOrigin(t, ({ socket }, head, index) => {
      // A stale connection: closed as the request came, without a byte of a response.
      if (head.includes("X-Stale:") && index > 1) socket.resetAndDestroy();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    const saboteur = new Saboteur(plugin);
    const breaker = { broken: false };
    const sidecar = await testSidecar(t, {
      upstream: "origin",
      plugins: [{ plugin: saboteur.plugin, onError }, { plugin: breakable(breaker) }],
      config: { forwarder, backends: { origin: { address: "127.0.0.1", port: origin.port } } },
    });
    return new Stage(t, saboteur, breaker, origin, sidecar);
  }

  readonly saboteur: Saboteur;
  readonly sidecar: TestSidecar;
  readonly #t: TestContext;
  readonly #breaker: { broken: boolean };
  readonly #origin: RawOrigin;

  #tcpKeepAliveTime = 60;

  private constructor(
    t: TestContext,
    saboteur: Saboteur,
    breaker: { broken: boolean },
    origin: RawOrigin,
    sidecar: TestSidecar,
  ) {
    this.#t = t;
    this.saboteur = saboteur;
    this.#breaker = breaker;
    this.#origin = origin;
    this.sidecar = sidecar;
  }

  connect(): Promise<RawPeer> {
    return RawPeer.connect(this.#t, this.sidecar.inbound);
  }

  /** Lets the hook misbehave where it runs anyway, and tells the status of the exchange that met it. */
  async provoke(place: HookPlace, misdeed: Misdeed): Promise<number> {
    const { saboteur } = this;
    const before = saboteur.done;
    const orders = { place, misdeed };
    const did = () => saboteur.until(() => saboteur.done > before);
    let status: number;
    if (place === "active downstream" || place === "connection downstream" || place === "exchange") {
      saboteur.orders = orders;
      status = await statusOf(await this.connect());
    } else if (place === "connection upstream") {
      await this.#closeUpstream();
      saboteur.orders = orders;
      status = await statusOf(await this.connect());
      // Where its hook failed, the plugin does not see the connection any more: the next test needs one that it sees.
      await this.#closeUpstream();
    } else if (place === "retry") {
      const peer = await this.connect();
      await this.#settled(() => statusOf(peer));
      saboteur.orders = orders;
      status = await statusOf(peer, GET.replace("Host", "X-Stale: 1\r\nHost"));
    } else if (place === "pluginFailed" || place === "filter pluginFailed") {
      saboteur.orders = orders;
      this.#breaker.broken = true;
      status = await statusOf(await this.connect());
      this.#breaker.broken = false;
    } else if (place === "backendChanged") {
      const peer = await this.connect();
      await this.#settled(() => statusOf(peer));
      saboteur.orders = orders;
      await this.#changeBackend();
      await did();
      saboteur.orders = undefined;
      status = await statusOf(peer);
    } else if (place === "idle downstream" || place === "idle upstream") {
      const peer = await this.connect();
      saboteur.orders = orders;
      await this.#settled(() => statusOf(peer));
      await did();
      saboteur.orders = undefined;
      status = await statusOf(peer);
    } else if (place === "close downstream") {
      const peer = await this.connect();
      status = await statusOf(peer);
      saboteur.orders = orders;
      peer.socket.end();
    } else if (place === "close upstream") {
      await this.#settled(async () => statusOf(await this.connect()));
      saboteur.orders = orders;
      await this.#closeUpstream();
      saboteur.orders = undefined;
      status = await statusOf(await this.connect());
    } else {
      saboteur.orders = orders;
      status = await statusOf(await this.connect());
    }
    await did();
    saboteur.orders = undefined;
    await saboteur.until(() => saboteur.running === 0);
    return status;
  }

  /** Runs an exchange and waits until both of its connections are idle again. */
  async #settled(exchange: () => Promise<number>): Promise<void> {
    const { idled } = this.saboteur;
    const before = { ...idled };
    await exchange();
    await this.saboteur.until(() => idled.downstream > before.downstream && idled.upstream > before.upstream);
  }

  /** Closes every upstream connection from the origin's side; they are idle. */
  async #closeUpstream(): Promise<void> {
    const open = this.#origin.connections.map(({ socket }) => socket).filter((socket) => !socket.destroyed);
    const closed = open.map((socket) => once(socket, "close"));
    for (const socket of open) socket.end();
    await Promise.all(closed);
  }

  /** Changes a setting of the backend; one that stays the same is not told. */
  async #changeBackend(): Promise<void> {
    const response = await fetch(`${this.sidecar.admin}/backends/origin`, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ tcp_keepalive_time: ++this.#tcpKeepAliveTime }),
    });
    assert.equal(response.status, 200, await response.text());
  }

  /** How many failures of the plugin in the hook are in the log. */
  logged(place: HookPlace): number {
    const { name } = this.saboteur.plugin;
    return this.sidecar.log.filter((line) => line["plugin"] === name && line["hook"] === hookName(place)).length;
  }

  /** How many failures of the plugin in the hook the metric has. */
  async counted(place: HookPlace): Promise<number> {
    const metrics = await (await fetch(`${this.sidecar.admin}/metrics`)).text();
    let counted = 0;
    for (const line of metrics.split("\n")) {
      const [, labels = "", value] = /^holdfast_plugin_errors_total\{(.*)\} (\d+)$/.exec(line) ?? [];
      const isIt = [this.saboteur.plugin.name, hookName(place)].every((label) => labels.includes(`"${label}"`));
      if (isIt) counted += Number(value);
    }
    return counted;
  }
}

/** A second plugin that fails when told to, so that the first one's `pluginFailed` hooks have something to hear. */
function breakable(breaker: { readonly broken: boolean }): Plugin<object> {
  return definePlugin({
    name: "breakable",
    apiVersion: 1,
    description: "Fails when told to",
    config: {},
    setup: () => ({
      exchange: () => ({
        request() {
          if (breaker.broken) throw new Error("broken");
        },
      }),
    }),
  });
}
