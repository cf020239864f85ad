/**
 * What learning adds to each exchange: `npm run simulate:cost`. Rounds with and without alternate; CPU time only.
 *
 * @module
 */
import { Socket } from "node:net";
import { LearnedOrigin } from "../../src/learning/origin.ts";
import { likelyDelayMs, readClock } from "../../src/proxy/clock.ts";
import { ProxyConnection } from "../../src/proxy/connection.ts";

const EXCHANGES = 2_000_000;
const ROUNDS = 15;
const SETUP = {
  startedAtEpochMs: 0,
  dnsMs: undefined,
  connectMs: 1,
  tlsMs: undefined,
  tlsVersion: undefined,
  tlsResumed: undefined,
};

const origin = new LearnedOrigin(0);
const connections = Array.from({ length: 64 }, () => {
  const connection = new ProxyConnection({
    direction: "outbound",
    side: "upstream",
    socket: new Socket(),
    protocol: "http/1.1",
    setup: SETUP,
    idleTimeoutMs: 55_000,
  });
  connection.peer = origin.opened("10.0.0.9", 0.4, 0);
  return connection;
});
for (let at = 1; at <= 5; at++) origin.whole.closed({ openMs: 5000, closedMs: 5000.3, atMs: at * 60_000 });

/** What the pool, the exchange and the metrics ask and tell of one exchange, but for what they did before. */
function withLearning(): number {
  let refused = 0;
  for (let at = 0; at < EXCHANGES; at++) {
    const connection = connections[at & 63]!;
    const peer = connection.peer!;
    const idleMs = (at % 40) / 10;
    if (idleMs >= 20) refused++;
    if (idleMs >= connection.idleLimitMs) refused++;
    if (idleMs >= Math.min(connection.keepAlive.maxAgeMs, peer.leaveAfterAgeMs)) refused++;
    if (peer.isDoubtful(idleMs)) refused++;
    peer.survived(idleMs, 400_000);
    if (connection.exchanges >= peer.leaveAfterExchanges) refused++;
    if (connection.learned?.idleTimeoutMs === 1) refused++;
    readClock();
    // As while nothing is known of the peer; afterwards where its limit is short.
    connection.idleLateMs = likelyDelayMs();
  }
  return refused;
}

function without(): number {
  let refused = 0;
  for (let at = 0; at < EXCHANGES; at++) {
    const { keepAlive } = connections[at & 63]!;
    const idleMs = (at % 40) / 10;
    if (idleMs >= Math.min(keepAlive.idleTimeoutMs, keepAlive.agreedTimeoutMs)) refused++;
    if (idleMs >= keepAlive.maxAgeMs) refused++;
    readClock();
  }
  return refused;
}

function microseconds(run: () => number): number {
  const before = process.cpuUsage();
  if (run() > 0) throw new Error("a connection was refused");
  const { user, system } = process.cpuUsage(before);
  return (user + system) / EXCHANGES;
}

/** What an answer of {@link likelyDelayMs} costs that is not taken from the one before: with less than 2,000 exchanges a second. */
function asked(): number {
  let waitedMs = 0;
  for (let at = 0; at < EXCHANGES; at++) waitedMs += performance.nodeTiming.idleTime;
  return Math.min(0, waitedMs);
}

const differences = Array.from({ length: ROUNDS }, () => microseconds(withLearning) - microseconds(without));
differences.sort((one, other) => one - other);
console.log(
  `learning costs ${differences[ROUNDS >> 1]!.toFixed(3)} µs of CPU per exchange (median of ${ROUNDS} rounds)`,
);
const asking = Array.from({ length: 3 }, () => microseconds(asked)).sort((one, other) => one - other);
console.log(
  `and ${asking[1]!.toFixed(3)} µs more with less than 2,000 exchanges a second, as long as a limit is unknown or short`,
);
