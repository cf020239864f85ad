import assert from "node:assert/strict";
import { constants } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import net, { type AddressInfo, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import tls from "node:tls";
import { Pace } from "../../src/probe/pace.ts";
import { type Peer, parsePeer } from "../../src/probe/peer.ts";
import { type Phase, type ProbeOptions, probe } from "../../src/probe/probe.ts";
import type { ProbeResult } from "../../src/probe/result.ts";
import { authority } from "../support/certificates.ts";
import { rawOrigin } from "../support/peers.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/** What a timer of a peer may be early by our clock. */
const CLOCK_MS = 5;

function peerAt(url: string, host?: string): Peer {
  const parsed = parsePeer(url, host);
  assert.ok("peer" in parsed);
  return parsed.peer;
}

function probed(url: string, options: Partial<ProbeOptions> = {}, host?: string): Promise<ProbeResult> {
  return probe(peerAt(url, host), {
    method: "GET",
    maxWaitMs: 10_000,
    maxRequests: 5,
    connections: 2,
    timeoutMs: 10_000,
    ca: undefined,
    pace: new Pace(1000),
    signal: new AbortController().signal,
    progress: () => {},
    ...options,
  });
}

/** Whether a request asks for the end of its connection. */
function isToEnd(head: string): boolean {
  return /\r\nConnection: close\r\n/.test(head) || / HTTP\/1\.0\r\n/.test(head);
}

/** What a peer of these tests does. */
interface Habits {
  /** How long it keeps idle connections; `undefined`: for ever. */
  readonly idleMs?: number;
  readonly end?: (socket: Socket) => void;
  /** Field lines of its responses. */
  readonly fields?: string;
  /** After how many responses it ends the connection. */
  readonly most?: number;
  /** Whether the last response says so. */
  readonly announces?: boolean;
}

/** A peer that keeps connections as HTTP/1.1 says, with a limit on idle time and requests. */
async function habitual(t: TestContext, habits: Habits): Promise<string> {
  const { idleMs, end = (socket) => socket.end(), fields = "", most = Number.POSITIVE_INFINITY } = habits;
  const timers = new Map<Socket, NodeJS.Timeout>();
  t.after(() => {
    for (const timer of timers.values()) clearTimeout(timer);
  });
  const origin = await rawOrigin(t, ({ socket }, head, index) => {
    clearTimeout(timers.get(socket));
    const isOld = / HTTP\/1\.0\r\n/.test(head) && !/\r\nConnection: keep-alive\r\n/.test(head);
    const isLast = index >= most || isOld || /\r\nConnection: close\r\n/.test(head);
    const says = index >= most ? habits.announces === true : isLast;
    const keeps = !isLast && / HTTP\/1\.0\r\n/.test(head) ? "Connection: keep-alive\r\n" : "";
    const close = says ? "Connection: close\r\n" : keeps;
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n${fields}${close}\r\nok`);
    if (isLast) socket.end();
    else if (idleMs !== undefined)
      timers.set(
        socket,
        setTimeout(() => end(socket), idleMs),
      );
  });
  return origin.url;
}

test("an idle limit is found, by FIN", async (t) => {
  const url = await habitual(t, { idleMs: 80, fields: "Keep-Alive: timeout=1\r\n" });
  const { idle, status, version, keepAlive, hint, hintTruth, addresses, setup } = await probed(url, { maxWaitMs: 400 });
  assert.equal(status, 200);
  assert.equal(version, "1.1");
  assert.deepEqual(addresses, ["127.0.0.1"]);
  assert.deepEqual(keepAlive, {
    http11: "kept",
    http11KeepAlive: "kept",
    http11Close: "closed",
    http10: "closed",
    http10KeepAlive: "kept",
  });
  assert.equal(idle.afterRequest?.connections.length, 2);
  for (const { end, idleMs } of idle.afterRequest.connections) {
    assert.equal(end, "fin");
    assert.ok(idleMs >= 80 - CLOCK_MS, String(idleMs));
  }
  assert.equal(idle.afterRequest.stillAnswers, null);
  assert.deepEqual(hint, { timeoutMs: 1000, maxRequests: null, onlyWhenAsked: false });
  // It lies: 1 s was promised.
  assert.equal(hintTruth.timeout, "closes early");
  // Nothing was asked on these, so nothing ended them.
  assert.equal(idle.beforeRequest?.shortestMs, null);
  assert.equal(idle.beforeRequest?.stillAnswers, true);
  assert.ok(setup !== null && setup.tcpMs > 0 && setup.tlsMs === null && setup.savedMs !== null);
});

test("an idle limit is found, by RST and after a 408", async (t) => {
  const reset = await probed(await habitual(t, { idleMs: 50, end: (socket) => socket.resetAndDestroy() }), {
    maxWaitMs: 300,
  });
  assert.deepEqual(
    reset.idle.afterRequest?.connections.map(({ end }) => end),
    ["reset", "reset"],
  );
  const said = await probed(
    await habitual(t, { idleMs: 50, end: (socket) => socket.end("HTTP/1.1 408 Request Timeout\r\n\r\n") }),
    { maxWaitMs: 300 },
  );
  assert.deepEqual(
    said.idle.afterRequest?.connections.map(({ end, said }) => [end, said]),
    [
      ["fin", "HTTP/1.1 408 Request Timeout"],
      ["fin", "HTTP/1.1 408 Request Timeout"],
    ],
  );
});

test("a connection that nobody closed but that answers no more is told from one that is open", async (t) => {
  let asked = 0;
  const { url } = await rawOrigin(t, ({ socket }, head, index) => {
    asked++;
    // Once every way to ask and the set-up were answered, second requests are lost on the way.
    if (index > 1 && asked > 14) return;
    socket.write(OK);
    if (isToEnd(head)) socket.end();
  });
  const { idle } = await probed(url, { maxWaitMs: 30, timeoutMs: 100, maxRequests: 1 });
  assert.equal(idle.afterRequest?.shortestMs, null);
  assert.equal(idle.afterRequest?.stillAnswers, false);
});

test("a connection that is closed just as it is asked again counts as closed", async (t) => {
  let asked = 0;
  const { url } = await rawOrigin(t, ({ socket }, head, index) => {
    asked++;
    // As above; the last request on each connection meets a peer that is closing.
    if (index > 1 && asked > 14) socket.end();
    else {
      socket.write(OK);
      if (isToEnd(head)) socket.end();
    }
  });
  const { idle } = await probed(url, { maxWaitMs: 30, maxRequests: 1 });
  assert.deepEqual(
    idle.afterRequest?.connections.map(({ end }) => end),
    ["fin", "fin"],
  );
  assert.ok(idle.afterRequest.shortestMs! >= 30 - CLOCK_MS);
  assert.equal(idle.afterRequest.stillAnswers, null);
});

test("requests per connection: announced, unannounced, not reached, refused", async (t) => {
  const requests = async (habits: Habits) => {
    const { requests, hintTruth } = await probed(await habitual(t, habits), { maxWaitMs: 20 });
    return [requests?.answered, requests?.end, hintTruth.maxRequests];
  };
  assert.deepEqual(await requests({ most: 3, announces: true }), [3, "announced", "none"]);
  assert.deepEqual(await requests({ most: 3, announces: false }), [3, "unannounced", "none"]);
  assert.deepEqual(await requests({}), [5, "not reached", "none"]);
  assert.deepEqual(await requests({ most: 3, announces: true, fields: "Keep-Alive: max=2\r\n" }), [
    3,
    "announced",
    "true",
  ]);
  assert.deepEqual(await requests({ most: 3, announces: true, fields: "Keep-Alive: max=4\r\n" }), [
    3,
    "announced",
    "closes early",
  ]);
  assert.deepEqual(await requests({ fields: "Keep-Alive: max=2\r\n" }), [5, "not reached", "closes late"]);
  const { url } = await rawOrigin(t, ({ socket }, head, index) => {
    if (isToEnd(head)) socket.end(OK);
    else socket.write(index < 3 ? OK : "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n");
  });
  const refused = await probed(url, { maxWaitMs: 20 });
  assert.deepEqual(refused.requests, { answered: 3, end: "refused" });
});

test("a peer that closes after each response, with or without saying so, is named", async (t) => {
  const says = await probed(await habitual(t, { most: 1, announces: true }), { maxWaitMs: 20 });
  assert.equal(says.keepAlive.http11, "closed");
  assert.equal(says.requests, null);
  assert.equal(says.idle.afterRequest, null);
  assert.deepEqual(
    says.notMeasured.map(({ what }) => what),
    ["requests", "idle after a request"],
  );
  const silent = await probed(await habitual(t, { most: 1 }), { maxWaitMs: 20 });
  assert.equal(silent.keepAlive.http11, "broken");
});

test("a peer that cannot be reached, or does not speak HTTP, gives a reason and nothing else", async (t) => {
  const { url } = await rawOrigin(t, ({ socket }) => socket.end("SSH-2.0-OpenSSH\r\n\r\n"));
  const { status, notMeasured } = await probed(url);
  assert.equal(status, null);
  assert.equal(notMeasured.length, 1);
  assert.equal(notMeasured[0]!.what, "everything");
  assert.equal(notMeasured[0]!.why, 'the peer does not speak HTTP: it says "SSH-2.0-OpenSSH"');
  const gone = await probed("http://127.0.0.1:1/");
  assert.match(gone.notMeasured[0]!.why, /refused/);
});

test("a peer that speaks something else is told by what it speaks", async (t) => {
  const why = async (answer: Buffer | string): Promise<string> => {
    const { url } = await rawOrigin(t, ({ socket }) => void socket.end(answer));
    return (await probed(url)).notMeasured[0]!.why;
  };
  assert.equal(await why(Buffer.from([21, 3, 1, 0, 2, 2, 22])), "the peer speaks TLS: use https://");
  assert.equal(await why(Buffer.from([0, 0, 18, 4, 0, 0, 0, 0, 0])), "the peer speaks HTTP/2 and no HTTP/1.1");
  assert.match(await why("HTTP/3.0 200 OK\r\n\r\n"), /status line/);
  assert.match(await why("HT"), /closed within the response/);

  const greeter = net.createServer((socket) => void socket.on("error", () => {}).write("220 mail ready\r\n"));
  await once(greeter.listen(0, "127.0.0.1"), "listening");
  t.after(() => greeter.close());
  const { port } = greeter.address() as AddressInfo;
  const { notMeasured } = await probed(`http://127.0.0.1:${port}/`, { timeoutMs: 2000 });
  // Before the request or after it, whichever is on the way.
  assert.match(notMeasured[0]!.why, /"220 mail ready"$/);
});

test("TLS that fails says what to do about it", async (t) => {
  const trusted = await authority("Holdfast tests");
  const pair = await trusted.issue({ name: "inventory", hosts: ["inventory.internal"] });
  const server = https.createServer(pair, (request, response) => response.end(request.headers.host));
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const url = `https://127.0.0.1:${port}/`;
  const [unknown] = (await probed(url)).notMeasured;
  const [other] = (await probed(url, { ca: trusted.cert })).notMeasured;
  assert.match(other!.why, /; give the name that stands in it with --host$/);
  const named = await probed(url, { ca: trusted.cert, maxWaitMs: 10 }, "inventory.internal:8443");
  assert.deepEqual(named.notMeasured, []);
  assert.equal(named.host, "inventory.internal:8443");
  assert.match(unknown!.why, /; give the authorities to trust with --ca$/);
  assert.doesNotMatch(unknown!.why, /Node\.js/);
  const plain = http.createServer();
  await once(plain.listen(0, "127.0.0.1"), "listening");
  t.after(() => plain.close());
  const [untold] = (await probed(`https://127.0.0.1:${(plain.address() as AddressInfo).port}/`)).notMeasured;
  assert.match(untold!.why, /wrong version number; where plain HTTP is spoken, use http:\/\/$/);
});

test("responses of every framing are read to their end", async (t) => {
  const bodies = [
    OK,
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
  ];
  for (const body of bodies) {
    const { url } = await rawOrigin(t, ({ socket }, head) => {
      socket.write(body);
      if (isToEnd(head)) socket.end();
    });
    const { keepAlive, requests } = await probed(url, { maxWaitMs: 20 });
    assert.equal(keepAlive.http11, "kept", body);
    assert.deepEqual(requests, { answered: 5, end: "not reached" });
  }
  const { url } = await rawOrigin(t, ({ socket }) => socket.end("HTTP/1.1 200 OK\r\n\r\nuntil the end"));
  assert.equal((await probed(url, { maxWaitMs: 20 })).keepAlive.http11, "closed");
});

test("only the method that was asked for is sent, and each turn of the pace carries one thing", async (t) => {
  const heads: string[] = [];
  const { url } = await rawOrigin(t, ({ socket }, head) => {
    heads.push(head);
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    if (isToEnd(head)) socket.end();
  });
  const pace = new Pace(1000);
  let turns = 0;
  const turn = pace.turn.bind(pace);
  pace.turn = (signal) => {
    turns++;
    return turn(signal);
  };
  await probed(`${url}/health?x=1`, { method: "HEAD", maxWaitMs: 20, pace });
  for (const head of heads) assert.match(head, /^HEAD \/health\?x=1 HTTP\/1\.[01]\r\nHost: 127\.0\.0\.1:\d+\r\n/);
  assert.ok(turns >= heads.length, `${turns} turns for ${heads.length} requests`);
});

test("stopping it gives what is known by then", async (t) => {
  const stop = new AbortController();
  const phases: Phase[] = [];
  const url = await habitual(t, {});
  const result = await probed(url, {
    signal: stop.signal,
    progress(phase) {
      phases.push(phase);
      if (phase.kind === "idle" && phase.open === 4) stop.abort();
    },
  });
  assert.equal(result.interrupted, true);
  assert.deepEqual(result.requests, { answered: 5, end: "not reached" });
  assert.equal(result.idle.afterRequest?.shortestMs, null);
  assert.equal(result.idle.afterRequest?.stillAnswers, null);
  assert.deepEqual(phases.at(-1), { kind: "done" });

  const before = AbortSignal.abort();
  const nothing = await probed(url, { signal: before });
  assert.deepEqual(nothing.notMeasured, [{ what: "everything", why: "interrupted" }]);
});

test("TLS: set-up time, version, and whether sessions are resumed", async (t) => {
  const trusted = await authority("Holdfast tests");
  const { cert, key } = await trusted.issue({ name: "localhost", hosts: ["localhost"] });
  for (const resumes of [true, false]) {
    const server = tls.createServer(
      // Without tickets TLS 1.2 sessions live in a store that is not there.
      resumes ? { cert, key } : { cert, key, maxVersion: "TLSv1.2", secureOptions: constants.SSL_OP_NO_TICKET },
      (socket) => {
        socket.on("error", () => {});
        socket.on("data", (bytes) => {
          socket.write(OK);
          if (isToEnd(bytes.toString("latin1"))) socket.end();
        });
      },
    );
    server.on("tlsClientError", () => {});
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    const { port } = server.address() as AddressInfo;
    const { setup } = await probed(`https://localhost:${port}/`, { ca: trusted.cert, maxWaitMs: 20 });
    assert.ok(setup !== null && setup.tlsMs !== null && setup.tlsMs > 0);
    assert.equal(setup.tlsResumes, resumes);
    assert.equal(setup.tlsResumedMs !== null, resumes);
    assert.equal(setup.tlsVersion, resumes ? "TLSv1.3" : "TLSv1.2");
    const untrusted = await probed(`https://localhost:${port}/`);
    assert.match(untrusted.notMeasured[0]!.why, /certificate of localhost:\d+ refused/);
  }
});

test("a hint that only who asks for it is given is found, and told apart", async (t) => {
  const { url } = await rawOrigin(t, ({ socket }, head) => {
    if (isToEnd(head)) socket.end(OK);
    else if (head.includes("Connection: keep-alive")) {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5, max=100\r\n\r\nok");
    } else socket.write(OK);
  });
  const { hint, hintTruth } = await probed(url, { maxWaitMs: 20 });
  assert.deepEqual(hint, { timeoutMs: 5000, maxRequests: 100, onlyWhenAsked: true });
  assert.deepEqual(hintTruth, { timeout: "unknown", maxRequests: "unknown" });
});
