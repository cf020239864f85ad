/** `connection-close-on-logout` on real sockets: which connections are gone after a logout. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { observer } from "../support/observer.ts";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

interface Case {
  readonly name: string;
  readonly config: object;
  /** Request line without the version. */
  readonly request: string;
  /** Status and fields of the response. Default: 200 without fields. */
  readonly status?: number;
  readonly fields?: string;
}

const match = (...rules: object[]) => ({ match: rules });

const LOGOUTS: readonly Case[] = [
  { name: "method and path", config: match({ method: "POST", path: "/logout" }), request: "POST /logout?next=%2F" },
  { name: "any method", config: match({ path: "/logout" }), request: "DELETE /logout" },
  { name: "a prefix", config: match({ path: "/auth", pathMatch: "prefix" }), request: "GET /auth/a/logout" },
  {
    name: "a pattern",
    config: match({ path: "/tenants/*/logout", pathMatch: "pattern" }),
    request: "POST /tenants/7/logout",
  },
  {
    name: "a pattern with **",
    config: match({ path: "/**/logout", pathMatch: "pattern" }),
    request: "POST /a/b/c/logout",
  },
  { name: "a status", config: match({ path: "/out", status: "204" }), request: "GET /out", status: 204 },
  { name: "a class of statuses", config: match({ path: "/out", status: "3xx" }), request: "GET /out", status: 303 },
  { name: "the second rule", config: match({ path: "/a" }, { path: "/b" }), request: "GET /b" },
  { name: "an encoded path", config: match({ path: "/logout" }), request: "GET /x/%2E%2E/log%6Fut/" },
  { name: "Clear-Site-Data", config: {}, request: "GET /bye", fields: 'Clear-Site-Data: "cache", "cookies"\r\n' },
  { name: "Clear-Site-Data *", config: {}, request: "GET /bye", status: 401, fields: 'clear-site-data: "*"\r\n' },
  {
    name: "a session cookie with Max-Age 0",
    config: { cookies: ["sid"] },
    request: "GET /bye",
    fields: "Set-Cookie: theme=dark\r\nSet-Cookie: sid=x; Path=/; Max-Age=0\r\n",
  },
  {
    name: "a session cookie that has expired",
    config: { cookies: ["sid"] },
    request: "GET /bye",
    fields: "Set-Cookie: sid=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT\r\n",
  },
];

const OTHERS: readonly Case[] = [
  { name: "another method", config: match({ method: "POST", path: "/logout" }), request: "GET /logout" },
  { name: "another path", config: match({ method: "POST", path: "/logout" }), request: "POST /logout/x" },
  { name: "beside a prefix", config: match({ path: "/auth", pathMatch: "prefix" }), request: "GET /authors" },
  {
    name: "beside a pattern",
    config: match({ path: "/tenants/*/logout", pathMatch: "pattern" }),
    request: "POST /tenants/7/8/logout",
  },
  { name: "a logout that failed", config: match({ path: "/logout" }), request: "POST /logout", status: 500 },
  { name: "another status", config: match({ path: "/out", status: "204" }), request: "GET /out", status: 200 },
  { name: "Clear-Site-Data of the cache", config: {}, request: "GET /", fields: 'Clear-Site-Data: "cache"\r\n' },
  {
    name: "Clear-Site-Data when it is not to tell",
    config: { clearSiteData: false, cookies: ["sid"] },
    request: "GET /",
    fields: 'Clear-Site-Data: "cookies"\r\n',
  },
  {
    name: "another cookie",
    config: { cookies: ["sid"] },
    request: "GET /",
    fields: "Set-Cookie: theme=; Max-Age=0\r\nSet-Cookie: sid=new\r\n",
  },
];

async function open(t: TestContext, forwarder: ForwarderName, { config, status = 200, fields = "" }: Case) {
  const origin = await rawOrigin(t, ({ socket }, head) => {
    const isFirst = head.startsWith("GET /warm-up");
    const length = !isFirst && status === 204 ? "" : "Content-Length: 2\r\n";
    const start = isFirst ? "HTTP/1.1 200 OK\r\n" : `HTTP/1.1 ${status} Said\r\n${fields}`;
    socket.write(`${start}${length}\r\n${length === "" ? "" : "ok"}`);
  });
  const seen = observer();
  const sidecar = await testSidecar(t, {
    upstream: origin.url,
    plugins: [{ use: "keep-alive" }, { use: "connection-close-on-logout", config }, { plugin: seen.plugin }],
    config: { forwarder },
  });
  /** Runs an exchange, waits until both of its connections are idle or closing; returns its response. */
  const ask = async (peer: RawPeer, request: string): Promise<string> => {
    const from = peer.received.length;
    const settled = () =>
      seen.idled("upstream") + seen.closed.filter(({ connection }) => connection.side === "upstream").length;
    const before = settled();
    peer.send(`${request} HTTP/1.1\r\nHost: a\r\n\r\n`);
    const received = await peer.until((text) => /\r\n\r\n(?:ok)?$/.test(text.slice(from)));
    await seen.until(() => settled() > before);
    return received.slice(from);
  };
  return { origin, seen, ask, connect: () => RawPeer.connect(t, sidecar.inbound) };
}

for (const forwarder of FORWARDERS) {
  for (const each of LOGOUTS) {
    test(`${forwarder}: a logout by ${each.name} closes its connections`, async (t) => {
      const { origin, seen, ask, connect } = await open(t, forwarder, each);
      const peer = await connect();
      assert.match(await ask(peer, "GET /warm-up"), /\r\nConnection: keep-alive\r\n/);
      const response = await ask(peer, each.request);
      assert.match(response, /\r\nConnection: close\r\n/);
      assert.doesNotMatch(response, /\r\nKeep-Alive:/i);
      await peer.untilEnd();
      peer.socket.end();
      assert.equal((await seen.closedOn("downstream")).reason, "logout");
      const upstream = await seen.closedOn("upstream");
      assert.equal(upstream.reason, "logout");
      assert.equal(upstream.connection.exchanges, 2, "the one that served it");
      assert.equal(origin.connections.length, 1);

      await ask(await connect(), "GET /warm-up");
      assert.equal(origin.connections.length, 2, "the next request is on fresh connections on both sides");
      assert.equal(seen.opened.at(-1)!.exchanges, 1);
    });
  }

  for (const each of OTHERS) {
    test(`${forwarder}: no logout: ${each.name}`, async (t) => {
      const { origin, seen, ask, connect } = await open(t, forwarder, each);
      const peer = await connect();
      assert.match(await ask(peer, each.request), /\r\nConnection: keep-alive\r\n/);
      await ask(peer, "GET /warm-up");
      assert.equal(origin.connections.length, 1);
      assert.deepEqual(seen.closed, []);
    });
  }

  test(`${forwarder}: a logout touches no other connection`, async (t) => {
    const each = { name: "", config: match({ path: "/logout" }), request: "" };
    const { seen, ask, connect } = await open(t, forwarder, each);
    const [leaving, staying] = [await connect(), await connect()];
    await ask(staying, "GET /warm-up");
    await ask(leaving, "POST /logout");
    await leaving.untilEnd();
    leaving.socket.end();
    await seen.closedOn("downstream");
    assert.match(await ask(staying, "GET /warm-up"), /\r\nConnection: keep-alive\r\n/);
    assert.equal(seen.closed.filter(({ connection }) => connection.side === "downstream").length, 1);
  });

  test(`${forwarder}: a request that was pipelined behind a logout is not served`, async (t) => {
    const each = { name: "", config: match({ path: "/logout" }), request: "" };
    const { origin, connect } = await open(t, forwarder, each);
    const peer = await connect();
    peer.send("POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n");
    const received = await peer.untilEnd();
    assert.equal(received.match(/HTTP\/1\.1 200/g)?.length, 1);
    assert.doesNotMatch(origin.received(), /secret/);
  });
}
