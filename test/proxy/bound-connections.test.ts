/** Connections of a pool that a peer authenticated: whatever happens, each serves its own downstream connection alone. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo, Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { LearnedOrigin } from "../../src/learning/origin.ts";
import type { Exchange, ReusePolicy } from "../../src/plugin/api.ts";
import { Chain } from "../../src/plugin/chain.ts";
import { ProxyConnection } from "../../src/proxy/connection.ts";
import { type Asker, OriginPool, type Ticket } from "../../src/proxy/pool.ts";

const CHAIN = new Chain([], (failure) => {
  throw failure.error;
});
const SETUP = {
  startedAtEpochMs: 0,
  dnsMs: undefined,
  connectMs: undefined,
  tlsMs: undefined,
  tlsVersion: undefined,
  tlsResumed: undefined,
};

function downstream(): ProxyConnection {
  const options = {
    direction: "inbound",
    side: "downstream",
    protocol: "h2",
    setup: SETUP,
    idleTimeoutMs: 1e6,
  } as const;
  const connection = new ProxyConnection({ ...options, socket: new Socket() });
  connection.open(CHAIN);
  return connection;
}

async function acceptingPort(t: TestContext): Promise<number> {
  const sockets = new Set<Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket.on("error", () => {}));
    socket.resume();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

function poolOf(port: number): OriginPool {
  return new OriginPool({
    origin: { scheme: "http", host: "127.0.0.1", port },
    backend: undefined,
    tls: undefined,
    chain: CHAIN,
    connectTimeoutMs: 60_000,
    idleTimeoutMs: 1e6,
    direction: "inbound",
    learned: new LearnedOrigin(performance.now()),
    onOpen: () => {},
  });
}

/** An exchange as the pool sees it. */
class Visitor implements Asker {
  readonly owner: ProxyConnection;
  readonly first = false;
  readonly fresh: boolean;
  readonly repeatable: boolean;
  readonly tunnel = false;
  readonly makeReader = undefined;
  ticket: Ticket | undefined;
  got: ProxyConnection | undefined;
  answers = 0;

  constructor(owner: ProxyConnection, fresh = false, repeatable = true) {
    this.owner = owner;
    this.fresh = fresh;
    this.repeatable = repeatable;
  }

  acquired(connection: ProxyConnection): void {
    this.answers++;
    const { boundTo } = connection;
    assert.ok(boundTo === undefined || boundTo === this.owner, "handed to somebody else");
    assert.equal(connection.activeExchanges, 0, "handed out while in use");
    connection.begin({} as Exchange);
    this.got = connection;
  }

  notAcquired(): void {
    this.answers++;
  }
}

async function answered(visitor: Visitor): Promise<ProxyConnection> {
  while (visitor.answers === 0) await nextTurn();
  return visitor.got!;
}

function ask(pool: OriginPool, visitor: Visitor): Visitor {
  visitor.ticket = pool.acquire(visitor);
  return visitor;
}

test("exchanges of its downstream connection wait for it, in order, and nobody else gets it", async (t) => {
  const pool = poolOf(await acceptingPort(t));
  const [alice, bob] = [downstream(), downstream()];
  const first = ask(pool, new Visitor(alice));
  const bound = await answered(first);
  pool.bind(bound, alice);
  const second = ask(pool, new Visitor(alice));
  const third = ask(pool, new Visitor(alice));
  const other = await answered(ask(pool, new Visitor(bob)));
  assert.notEqual(other, bound);
  assert.equal(second.answers + third.answers, 0);
  bound.finish();
  assert.equal(second.got, bound);
  assert.equal(third.answers, 0);
  bound.finish();
  assert.equal(third.got, bound);
  bound.finish();
  assert.equal(pool.idle, 0, "it is nobody's to reuse");
  assert.equal(pool.connections, 2);
  pool.drain();
});

test("when it closes, whoever waited for it gets another", async (t) => {
  const pool = poolOf(await acceptingPort(t));
  const alice = downstream();
  const bound = await answered(ask(pool, new Visitor(alice)));
  pool.bind(bound, alice);
  const waiting = ask(pool, new Visitor(alice));
  bound.cut("peer_reset");
  bound.finish();
  assert.notEqual(await answered(waiting), bound);
  pool.drain();
});

test("one too many who wait for it are refused", async (t) => {
  const pool = poolOf(await acceptingPort(t));
  pool.maxQueue = 1;
  const alice = downstream();
  pool.bind(await answered(ask(pool, new Visitor(alice))), alice);
  const waiting = ask(pool, new Visitor(alice));
  const refused = ask(pool, new Visitor(alice));
  assert.equal(waiting.answers, 0);
  assert.equal(refused.answers, 1);
  assert.equal(refused.got, undefined);
  pool.drain();
});

type Step =
  | { readonly do: "ask"; readonly owner: number; readonly fresh: boolean; readonly repeatable: boolean }
  | { readonly do: "bind" | "leave" | "cut" | "cancel"; readonly at: number }
  | { readonly do: "close"; readonly owner: number }
  | { readonly do: "sweep" | "turn" };

const at = fc.nat(9);
const owner = fc.nat(3);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant("ask"), owner, fresh: fc.boolean(), repeatable: fc.boolean() }),
    },
    { weight: 10, arbitrary: fc.record({ do: fc.constantFrom("bind", "leave", "leave", "cut", "cancel"), at }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("close"), owner }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("sweep", "turn") }) },
  ) as fc.Arbitrary<Step>,
  { maxLength: 40 },
);

test("whatever happens, a bound connection serves its owner alone, closes with it, and nobody waits for ever", async (t) => {
  const port = await acceptingPort(t);
  const policies = fc.constantFrom<ReusePolicy>("never", "safe", "aggressive", "always");
  const property = fc.asyncProperty(
    steps,
    policies,
    fc.integer({ min: 1, max: 4 }),
    async (run, reuse, maxConnections) => {
      const pool = poolOf(port);
      Object.assign(pool, { reuse, maxConnections, queueTimeoutMs: Number.POSITIVE_INFINITY });
      const owners = Array.from({ length: 4 }, downstream);
      const inside = new Set<Visitor>();
      const holding = (): Visitor[] => [...inside].filter(({ got }) => got !== undefined);
      const pick = (visitors: Visitor[], index: number): Visitor | undefined => visitors[index % visitors.length];
      const leave = (visitor: Visitor, cut: boolean): void => {
        inside.delete(visitor);
        if (cut) visitor.got!.cut("aborted");
        visitor.got!.finish();
      };

      for (const step of run) {
        switch (step.do) {
          case "ask": {
            const by = owners[step.owner]!;
            if (by.state !== "closed") inside.add(ask(pool, new Visitor(by, step.fresh, step.repeatable)));
            break;
          }
          case "bind": {
            const visitor = pick(holding(), step.at);
            if (visitor !== undefined) pool.bind(visitor.got!, visitor.owner);
            break;
          }
          case "leave":
          case "cut": {
            const visitor = pick(holding(), step.at);
            if (visitor !== undefined) leave(visitor, step.do === "cut");
            break;
          }
          case "cancel": {
            const visitor = pick(
              [...inside].filter(({ answers }) => answers === 0),
              step.at,
            );
            visitor?.ticket?.cancel();
            if (visitor !== undefined) inside.delete(visitor);
            break;
          }
          case "close": {
            const closing = owners[step.owner]!;
            // Its exchanges end with it.
            for (const visitor of [...inside].filter((visitor) => visitor.owner === closing)) {
              if (visitor.got !== undefined) leave(visitor, true);
              else visitor.ticket?.cancel();
              inside.delete(visitor);
            }
            closing.cut("aborted");
            while (closing.state !== "closed") await nextTurn();
            break;
          }
          case "sweep":
            pool.sweep(performance.now());
            break;
          case "turn":
            await nextTurn();
            break;
        }
        assert.ok(pool.connections <= maxConnections);
        for (const connection of pool.open) {
          if (connection.boundTo?.state !== "closed") continue;
          assert.ok(connection.state === "draining" || connection.state === "closed", "it outlives its owner");
        }
      }
      // Everybody is served as the others leave.
      while (inside.size > 0) {
        for (const visitor of holding()) leave(visitor, false);
        for (const visitor of inside) if (visitor.answers > 0 && visitor.got === undefined) inside.delete(visitor);
        await nextTurn();
      }
      pool.drain();
      while (pool.connections > 0) await nextTurn();
    },
  );
  await fc.assert(property, { numRuns: 150 });
});
