/**
 * Differential fuzz of callers → Holdfast → {strict reader, node:http, nginx, HAProxy} for request smuggling, over both
 * forwarders: `npm run fuzz -- --inputs 1000000 --seed 1`. What Holdfast says that it forwarded must be what the origin
 * saw, in number, method, path and body length; every response must answer its own request; and the request that
 * follows, on whatever connection to the origin was left behind, must be served as if nothing had been.
 *
 * Prints what it did, and each conversation that breaks this, cut down to what is needed to break it.
 */
import { parseArgs } from "node:util";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { isInstalled } from "../interop/programs.ts";
import { FORWARDERS } from "../support/peers.ts";
import { type Account, Chain, type Fault } from "./chain.ts";
import { type Conversation, conversation } from "./inputs.ts";
import { ORIGINS, type OriginName, programOf } from "./origins.ts";

/** Conversations between two accounts. */
const SLICE = 400;
/** How often a conversation is shortened, at most. */
const MOST_CUTS = 400;
/** How long is spent on finding out what a fault needs, in milliseconds. */
const EXPLAIN_MS = 45_000;

/** After so many a run ends. */
const MOST_FAILURES = 10;

/** What a chain came to. */
export interface ChainResult {
  readonly name: string;
  readonly conversations: number;
  readonly inputs: number;
  readonly forwarded: number;
  readonly refused: number;
  readonly markers: number;
  readonly failures: readonly Failure[];
}

/** Something that must not be. */
export interface Failure {
  readonly what: string;
  /** `undefined`: it does not happen when the conversations are had one by one. */
  readonly seed: number | undefined;
  /** The least that does it. */
  readonly text: string;
}

/** The origins whose programs are there, and what is missing. */
export function availableOrigins(): { readonly origins: OriginName[]; readonly missing: string[] } {
  const origins: OriginName[] = [];
  const missing: string[] = [];
  for (const name of Object.keys(ORIGINS) as OriginName[]) {
    const program = programOf(name);
    if (program === undefined || isInstalled(program)) origins.push(name);
    else missing.push(program);
  }
  return { origins, missing };
}

/** Fuzzes one chain, a slice at a time. */
export class ChainFuzz {
  readonly #forwarder: ForwarderName;
  readonly #origin: OriginName;
  #chain: Chain | undefined;
  readonly #failures: Failure[] = [];
  #conversations = 0;
  #inputs = 0;
  #forwarded = 0;
  #refused = 0;
  #markers = 0;

  constructor(forwarder: ForwarderName, origin: OriginName) {
    this.#forwarder = forwarder;
    this.#origin = origin;
  }

  get result(): ChainResult {
    return {
      name: `${this.#forwarder} → ${this.#origin}`,
      conversations: this.#conversations,
      inputs: this.#inputs,
      forwarded: this.#forwarded,
      refused: this.#refused,
      markers: this.#markers,
      failures: this.#failures,
    };
  }

  /** Conversations with seeds from `seed` on. */
  async slice(seed: number, size = SLICE): Promise<void> {
    const conversations = Array.from({ length: size }, (_, index) => conversation(seed + index));
    const { inputs, forwarded, refused, markers, faults } = await this.#run(conversations);
    this.#conversations += size;
    this.#inputs += inputs;
    this.#forwarded += forwarded;
    this.#refused += refused;
    this.#markers += markers;
    if (faults.length > 0) await this.#explain(conversations, faults);
  }

  async close(): Promise<void> {
    await this.#chain?.close();
    this.#chain = undefined;
  }

  async #run(conversations: readonly Conversation[]): Promise<Account> {
    this.#chain ??= await Chain.start(this.#forwarder, this.#origin);
    return await this.#chain.run(conversations);
  }

  /** Finds which of the conversations does it, and what of it. */
  async #explain(conversations: readonly Conversation[], faults: readonly Fault[]): Promise<void> {
    const seeds = new Set(faults.flatMap(({ seed }) => (seed === undefined ? [] : [seed])));
    const isUnknown = faults.some(({ seed }) => seed === undefined);
    const suspects = conversations.filter(({ seed }) => isUnknown || seeds.has(seed));
    let found = 0;
    const untilMs = performance.now() + EXPLAIN_MS;
    for (const suspect of suspects) {
      if (performance.now() > untilMs) break;
      const what = await this.#failsAlone(suspect);
      if (what === undefined) continue;
      found++;
      this.#failures.push({ what, seed: suspect.seed, text: (await this.#shorten(suspect, untilMs)).text });
      if (found === 5) break;
    }
    if (found > 0) return;
    for (const { what, seed } of faults) {
      const text = conversations.find((one) => one.seed === seed)?.text ?? "";
      this.#failures.push({ what: `${what} (only together with others)`, seed, text });
    }
  }

  /** On a chain of its own: the last one may have been left with a connection that is out of step. */
  async #failsAlone(one: Conversation): Promise<string | undefined> {
    await this.close();
    return (await this.#run([one])).faults[0]?.what;
  }

  /** Takes out ever smaller pieces for as long as it still fails. */
  async #shorten(one: Conversation, untilMs: number): Promise<Conversation> {
    let shortest = one;
    let tries = 0;
    const attempt = async (text: string, cuts: readonly number[]): Promise<boolean> => {
      if (tries++ >= MOST_CUTS || performance.now() > untilMs) return false;
      // What must be answered is no longer known.
      const shorter = { ...shortest, text, cuts, answered: undefined };
      if ((await this.#failsAlone(shorter)) === undefined) return false;
      shortest = shorter;
      return true;
    };
    if (one.cuts.length > 0) await attempt(one.text, []);
    for (let size = shortest.text.length >> 1; size > 0 && tries < MOST_CUTS; size >>= 1) {
      for (let at = 0; at < shortest.text.length && tries < MOST_CUTS; ) {
        const { text, cuts } = shortest;
        const isShorter = await attempt(
          text.slice(0, at) + text.slice(at + size),
          cuts.map((cut) => (cut <= at ? cut : Math.max(at, cut - size))),
        );
        if (!isShorter) at += size;
      }
    }
    return shortest;
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      inputs: { type: "string", default: "1000000" },
      seed: { type: "string" },
      origin: { type: "string", multiple: true },
      forwarder: { type: "string", multiple: true },
      "one-conversation": { type: "boolean", default: false },
    },
  });
  const { origins, missing } = availableOrigins();
  for (const program of missing) console.log(`${program} is not installed: without it`);
  const chosen = origins.filter((name) => values.origin?.includes(name) ?? true);
  const forwarders = FORWARDERS.filter((name) => values.forwarder?.includes(name) ?? true);
  const chains = forwarders.flatMap((forwarder) => chosen.map((origin) => new ChainFuzz(forwarder, origin)));
  const wanted = Number(values.inputs);
  let seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 30));
  console.log(`seed ${seed}`);
  const startedMs = performance.now();
  const total = () => chains.reduce((sum, { result }) => sum + result.inputs, 0);
  const failures = () => chains.reduce((sum, { result }) => sum + result.failures.length, 0);
  for (let rounds = 1; total() < wanted && failures() < MOST_FAILURES; rounds++) {
    for (const chain of chains) {
      await chain.slice(seed, values["one-conversation"] ? 1 : SLICE);
      seed += values["one-conversation"] ? 0 : SLICE;
    }
    if (values["one-conversation"]) break;
    if (rounds % 10 === 0) {
      const seconds = (performance.now() - startedMs) / 1000;
      console.log(`${total()} inputs, ${Math.round(total() / seconds)} a second, next seed ${seed}`);
    }
  }
  for (const chain of chains) await chain.close();
  for (const { result } of chains) {
    const { name, conversations, inputs, forwarded, refused, markers, failures } = result;
    console.log(
      `${name}: ${conversations} conversations, ${inputs} inputs, ${forwarded} forwarded, ${refused} refused, ${markers} markers, ${failures.length} failures`,
    );
    for (const failure of failures) {
      console.log(`  seed ${failure.seed}: ${failure.what}\n    ${JSON.stringify(failure.text)}`);
    }
  }
  console.log(`${total()} inputs in all`);
  process.exitCode = failures() > 0 ? 1 : 0;
}
