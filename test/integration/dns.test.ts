import assert from "node:assert/strict";
import type { LookupAddress } from "node:dns";
import { once } from "node:events";
import http from "node:http";
import net, { type AddressInfo, type LookupFunction, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { type Observer, observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, testSidecar } from "../support/peers.ts";

const GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const answered = (text: string): boolean => / from 127\.0\.0\.\d$/.test(text);

interface Origin {
  readonly address: string;
  readonly port: number;
  readonly sockets: readonly Socket[];
}

/** Says at which address it was met. With `hold`, it answers when that resolves. */
async function originAt(t: TestContext, address: string, port = 0, hold?: Promise<void>): Promise<Origin> {
  const sockets: Socket[] = [];
  const server = http.createServer({ keepAliveTimeout: 0 }, async (_request, response) => {
    await hold;
    response.end(`hello from ${address}`);
  });
  server.on("connection", (socket) => sockets.push(socket));
  server.listen(port, address);
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { address, port: (server.address() as AddressInfo).port, sockets };
}

/** Names as a test has them; counts what is asked. */
class Names {
  addresses: readonly string[];
  failure: NodeJS.ErrnoException | undefined;
  asked = 0;

  constructor(...addresses: string[]) {
    this.addresses = addresses;
  }

  readonly lookup: LookupFunction = (hostname, options, done) => {
    assert.equal(hostname, "service.test");
    this.asked++;
    const found: LookupAddress[] = this.addresses.map((address) => ({ address, family: net.isIP(address) }));
    setImmediate(() => {
      if (this.failure !== undefined) done(this.failure, []);
      else if (options.all) done(null, found);
      else done(null, found[0]!.address, found[0]!.family);
    });
  };

  async askedTimes(count: number): Promise<void> {
    while (this.asked < count) await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function setting(
  t: TestContext,
  { forwarder, names, port, refresh }: { forwarder: string; names: Names; port: number; refresh: string },
): Promise<{ watch: Observer; inbound: string; ask(): Promise<string> }> {
  const watch = observer();
  const sidecar = await testSidecar(t, {
    upstream: `http://service.test:${port}`,
    lookup: names.lookup,
    plugins: [{ plugin: watch.plugin }],
    config: { forwarder, inbound: { dnsRefresh: refresh } },
  });
  const peer = await RawPeer.connect(t, sidecar.inbound);
  return {
    watch,
    inbound: sidecar.inbound,
    async ask() {
      peer.received = "";
      peer.send(GET);
      return (await peer.until(answered)).slice(-"127.0.0.1".length);
    },
  };
}

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: a service that moved is followed: idle connections to the old address close`, async (t) => {
    const old = await originAt(t, "127.0.0.1");
    await originAt(t, "127.0.0.2", old.port);
    const names = new Names("127.0.0.1");
    const { watch, ask } = await setting(t, { forwarder, names, port: old.port, refresh: "100ms" });
    assert.equal(await ask(), "127.0.0.1");
    assert.equal(await ask(), "127.0.0.1");
    names.addresses = ["127.0.0.2"];
    const { connection, reason } = await watch.closedOn("upstream");
    assert.equal(reason, "max_age");
    assert.equal(connection.remoteAddress, "127.0.0.1");
    assert.equal(connection.exchanges, 2);
    assert.equal(await ask(), "127.0.0.2");
  });

  test(`${forwarder}: a connection in use finishes its exchange before it closes`, async (t) => {
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const old = await originAt(t, "127.0.0.1", 0, held);
    await originAt(t, "127.0.0.2", old.port);
    const names = new Names("127.0.0.1");
    const { watch, ask } = await setting(t, { forwarder, names, port: old.port, refresh: "100ms" });
    const answer = ask();
    await watch.until(({ opened }) => opened.some(({ side }) => side === "upstream"));
    names.addresses = ["127.0.0.2"];
    const upstream = watch.opened.find(({ side }) => side === "upstream")!;
    while (upstream.state !== "draining") await new Promise((resolve) => setTimeout(resolve, 5));
    release();
    assert.equal(await answer, "127.0.0.1");
    assert.equal((await watch.closedOn("upstream")).reason, "max_age");
    assert.equal(watch.ended[0]!.outcome.error, undefined);
    assert.equal(await ask(), "127.0.0.2");
  });

  test(`${forwarder}: a look-up that fails, or still has the address among others, changes nothing`, async (t) => {
    const origin = await originAt(t, "127.0.0.1");
    const names = new Names("127.0.0.1");
    const { watch, ask } = await setting(t, { forwarder, names, port: origin.port, refresh: "100ms" });
    await ask();
    names.failure = Object.assign(new Error("queryA ESERVFAIL"), { code: "ESERVFAIL" });
    await names.askedTimes(names.asked + 2);
    names.failure = undefined;
    names.addresses = [];
    await names.askedTimes(names.asked + 2);
    names.addresses = ["127.0.0.3", "127.0.0.1"];
    await names.askedTimes(names.asked + 2);
    assert.equal(await ask(), "127.0.0.1");
    assert.equal(origin.sockets.length, 1);
    assert.deepEqual(watch.closed, []);
  });

  test(`${forwarder}: each new connection looks the name up, no request on a kept one does`, async (t) => {
    const origin = await originAt(t, "127.0.0.1");
    await originAt(t, "127.0.0.2", origin.port);
    const names = new Names("127.0.0.1");
    const { watch, ask } = await setting(t, { forwarder, names, port: origin.port, refresh: "off" });
    for (let round = 0; round < 3; round++) await ask();
    assert.equal(names.asked, 1);
    names.addresses = ["127.0.0.2"];
    origin.sockets[0]!.destroy();
    await watch.closedOn("upstream");
    assert.equal(await ask(), "127.0.0.2");
    assert.equal(names.asked, 2);
    assert.ok(watch.opened.find(({ side }) => side === "upstream")!.setup.dnsMs! > 0);
  });

  test(`${forwarder}: a dead address among several is passed over`, async (t) => {
    const origin = await originAt(t, "127.0.0.3");
    // The first two have nobody on that port.
    const names = new Names("127.0.0.1", "127.0.0.2", "127.0.0.3");
    const { watch, ask } = await setting(t, { forwarder, names, port: origin.port, refresh: "30s" });
    assert.equal(await ask(), "127.0.0.3");
    assert.equal(await ask(), "127.0.0.3");
    assert.equal(origin.sockets.length, 1);
    const [upstream] = watch.opened.filter(({ side }) => side === "upstream");
    assert.equal(upstream!.remoteAddress, "127.0.0.3");
  });

  test(`${forwarder}: an IPv6 address that leads nowhere does not keep us from the IPv4 one`, async (t) => {
    const origin = await originAt(t, "127.0.0.1");
    // RFC 6666: what goes there is discarded, or there is no way to it.
    const names = new Names("100::1", "127.0.0.1");
    const { ask } = await setting(t, { forwarder, names, port: origin.port, refresh: "30s" });
    assert.equal(await ask(), "127.0.0.1");
  });

  test(`${forwarder}: a tunnel is not closed because its name moved`, async (t) => {
    const origin = await originAt(t, "127.0.0.1");
    const names = new Names("127.0.0.1");
    const watch = observer();
    const sidecar = await testSidecar(t, {
      lookup: names.lookup,
      plugins: [{ plugin: watch.plugin }],
      config: { forwarder, outbound: { dnsRefresh: "100ms" } },
    });
    const peer = await RawPeer.connect(t, sidecar.outbound);
    peer.send(`CONNECT service.test:${origin.port} HTTP/1.1\r\nHost: service.test:${origin.port}\r\n\r\n`);
    await peer.until((text) => text.endsWith("\r\n\r\n"));
    names.addresses = ["127.0.0.2"];
    await names.askedTimes(names.asked + 2);
    peer.send(GET);
    await peer.until(answered);
    assert.ok(watch.opened.every(({ state }) => state === "active"));
  });
}
