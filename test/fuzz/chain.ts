/** One chain: callers → Holdfast → an origin; conversations are had through it and then accounted for. */
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { startTestSidecar, type TestSidecar } from "../../src/testing.ts";
import { type Conversation, markerTarget } from "./inputs.ts";
import { type Entry, Ledger } from "./ledger.ts";
import { type FuzzOrigin, ORIGINS, type OriginName, SAW, type Seen } from "./origins.ts";

/** What must not be. */
export interface Fault {
  readonly what: string;
  /** Of the conversation, if that is known. */
  readonly seed: number | undefined;
}

/** What some conversations came to. */
export interface Account {
  /** Requests that Holdfast took or refused; what followed a refusal was not looked at. */
  readonly inputs: number;
  readonly forwarded: number;
  readonly refused: number;
  readonly markers: number;
  readonly faults: readonly Fault[];
}

/** Conversations at one time. */
const LANES = 64;
/**
 * How long nothing must have come before our side of a connection ends, in milliseconds: node:http, which reads for
 * http-proxy-3, takes that end for an abort. Ended too early, a conversation shows less, never something wrong.
 */
const QUIET_MS = 300;
/** When something is stuck, in milliseconds. */
const STUCK_MS = 15_000;
/** Addresses to call from, so that their ports do not run out; other systems than Linux have but one. */
const ADDRESSES =
  process.platform === "linux" ? Array.from({ length: 200 }, (_, index) => `127.0.1.${index + 1}`) : ["127.0.0.1"];

let calls = 0;

/** A chain that is running. */
export class Chain {
  static async start(forwarder: ForwarderName, originName: OriginName): Promise<Chain> {
    const origin = await ORIGINS[originName]();
    const ledger = new Ledger();
    const sidecar = await startTestSidecar({
      upstream: origin.url,
      plugins: [{ plugin: ledger.plugin }],
      config: { forwarder, log: { level: "error", access: false } },
    });
    return new Chain(forwarder, origin, ledger, sidecar);
  }

  readonly forwarder: ForwarderName;
  readonly #origin: FuzzOrigin;
  readonly #ledger: Ledger;
  readonly #sidecar: TestSidecar;
  readonly #port: number;
  /** Exchanges before the last account: what an origin notices late may be of one of them. */
  #before = new Map<string, Entry>();

  private constructor(forwarder: ForwarderName, origin: FuzzOrigin, ledger: Ledger, sidecar: TestSidecar) {
    this.forwarder = forwarder;
    this.#origin = origin;
    this.#ledger = ledger;
    this.#sidecar = sidecar;
    this.#port = Number(new URL(sidecar.inbound).port);
  }

  get name(): string {
    return `${this.forwarder} → ${this.#origin.name}`;
  }

  async close(): Promise<void> {
    await this.#sidecar.stop();
    await this.#origin.close();
  }

  /** Has the conversations, and looks at what the origin saw of them. */
  async run(conversations: readonly Conversation[]): Promise<Account> {
    const faults: Fault[] = [];
    const said = new Map<number, Said>();
    let next = 0;
    const lane = async (): Promise<void> => {
      const witness = new Witness(this.#port);
      for (;;) {
        // One fault that makes everything wait is enough to look into.
        const conversation = faults.length > 0 ? undefined : conversations[next++];
        if (conversation === undefined) break;
        const { seed } = conversation;
        // The wire forwarder answers whoever has ended its side, too.
        const quietMs =
          this.forwarder === "wire" && seed % 2 === 0 ? 0 : conversation.answered === undefined ? QUIET_MS : STUCK_MS;
        const { peer, received, stuck } = await converse(this.#port, conversation, quietMs);
        const connection = this.#ledger.connectionFrom(peer);
        if (connection !== undefined) said.set(connection, { ...conversation, received });
        if (stuck) {
          const what = `nothing moves any more; ${this.#ledger.describe(connection)}; received ${JSON.stringify(received)}`;
          faults.push({ what, seed });
        }
        // The next request on whatever connection to the origin was left behind.
        const answer = await witness.ask(seed);
        if (answer !== undefined) faults.push({ what: `the request after it: ${answer}`, seed });
      }
      witness.close();
    };
    await Promise.all(Array.from({ length: Math.min(LANES, conversations.length) }, lane));
    // Whatever is wrong already is not waited for.
    const patience = faults.length > 0 ? 200 : STUCK_MS;
    for (let waited = 0; this.#ledger.open > 0; waited++) {
      if (waited > patience) {
        faults.push({ what: `${this.#ledger.open} exchanges never end`, seed: undefined });
        break;
      }
      await sleep(1);
    }
    const entries = this.#ledger.take();
    const seedOf = (entry: Entry | undefined): number | undefined => said.get(entry?.connection ?? 0)?.seed;
    const { seen, logged } = await this.#collect(entries, Math.min(patience, 5000));
    const known = new Map([...this.#before, ...entries]);
    this.#before = entries;
    for (const { what, entry } of judge(known, entries, seen, logged)) faults.push({ what, seed: seedOf(entry) });
    return { ...count(entries, said, faults), faults };
  }

  /** Waits for what the origin must have seen by now. */
  async #collect(
    entries: ReadonlyMap<string, Entry>,
    patience: number,
  ): Promise<{ seen: Seen; logged: string[] | undefined }> {
    const seen: Seen = { sightings: [], refused: 0, faults: [] };
    const logged: string[] = [];
    const awaited = new Set<string>();
    const isLogged = this.#origin.takeLogged !== undefined;
    const awaitedLogs = new Set<string>();
    for (const { mark, answers } of entries.values()) {
      if (answers.length === 0) continue;
      awaited.add(mark);
      if (isLogged) awaitedLogs.add(mark);
    }
    for (let waited = 0; ; waited++) {
      const { sightings, refused, faults } = this.#origin.take();
      seen.sightings.push(...sightings);
      seen.refused += refused;
      seen.faults.push(...faults);
      for (const { mark } of sightings) awaited.delete(mark);
      const lines = this.#origin.takeLogged?.() ?? [];
      logged.push(...lines);
      for (const line of lines) awaitedLogs.delete(line);
      // What is missing then, is missing.
      if ((awaited.size === 0 && awaitedLogs.size === 0) || waited > patience) break;
      await sleep(1);
    }
    return { seen, logged: isLogged ? logged : undefined };
  }
}

/** Compares what was forwarded with what was seen. */
function* judge(
  known: ReadonlyMap<string, Entry>,
  entries: ReadonlyMap<string, Entry>,
  seen: Seen,
  logged: readonly string[] | undefined,
): Generator<{ what: string; entry: Entry | undefined }> {
  const times = new Map<string, number>();
  const whole = new Set<string>();
  for (const fault of seen.faults) yield { what: `the origin got what is not a request: ${fault}`, entry: undefined };
  for (const sighting of seen.sightings) {
    const { mark, method, target, bodyBytes, complete } = sighting;
    const entry = known.get(mark);
    const shown = JSON.stringify(sighting);
    if (entry === undefined) {
      yield { what: `the origin saw a request that was not forwarded: ${shown}`, entry };
      continue;
    }
    times.set(mark, (times.get(mark) ?? 0) + 1);
    if (times.get(mark)! > entry.attempts) yield { what: `seen more often than sent: ${shown}`, entry };
    if (entry.method !== method || entry.target !== target) {
      yield { what: `${entry.method} ${entry.target} was seen as ${shown}`, entry };
    }
    if (!complete) continue;
    whole.add(mark);
    const { outcome } = entry;
    if (outcome?.error?.code === "HF_BAD_FRAMING") yield { what: `an invalid body was seen whole: ${shown}`, entry };
    if (outcome?.requestBytes !== bodyBytes) {
      yield { what: `a body of ${outcome?.requestBytes} bytes was seen with ${bodyBytes}: ${shown}`, entry };
    }
  }
  // Whose beginning the origin may not have been able to read: it answered none of ours.
  let unread = 0;
  for (const entry of entries.values()) {
    const { mark, attempts, answers } = entry;
    for (const answer of answers) {
      if (answer !== mark) yield { what: `${mark} got the response to ${answer}`, entry };
    }
    if (answers.length > 0 && !whole.has(mark)) yield { what: `${mark} was answered and not seen whole`, entry };
    if (attempts > 0 && answers.length === 0) unread++;
  }
  if (seen.refused > unread) {
    yield { what: `the origin refused ${seen.refused} requests of which only ${unread} were sent`, entry: undefined };
  }
  if (logged === undefined) return;
  const unnamed = logged.filter((mark) => mark === "").length;
  if (unnamed > unread) yield { what: `the origin logged ${unnamed} requests too many`, entry: undefined };
  const lines = new Map<string, number>();
  for (const mark of logged) {
    if (mark === "") continue;
    const entry = known.get(mark);
    lines.set(mark, (lines.get(mark) ?? 0) + 1);
    if (entry === undefined) yield { what: `the origin logged ${mark}, which was not forwarded`, entry };
    else if (lines.get(mark)! > entry.attempts) yield { what: `the origin logged ${mark} more often than sent`, entry };
  }
}

function count(
  entries: ReadonlyMap<string, Entry>,
  said: ReadonlyMap<number, Said>,
  faults: Fault[],
): Omit<Account, "faults"> {
  const byConnection = Map.groupBy(entries.values(), ({ connection }) => connection);
  let inputs = 0;
  let forwarded = 0;
  let refused = 0;
  let markers = 0;
  for (const [connection, { seed, answered: all, received }] of said) {
    const exchanges = byConnection.get(connection) ?? [];
    // In the order of the exchanges, each at most once; the last may be cut off.
    const marks = Array.from(received.matchAll(new RegExp(`^${SAW}: (\\S*)\r$`, "gim")), ([, mark]) => mark);
    const expected = exchanges.filter(({ answers }) => answers.length > 0).map(({ mark }) => mark);
    if (marks.some((mark, index) => mark !== expected[index])) {
      faults.push({ what: `answered ${marks.join(" ")} instead of ${expected.join(" ")}`, seed });
    }
    if (all !== undefined && marks.length !== all) {
      faults.push({ what: `${all} requests that nothing is wrong with got ${marks.length} answers`, seed });
    }
    const marked = exchanges.some(({ target }) => target === markerTarget(seed)) ? 1 : 0;
    const answered = received.match(/^HTTP\/1\.1 [2-5]\d\d /gm)?.length ?? 0;
    const refusals = answered > exchanges.length ? 1 : 0;
    inputs += exchanges.length - marked + refusals;
    forwarded += exchanges.filter(({ attempts }) => attempts > 0).length - marked;
    refused += refusals;
    markers += marked;
  }
  return { inputs, forwarded, refused, markers };
}

/** A conversation, and what was said to it. */
interface Said extends Conversation {
  readonly received: string;
}

interface Conversed {
  readonly peer: string;
  readonly received: string;
  readonly stuck: boolean;
}

/** Says all of it, ends our side once it is quiet, and listens until the other side has ended. */
async function converse(
  port: number,
  { seed, text, cuts, pauseMs }: Conversation,
  quietMs: number,
): Promise<Conversed> {
  const localAddress = ADDRESSES[calls++ % ADDRESSES.length]!;
  const socket = net.connect({ host: "127.0.0.1", port, localAddress, noDelay: true, allowHalfOpen: true });
  let received = "";
  let quiet: NodeJS.Timeout | undefined;
  const ending = `\r\n\r\nGET ${markerTarget(seed)} 0\n`;
  socket.on("data", (bytes: Buffer) => {
    received += bytes.toString("latin1");
    if (received.endsWith(ending)) socket.end();
    else quiet?.refresh();
  });
  socket.on("error", () => {});
  const over = Promise.withResolvers<boolean>();
  socket.on("end", () => over.resolve(false));
  socket.on("close", () => over.resolve(false));
  const limit = setTimeout(() => over.resolve(true), STUCK_MS);
  await Promise.race([once(socket, "connect"), over.promise]);
  const peer = `${socket.localAddress}:${socket.localPort}`;
  let at = 0;
  for (const cut of [...cuts, text.length]) {
    if (cut > at && socket.writable) socket.write(text.slice(at, cut), "latin1");
    at = cut;
    if (at === text.length) break;
    if (pauseMs > 0) await sleep(pauseMs);
    else await new Promise((resolve) => setImmediate(resolve));
  }
  if (quietMs === 0) socket.end();
  else quiet = setTimeout(() => socket.end(), quietMs);
  const stuck = await over.promise;
  clearTimeout(quiet);
  clearTimeout(limit);
  socket.destroy();
  return { peer, received, stuck };
}

/** A caller whose requests are beyond doubt, on a connection that it keeps. */
class Witness {
  readonly #port: number;
  #socket: net.Socket | undefined;
  #received = "";
  #moved: () => void = () => {};

  constructor(port: number) {
    this.#port = port;
  }

  /** @returns what is wrong with the answer */
  async ask(seed: number): Promise<string | undefined> {
    this.#socket ??= this.#connect();
    const socket = this.#socket;
    const target = `/witness/${seed}`;
    this.#received = "";
    socket.write(`GET ${target} HTTP/1.1\r\nHost: witness\r\n\r\n`);
    const limit = setTimeout(() => socket.destroy(), STUCK_MS);
    while (!/\r\n\r\n.*\n$/.test(this.#received) && !socket.destroyed) {
      await new Promise<void>((resolve) => {
        this.#moved = resolve;
      });
    }
    clearTimeout(limit);
    const body = `\r\n\r\nGET ${target} 0\n`;
    if (this.#received.startsWith("HTTP/1.1 200 ") && this.#received.endsWith(body)) return undefined;
    this.close();
    return `expected ${JSON.stringify(body)}, got ${JSON.stringify(this.#received)}`;
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #connect(): net.Socket {
    const socket = net.connect({ host: "127.0.0.1", port: this.#port, noDelay: true });
    socket.on("data", (bytes: Buffer) => {
      this.#received += bytes.toString("latin1");
      this.#moved();
    });
    socket.on("error", () => {});
    socket.on("close", () => this.#moved());
    return socket;
  }
}
