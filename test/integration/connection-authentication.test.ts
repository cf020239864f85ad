/**
 * NTLM and Negotiate authenticate a connection: from then on it is one caller's, and must never be another's.
 *
 * The origin does the handshake in three legs, as IIS does: it offers the scheme, answers the caller's first message
 * with a challenge that holds for that connection alone, and takes the answer to it. A request on an authenticated
 * connection is answered with its user's name, whoever sent it.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import test, { type TestContext } from "node:test";
import { definePlugin } from "../../src/plugin/api.ts";
import { ask, http2Peer } from "../support/http2-peer.ts";
import { FORWARDERS, type OriginConnection, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

interface Login {
  readonly challenge: string;
  user: string | undefined;
}

const CONFIG = { log: { access: false } };

async function authenticatingOrigin(t: TestContext, scheme = "NTLM", offer = scheme) {
  const logins = new Map<OriginConnection, Login>();
  const requests: { readonly connection: OriginConnection; readonly target: string; readonly user?: string }[] = [];
  const origin = await rawOrigin(t, (connection, head) => {
    const login: Login = logins.get(connection) ?? { challenge: `challenge-${logins.size}`, user: undefined };
    logins.set(connection, login);
    const [, message] = new RegExp(`^Authorization: ${scheme} (\\S+)`, "im").exec(head) ?? [];
    if (message === "hello") {
      login.user = undefined;
      connection.socket.write(refusal(`${scheme} ${login.challenge}`));
      return;
    }
    if (message !== undefined) {
      const [user, challenge] = message.split("/");
      login.user = challenge === login.challenge ? user : undefined;
    }
    const [, target = ""] = head.split(" ", 2);
    requests.push({ connection, target, ...(login.user === undefined ? {} : { user: login.user }) });
    if (login.user === undefined) connection.socket.write(refusal(offer));
    else if (/^Upgrade: chat/im.test(head)) {
      connection.socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
      connection.socket.write(`hello ${login.user}`);
    } else {
      const body = `${login.user} ${target}`;
      connection.socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    }
  });
  return { ...origin, requests, connections: origin.connections };
}

function refusal(challenge: string): string {
  return `HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: ${challenge}\r\nContent-Length: 0\r\n\r\n`;
}

/** A caller on one HTTP/1.1 connection. */
class Caller {
  readonly peer: RawPeer;
  #read = 0;

  constructor(peer: RawPeer) {
    this.peer = peer;
  }

  send(target: string, fields = ""): void {
    this.peer.send(`GET ${target} HTTP/1.1\r\nHost: a.example\r\n${fields}\r\n`);
  }

  /** The next response: status and `WWW-Authenticate` or body. */
  async next(): Promise<string> {
    const whole = /^HTTP\/1\.1 (\d+)[\s\S]*?\r\n\r\n/;
    let text = "";
    await this.peer.until((received) => {
      text = received.slice(this.#read);
      const head = whole.exec(text)?.[0];
      if (head === undefined) return false;
      return text.length >= head.length + Number(/^Content-Length: (\d+)/im.exec(head)?.[1] ?? 0);
    });
    const head = whole.exec(text)![0];
    const length = Number(/^Content-Length: (\d+)/im.exec(head)?.[1] ?? 0);
    this.#read += head.length + length;
    const challenge = /^WWW-Authenticate: (.*)\r$/im.exec(head)?.[1];
    return `${/\d{3}/.exec(head)![0]} ${challenge ?? text.slice(head.length, head.length + length)}`;
  }

  async ask(target: string, fields = ""): Promise<string> {
    this.send(target, fields);
    return await this.next();
  }

  /** All three legs. */
  async logIn(user: string, scheme = "NTLM", more = ""): Promise<string> {
    assert.match(await this.ask("/login", more), /^401 /);
    const challenge = await this.ask("/login", `Authorization: ${scheme} hello\r\n${more}`);
    const [, text = ""] = /^401 \S+ (challenge-\d+)$/.exec(challenge) ?? [];
    assert.notEqual(text, "", challenge);
    return await this.ask("/login", `Authorization: ${scheme} ${user}/${text}\r\n${more}`);
  }
}

for (const forwarder of FORWARDERS) {
  async function stage(t: TestContext, scheme?: string, offer?: string, config: object = {}) {
    const origin = await authenticatingOrigin(t, scheme, offer);
    const sidecar = await testSidecar(t, { upstream: origin.url, config: { ...CONFIG, ...config, forwarder } });
    const call = async () => new Caller(await RawPeer.connect(t, sidecar.inbound));
    return { origin, sidecar, call };
  }

  for (const [scheme, offer] of [
    ["NTLM", "NTLM"],
    ["Negotiate", 'Basic realm="here", Negotiate'],
    ["ntlm", "Negotiate, ntlm"],
  ] as const) {
    test(`${forwarder}: an authenticated connection (${offer}) is its caller's alone`, async (t) => {
      const { origin, sidecar, call } = await stage(t, scheme, offer);
      const alice = await call();
      assert.equal(await alice.logIn("alice", scheme), "200 alice /login");
      assert.equal(await alice.ask("/mail"), "200 alice /mail");
      assert.equal(origin.connections.length, 1, "all legs on one connection");
      const [down, up] = ["downstream", "upstream"].map((side) =>
        [...sidecar.sidecar.view.connections()].find((connection) => connection.side === side),
      );
      assert.equal(up?.boundTo, down);

      const others = await Promise.all([call(), call(), call()]);
      for (let round = 0; round < 3; round++) {
        for (const other of others) assert.equal(await other.ask("/mail"), `401 ${offer}`);
        assert.equal(await alice.ask(`/mail/${round}`), `200 alice /mail/${round}`);
      }
      const bob = others[0]!;
      assert.equal(await bob.logIn("bob", scheme), "200 bob /login");
      assert.equal(await alice.ask("/end"), "200 alice /end");
      assert.equal(await bob.ask("/end"), "200 bob /end");
      const ofAlice = origin.requests.filter(({ user }) => user === "alice").map(({ connection }) => connection);
      assert.equal(new Set(ofAlice).size, 1);
    });
  }

  test(`${forwarder}: an authenticated connection closes with its caller`, async (t) => {
    const ended = Promise.withResolvers<string>();
    const watch = definePlugin({
      name: "watch",
      apiVersion: 1,
      description: "Notes why upstream connections close",
      config: {},
      setup: () => ({
        connection: ({ side }) => (side === "upstream" ? { close: ended.resolve } : undefined),
      }),
    });
    const origin = await authenticatingOrigin(t);
    const sidecar = await testSidecar(t, { upstream: origin.url, plugins: [{ plugin: watch }], config: { forwarder } });
    const call = async () => new Caller(await RawPeer.connect(t, sidecar.inbound));
    const alice = await call();
    await alice.logIn("alice");
    const closed = once(origin.connections[0]!.socket, "close");
    alice.peer.socket.destroy();
    await closed;
    assert.equal(await ended.promise, "max_requests");
    const bob = await call();
    assert.equal(await bob.ask("/mail"), "401 NTLM");
    assert.equal(origin.connections.length, 2);
  });

  test(`${forwarder}: a caller who brings credentials unasked has a connection of its own too`, async (t) => {
    const { origin, call } = await stage(t);
    const [alice, bob] = [await call(), await call()];
    // Its connection was offered NTLM, and goes with it.
    assert.equal(await alice.ask("/", "Authorization: Basic eDp5\r\n"), "401 NTLM");
    alice.peer.socket.destroy();
    assert.equal(await bob.ask("/login", "Authorization: NTLM hello\r\n"), "401 NTLM challenge-1");
    const carol = await call();
    assert.equal(await carol.ask("/mail"), "401 NTLM");
    assert.equal(await bob.ask("/login", "Authorization: NTLM bob/challenge-1\r\n"), "200 bob /login");
    assert.equal(await carol.ask("/mail"), "401 NTLM");
    assert.equal(origin.connections.length, 3);
  });

  test(`${forwarder}: credentials that are taken at once, without a challenge, bind their connection`, async (t) => {
    // As Kerberos does it: the first request carries all that is needed, and no response ever offers anything.
    const { call } = await stage(t, "Negotiate");
    const [alice, bob] = [await call(), await call()];
    assert.equal(await alice.ask("/login", "Authorization: Negotiate alice/challenge-0\r\n"), "200 alice /login");
    assert.equal(await bob.ask("/mail"), "401 Negotiate");
    assert.equal(await alice.ask("/mail"), "200 alice /mail");
  });

  test(`${forwarder}: pipelined requests go over the caller's authenticated connection`, async (t) => {
    const { origin, call } = await stage(t);
    const alice = await call();
    await alice.logIn("alice");
    for (let index = 0; index < 8; index++) alice.send(`/${index}`);
    for (let index = 0; index < 8; index++) assert.equal(await alice.next(), `200 alice /${index}`);
    assert.equal(origin.connections.length, 1);
  });

  test(`${forwarder}: streams of one HTTP/2 connection take turns on its authenticated connection`, async (t) => {
    const { origin, sidecar } = await stage(t);
    const session = await http2Peer(t, sidecar.inbound);
    const get = (path: string, authorization?: string) =>
      ask(session, { ":path": path, ":authority": "a.example", ...(authorization && { authorization }) });
    await get("/login");
    const { fields } = await get("/login", "NTLM hello");
    const challenge = fields[fields.indexOf("www-authenticate") + 1]!.split(" ")[1];
    assert.equal((await get("/login", `NTLM alice/${challenge}`)).body, "alice /login");
    const targets = Array.from({ length: 20 }, (_, index) => `/${index}`);
    const stranger = await http2Peer(t, sidecar.inbound);
    const [mine, theirs] = await Promise.all([
      Promise.all(targets.map((target) => get(target))),
      Promise.all(targets.map((target) => ask(stranger, { ":path": target, ":authority": "a.example" }))),
    ]);
    for (const [index, { status, body }] of mine.entries()) {
      assert.equal(status, 200);
      assert.equal(body, `alice ${targets[index]}`);
    }
    for (const { status } of theirs) assert.equal(status, 401);
    const ofAlice = origin.requests.filter(({ user }) => user === "alice").map(({ connection }) => connection);
    assert.equal(new Set(ofAlice).size, 1);
  });

  test(`${forwarder}: an upgrade is authenticated on the connection that it then uses`, async (t) => {
    const { origin, call } = await stage(t);
    const alice = await call();
    const upgrade = "Connection: Upgrade\r\nUpgrade: chat\r\n";
    assert.match(await alice.logIn("alice", "NTLM", upgrade), /^101 /);
    await alice.peer.until((received) => received.endsWith("hello alice"));
    assert.equal(origin.connections.length, 1);
  });

  test(`${forwarder}: where connections are few, an idle authenticated one gives way`, async (t) => {
    const { origin, call } = await stage(t, "NTLM", "NTLM", {
      plugins: [{ use: "connection-limits", config: { upstream: { maxConnections: 1 } } }],
    });
    const [alice, bob] = [await call(), await call()];
    await alice.logIn("alice");
    assert.equal(await bob.ask("/mail"), "401 NTLM");
    assert.equal(await alice.ask("/mail"), "401 NTLM");
    assert.equal(await alice.logIn("alice"), "200 alice /login");
    assert.ok(origin.connections.length >= 3);
  });

  test(`${forwarder}: connections are shared again where nobody authenticates them`, async (t) => {
    const { origin, call } = await stage(t, "NTLM", 'Basic realm="here"');
    const [one, other] = [await call(), await call()];
    for (const caller of [one, other, one, other]) {
      assert.equal(await caller.ask("/", "Authorization: Basic bnRsbTo=\r\n"), '401 Basic realm="here"');
    }
    assert.equal(origin.connections.length, 1);
  });
}
