import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo, Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import type { HoldfastError } from "../../src/errors.ts";
import { LearnedOrigin } from "../../src/learning/origin.ts";
import type { CloseReason, Exchange, ReusePolicy } from "../../src/plugin/api.ts";
import { Chain } from "../../src/plugin/chain.ts";
import { readClock } from "../../src/proxy/clock.ts";
import { ProxyConnection } from "../../src/proxy/connection.ts";
import { type Asker, OriginPool, type Ticket } from "../../src/proxy/pool.ts";

const SETUP = {
  startedAtEpochMs: 0,
  dnsMs: undefined,
  connectMs: undefined,
  tlsMs: undefined,
  tlsVersion: undefined,
  tlsResumed: undefined,
};

function downstream(): ProxyConnection {
  return new ProxyConnection({
    direction: "outbound",
    side: "downstream",
    socket: new Socket(),
    protocol: "http/1.1",
    setup: SETUP,
    idleTimeoutMs: 1000,
  });
}

/** A loopback origin that only accepts; `socketOf` finds the far end of one of our connections. */
interface Origin {
  readonly port: number;
  readonly sockets: ReadonlySet<Socket>;
  socketOf(connection: ProxyConnection): Socket;
}

async function origin(t: TestContext): Promise<Origin> {
  const sockets = new Set<Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.resume();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    socketOf: (connection) => [...sockets].find((socket) => socket.remotePort === connection.localPort)!,
  };
}

/** Someone who asks the pool, and what they got. */
class Visitor implements Asker {
  readonly owner: ProxyConnection;
  readonly first: boolean;
  readonly fresh: boolean;
  readonly repeatable: boolean;
  readonly tunnel = false;
  readonly makeReader = undefined;
  ticket: Ticket | undefined;
  got: ProxyConnection | undefined;
  idleMs = 0;
  queuedMs = 0;
  refused: HoldfastError | undefined;
  answers = 0;

  constructor(options: { owner?: ProxyConnection; first?: boolean; fresh?: boolean; repeatable?: boolean } = {}) {
    this.owner = options.owner ?? downstream();
    this.first = options.first ?? false;
    this.fresh = options.fresh ?? false;
    this.repeatable = options.repeatable ?? true;
  }

  acquired(connection: ProxyConnection, idleMs: number, queuedMs: number): void {
    this.answers++;
    assert.equal(connection.activeExchanges, 0, "a connection was handed out while it was in use");
    assert.equal(connection.state, "idle");
    connection.begin({} as Exchange);
    this.got = connection;
    this.idleMs = idleMs;
    this.queuedMs = queuedMs;
  }

  notAcquired(error: HoldfastError): void {
    this.answers++;
    this.refused = error;
  }
}

/** A pool with the visits made to it. */
class Scene {
  readonly pool: OriginPool;
  readonly reasons: CloseReason[] = [];
  readonly inside = new Set<Visitor>();

  constructor(port: number, host = "127.0.0.1") {
    const seen = { connection: () => ({ close: (reason: CloseReason) => void this.reasons.push(reason) }) };
    this.pool = new OriginPool({
      origin: { scheme: "http", host, port },
      backend: undefined,
      tls: undefined,
      chain: new Chain([{ name: "seen", filter: seen, onError: "continue", requestTimeoutMs: 0 }], (failure) => {
        throw failure.error;
      }),
      connectTimeoutMs: 5000,
      idleTimeoutMs: 60_000,
      direction: "outbound",
      learned: new LearnedOrigin(performance.now()),
      onOpen: () => {},
    });
  }

  ask(visitor: Visitor): Visitor {
    this.inside.add(visitor);
    visitor.ticket = this.pool.acquire(visitor);
    return visitor;
  }

  leave(visitor: Visitor): void {
    this.inside.delete(visitor);
    visitor.got!.finish();
  }

  /** Those who hold a connection that is still open. */
  get active(): Visitor[] {
    return [...this.inside].filter(({ got }) => got !== undefined && got.state !== "closed");
  }

  get unanswered(): Visitor[] {
    return [...this.inside].filter(({ answers }) => answers === 0);
  }

  /** Resolves once nothing is opening or closing. */
  async quiet(): Promise<void> {
    for (;;) {
      await nextTurn();
      const { connections, idle, queued } = this.pool;
      if (connections === this.active.length + idle && this.unanswered.length === queued) return;
    }
  }

  async visit(options: ConstructorParameters<typeof Visitor>[0] = {}): Promise<Visitor> {
    const visitor = this.ask(new Visitor(options));
    await this.quiet();
    return visitor;
  }
}

test("the connection that became idle last is taken first", async (t) => {
  const scene = new Scene((await origin(t)).port);
  const [a, b, c] = [await scene.visit(), await scene.visit(), await scene.visit()];
  for (const visitor of [b, a, c]) scene.leave(visitor);
  assert.equal(scene.pool.idle, 3);
  const taken = [await scene.visit(), await scene.visit(), await scene.visit()];
  assert.deepEqual(
    taken.map(({ got }) => got),
    [c.got, a.got, b.got],
  );
  assert.equal(scene.pool.connections, 3);
});

test("an idle connection that the upstream ends, resets or writes to leaves the pool at once", async (t) => {
  const far = await origin(t);
  const scene = new Scene(far.port);
  const expected: CloseReason[] = ["peer_closed", "peer_reset", "protocol_error"];
  for (const [round, act] of [
    (socket: Socket) => socket.end(),
    (socket: Socket) => socket.resetAndDestroy(),
    (socket: Socket) => socket.write("x"),
  ].entries()) {
    const visitor = await scene.visit();
    scene.leave(visitor);
    assert.equal(scene.pool.idle, 1);
    act(far.socketOf(visitor.got!));
    while (visitor.got!.state === "idle") await nextTurn();
    assert.equal(scene.pool.idle, 0);
    assert.equal(visitor.got!.closeReason, expected[round]);
    await scene.quiet();
  }
  assert.deepEqual(scene.reasons, expected);
  assert.equal(scene.pool.connections, 0);
});

test("keeps as many idle connections as are needed, within bounds, when it is told to size itself", async (t) => {
  const scene = new Scene((await origin(t)).port);
  const { pool } = scene;
  pool.autoIdle = { least: 2, most: 8 };
  const burst = Array.from({ length: 10 }, () => scene.ask(new Visitor()));
  await scene.quiet();
  for (const visitor of burst) scene.leave(visitor);
  await scene.quiet();
  assert.equal(pool.idle, 8, "the most, as long as nothing is known");
  for (let exchange = 0; exchange < 4000; exchange++) scene.leave(scene.ask(new Visitor()));
  assert.equal(pool.advice?.enough.kept, 1);
  assert.equal(pool.advice.peakBusy, 10);
  assert.ok(pool.advice.setupMs! > 0);
  pool.sweep(performance.now());
  assert.deepEqual([pool.idle, pool.idleKept], [2, 2], "the least, though one would do");
  await scene.quiet();
  assert.deepEqual(scene.reasons, new Array(8).fill("limit"));
  pool.maxIdle = 1;
  assert.equal(pool.idleKept, 1, "a limit holds for the size too");
  pool.autoIdle = undefined;
  pool.maxIdle = Number.POSITIVE_INFINITY;
  assert.equal(pool.idleKept, Number.POSITIVE_INFINITY);
});

test("only exchanges that could use any idle connection say how many to keep", async (t) => {
  const scene = new Scene((await origin(t)).port);
  for (let exchange = 0; exchange < 220; exchange++) {
    const retry = await scene.visit({ fresh: true });
    retry.got!.drain("max_requests");
    scene.leave(retry);
  }
  assert.equal(scene.pool.advice, undefined);
  const cut = await scene.visit();
  cut.got!.cut("aborted");
  await scene.quiet();
  for (let exchange = 0; exchange < 250; exchange++) scene.leave(await scene.visit());
  const { enough, peakBusy, unavoidableShare } = scene.pool.advice!;
  assert.deepEqual([enough.kept, peakBusy], [1, 1]);
  assert.equal(unavoidableShare, 2 / 251, "one was cut, and the next found nothing");

  const owner = downstream();
  const bound = scene.ask(new Visitor({ owner }));
  scene.pool.bind(bound.got!, owner);
  scene.leave(bound);
  for (let exchange = 0; exchange < 250; exchange++) scene.leave(scene.ask(new Visitor({ owner })));
  assert.equal(scene.pool.advice!.unavoidableShare, 2 / 252);
});

test("idle limit, age and drained connections are not handed out", async (t) => {
  const scene = new Scene((await origin(t)).port);
  const spoil: Record<string, (connection: ProxyConnection) => void> = {
    idle_timeout: ({ keepAlive }) => Object.assign(keepAlive, { idleTimeoutMs: 0 }),
    max_age: ({ keepAlive }) => Object.assign(keepAlive, { maxAgeMs: 0 }),
    max_requests: ({ keepAlive }) => Object.assign(keepAlive, { maxRequests: 1 }),
    logout: (connection) => connection.drain("logout"),
  };
  for (const act of Object.values(spoil)) {
    const visitor = await scene.visit();
    scene.leave(visitor);
    act(visitor.got!);
    const next = await scene.visit();
    assert.notEqual(next.got, visitor.got);
    scene.leave(next);
    next.got!.drain("drain");
    await scene.quiet();
  }
  assert.deepEqual(
    scene.reasons.filter((reason) => reason !== "drain"),
    Object.keys(spoil),
  );
});

test("the sweep closes what is idle for too long, too old, or one too many", async (t) => {
  const scene = new Scene((await origin(t)).port);
  const visitors = [await scene.visit(), await scene.visit(), await scene.visit(), await scene.visit()];
  for (const visitor of visitors) scene.leave(visitor);
  visitors[0]!.got!.keepAlive.agreedTimeoutMs = 1000;
  visitors[1]!.got!.keepAlive.maxAgeMs = 2000;
  scene.pool.maxIdle = 1;
  scene.pool.sweep(visitors[0]!.got!.openedAtMs + 2500);
  assert.equal(scene.pool.idle, 1);
  await scene.quiet();
  assert.deepEqual([...scene.reasons].sort(), ["idle_timeout", "limit", "max_age"]);
  assert.equal(visitors[3]!.got!.state, "idle");
});

test("what must not be sent twice gets no connection whose close has come but was not read yet", async (t) => {
  const peer = await origin(t);
  const scene = new Scene(peer.port);
  const first = await scene.visit();
  scene.leave(first);
  await sleep(25);
  readClock();
  peer.socketOf(first.got!).destroy();
  const second = scene.ask(new Visitor({ repeatable: false }));
  assert.equal(second.answers, 0, "not before the event loop has looked");
  await scene.quiet();
  assert.notEqual(second.got, first.got);
  assert.equal(second.got!.exchanges, 1);
});

test("of idle times that nothing is known of, what must not be sent twice tries one at a time", async (t) => {
  const scene = new Scene((await origin(t)).port);
  const first = await scene.visit();
  const other = await scene.visit();
  scene.leave(first);
  scene.leave(other);
  await sleep(25);
  readClock();
  const tried = await scene.visit({ repeatable: false });
  readClock();
  const fresh = await scene.visit({ repeatable: false });
  assert.deepEqual([tried.got!.exchanges, fresh.got!.exchanges], [2, 1]);
  const repeatable = await scene.visit();
  assert.equal(repeatable.got!.exchanges, 2);
});

test("whoever goes while the event loop looks gets nothing", async (t) => {
  const scene = new Scene((await origin(t)).port);
  const first = await scene.visit();
  scene.leave(first);
  await sleep(25);
  readClock();
  const second = new Visitor({ repeatable: false });
  second.ticket = scene.pool.acquire(second);
  second.ticket!.cancel();
  await nextTurn();
  await nextTurn();
  assert.equal(second.answers, 0);
  assert.equal(scene.pool.idle, 1);
});

const POLICIES: Record<ReusePolicy, { first: boolean; reused: boolean; other: boolean }> = {
  // Whether a first request may use a connection that carried one exchange, one that was reused before, and whether
  // a later request may use somebody else's.
  never: { first: false, reused: false, other: false },
  safe: { first: false, reused: false, other: true },
  aggressive: { first: false, reused: true, other: true },
  always: { first: true, reused: true, other: true },
};

for (const [policy, may] of Object.entries(POLICIES)) {
  test(`reuse policy ${policy}`, async (t) => {
    const scene = new Scene((await origin(t)).port);
    scene.pool.reuse = policy as ReusePolicy;
    const mine = downstream();
    const one = await scene.visit({ owner: mine, first: true });
    scene.leave(one);

    const first = await scene.visit({ first: true });
    assert.equal(first.got === one.got, may.first);
    scene.leave(first);
    first.got!.drain("drain");
    await scene.quiet();

    const again = await scene.visit({ owner: mine, first: true });
    scene.leave(again);
    const own = await scene.visit({ owner: mine });
    assert.equal(own.got, again.got, "every policy lets a caller use its own again");
    scene.leave(own);

    const reused = await scene.visit({ first: true });
    assert.equal(reused.got === own.got, may.reused);
    scene.leave(reused);
    if (reused.got !== own.got) {
      reused.got!.drain("drain");
      await scene.quiet();
    }

    const other = await scene.visit();
    assert.equal(other.got === own.got, may.other);
  });
}

test("a retry gets a fresh connection even where an idle one could be used", async (t) => {
  const scene = new Scene((await origin(t)).port);
  const visitor = await scene.visit();
  scene.leave(visitor);
  const retry = await scene.visit({ fresh: true });
  assert.notEqual(retry.got, visitor.got);
  assert.equal(retry.idleMs, 0);
});

test("a full pool queues, in order; a full queue refuses", async (t) => {
  const scene = new Scene((await origin(t)).port);
  scene.pool.maxConnections = 1;
  scene.pool.maxQueue = 2;
  const busy = await scene.visit();
  const [second, third, fourth] = [await scene.visit(), await scene.visit(), await scene.visit()];
  assert.equal(scene.pool.queued, 2);
  assert.equal(fourth.refused?.code, "HF_QUEUE_FULL");
  assert.equal(fourth.refused?.status, 503);
  scene.leave(busy);
  assert.equal(second.got, busy.got);
  assert.equal(third.got, undefined);
  scene.leave(second);
  assert.equal(third.got, busy.got);
  assert.ok(third.queuedMs >= second.queuedMs);
  assert.equal(scene.pool.queued, 0);
});

test("waiting ends after queueTimeoutMs, for those who waited so long", async (t) => {
  const scene = new Scene((await origin(t)).port);
  scene.pool.maxConnections = 1;
  scene.pool.queueTimeoutMs = 1000;
  const busy = await scene.visit();
  const waiting = await scene.visit();
  scene.pool.sweep(waiting.ticket!.askedAtMs + 999);
  assert.equal(waiting.answers, 0);
  scene.pool.sweep(waiting.ticket!.askedAtMs + 1001);
  assert.equal(waiting.refused?.code, "HF_QUEUE_TIMEOUT");
  assert.equal(scene.pool.queued, 0);
  scene.leave(busy);
  assert.equal(scene.pool.idle, 1);
});

test("who cancels is passed over, while waiting and while a connection opens", async (t) => {
  const scene = new Scene((await origin(t)).port);
  scene.pool.maxConnections = 1;
  const opener = scene.ask(new Visitor());
  opener.ticket!.cancel();
  scene.inside.delete(opener);
  await scene.quiet();
  assert.equal(opener.answers, 0);
  assert.equal(scene.pool.idle, 1);

  const busy = await scene.visit({ first: true });
  const [gone, next] = [await scene.visit(), await scene.visit()];
  gone.ticket!.cancel();
  scene.inside.delete(gone);
  assert.equal(scene.pool.queued, 1);
  scene.leave(busy);
  assert.equal(gone.answers, 0);
  assert.equal(next.got, busy.got);
});

test("for a fresh connection in a full pool an idle one is given up, and no more than wait", async (t) => {
  const scene = new Scene((await origin(t)).port);
  scene.pool.maxConnections = 3;
  const visitors = [await scene.visit(), await scene.visit(), await scene.visit()];
  for (const visitor of visitors) scene.leave(visitor);
  const retry = scene.ask(new Visitor({ fresh: true }));
  scene.pool.sweep(performance.now());
  scene.pool.sweep(performance.now());
  await scene.quiet();
  assert.ok(retry.got !== undefined);
  assert.equal(scene.pool.idle, 2);
  assert.equal(visitors[0]!.got!.closeReason, "limit");
});

test("a connection that cannot be opened is shown as connect_failed, and the next in the queue is tried", async (t) => {
  const far = await origin(t);
  const server = net.createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  assert.notEqual(port, far.port);
  const scene = new Scene(port);
  scene.pool.maxConnections = 1;
  const [one, two] = [scene.ask(new Visitor()), scene.ask(new Visitor())];
  await scene.quiet();
  assert.equal(one.refused?.code, "HF_UPSTREAM_REFUSED");
  assert.equal(two.refused?.code, "HF_UPSTREAM_REFUSED");
  assert.deepEqual(scene.reasons, ["connect_failed", "connect_failed"]);
  assert.equal(scene.pool.connections, 0);
});

test("a raised limit serves who waits", async (t) => {
  const scene = new Scene((await origin(t)).port);
  scene.pool.maxConnections = 1;
  await scene.visit();
  const waiting = await scene.visit();
  scene.pool.maxConnections = 2;
  scene.pool.sweep(performance.now());
  await scene.quiet();
  assert.ok(waiting.got !== undefined);
});

test("a drained pool closes what is idle now and what is busy later", async (t) => {
  const scene = new Scene((await origin(t)).port);
  const [idle, busy] = [await scene.visit(), await scene.visit()];
  scene.leave(idle);
  scene.pool.drain();
  await scene.quiet();
  assert.deepEqual(scene.reasons, ["drain"]);
  assert.equal(busy.got!.state, "draining");
  scene.leave(busy);
  await scene.quiet();
  assert.deepEqual(scene.reasons, ["drain", "drain"]);
  assert.equal(scene.pool.connections, 0);
});

/** One thing that happens to a pool. `at` picks among those it could happen to. */
type Step =
  | { readonly do: "ask"; readonly first: boolean; readonly fresh: boolean; readonly owner: number }
  | { readonly do: "leave" | "cut" | "drainActive" | "cancel" | "end" | "reset" | "write"; readonly at: number }
  | { readonly do: "sweep" };

const at = fc.nat({ max: 9 });
const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant("ask" as const), first: fc.boolean(), fresh: fc.boolean(), owner: at }),
    },
    { weight: 5, arbitrary: fc.record({ do: fc.constant("leave" as const), at }) },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constantFrom(
          "cut" as const,
          "drainActive" as const,
          "cancel" as const,
          "end" as const,
          "reset" as const,
          "write" as const,
        ),
        at,
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("sweep" as const) }) },
  ),
  { minLength: 1, maxLength: 40 },
);

test("whatever happens, limits hold, nobody is forgotten and no connection serves two", async (t) => {
  const far = await origin(t);
  await fc.assert(
    fc.asyncProperty(
      steps,
      fc.constantFrom<ReusePolicy>("never", "safe", "aggressive", "always"),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 0, max: 3 }),
      fc.integer({ min: 0, max: 4 }),
      fc.boolean(),
      async (run, reuse, maxConnections, maxIdle, maxQueue, settleEachTime) => {
        const scene = new Scene(far.port);
        const { pool } = scene;
        Object.assign(pool, { reuse, maxConnections, maxIdle, maxQueue, queueTimeoutMs: Number.POSITIVE_INFINITY });
        const owners = Array.from({ length: 3 }, downstream);
        const idle: ProxyConnection[] = [];

        const check = (): void => {
          assert.ok(pool.connections >= 0 && pool.connections <= maxConnections);
          assert.ok(pool.idle >= 0 && pool.idle <= maxIdle);
          assert.ok(pool.queued >= 0 && pool.queued <= maxQueue);
          const held = scene.active.map(({ got }) => got);
          assert.equal(new Set(held).size, held.length, "a connection serves two");
          for (const visitor of scene.inside) assert.ok(visitor.answers <= 1);
        };

        for (const step of run) {
          await perform(step);
          check();
          if (!settleEachTime) continue;
          await scene.quiet();
          check();
          assert.ok(far.sockets.size <= maxConnections + 1, "the limit holds on the wire");
          if (pool.queued > 0) {
            assert.equal(pool.connections, maxConnections, "somebody waits although there is room");
            assert.equal(pool.idle, 0, "somebody waits although a connection is idle");
          }
        }
        while (scene.inside.size > 0) {
          await scene.quiet();
          check();
          for (const visitor of scene.inside) {
            if (visitor.got !== undefined) scene.leave(visitor);
            else if (visitor.refused !== undefined) scene.inside.delete(visitor);
          }
        }
        await scene.quiet();
        assert.equal(pool.queued, 0);
        pool.drain();
        await scene.quiet();
        assert.equal(pool.connections, 0);

        async function perform(step: Step): Promise<void> {
          switch (step.do) {
            case "ask": {
              const owner = owners[step.owner % owners.length]!;
              const before = idle.filter(({ state }) => state === "idle");
              const visitor = scene.ask(new Visitor({ owner, first: step.first, fresh: step.fresh }));
              if (reuse === "always" && !step.fresh && visitor.got !== undefined) {
                assert.equal(visitor.got, before.at(-1), "not the one that became idle last");
              }
              if (step.fresh) assert.ok(visitor.got === undefined, "a fresh connection takes time to open");
              if (visitor.got !== undefined) assert.ok(visitor.got.exchanges > 1 || !idle.includes(visitor.got));
              break;
            }
            case "leave": {
              const visitor = pick(scene.active, step.at);
              if (visitor === undefined) return;
              const connection = visitor.got!;
              scene.leave(visitor);
              if (connection.state === "idle") idle.push(...idle.splice(0).filter((c) => c !== connection), connection);
              break;
            }
            case "cut": {
              const visitor = pick(scene.active, step.at);
              if (visitor === undefined) return;
              visitor.got!.cut("aborted");
              scene.leave(visitor);
              break;
            }
            case "drainActive":
              pick(scene.active, step.at)?.got?.drain("logout");
              break;
            case "cancel": {
              const visitor = pick(scene.unanswered, step.at);
              if (visitor === undefined) return;
              visitor.ticket!.cancel();
              scene.inside.delete(visitor);
              break;
            }
            case "sweep":
              pool.sweep(performance.now());
              break;
            case "end":
            case "reset":
            case "write": {
              const sockets = idle
                .filter(({ state }) => state === "idle")
                .map((connection) => far.socketOf(connection));
              const socket = pick(sockets, step.at);
              if (step.do === "end") socket?.end();
              else if (step.do === "reset") socket?.resetAndDestroy();
              else socket?.write("x");
              // In flight for as long as the next steps like: the race is the point.
              break;
            }
          }
        }
      },
    ),
    { numRuns: 1500 },
  );
});

function pick<T>(among: readonly T[], at: number): T | undefined {
  return among[at % among.length];
}
