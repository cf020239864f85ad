/**
 * Who fetches, a process of its own on the near host. Takes jobs as messages from its parent and answers each with what
 * it measured.
 *
 * @module
 */
import http, { type Agent } from "node:http";
import https from "node:https";
import { LATE_BODY } from "./origin.ts";
import { partAt, partPath } from "./page.ts";

/** Where requests are sent, and what they say. */
export interface Destination {
  readonly scheme: "http" | "https";
  readonly address: string;
  readonly port: number;
  /** Value of `Host`. */
  readonly host: string;
  /** PEM, for `https`. */
  readonly ca?: string;
}

/** What to do. */
export type Job =
  /** Fetch a document, then its resources. */
  | {
      readonly kind: "page";
      readonly to: Destination;
      readonly resources: number;
      readonly atOnce: number;
      /** Whether connections of its own are kept during the page load; none is kept from one to the next. */
      readonly keepAlive: boolean;
    }
  /** One request on a connection of its own. */
  | { readonly kind: "exchange"; readonly to: Destination; readonly giveUpAfterMs: number }
  /** To each destination `callers` loops of requests that take `answerAfterMs`, until `stop`. Answered at once. */
  | {
      readonly kind: "fleet";
      readonly to: readonly Destination[];
      readonly callers: number;
      readonly answerAfterMs: number;
    }
  | { readonly kind: "stop" };

/** What came of a job. */
export type Answer =
  | { readonly kind: "page"; readonly ms: number }
  /** `status`: `undefined` when it gave up. */
  | { readonly kind: "exchange"; readonly ms: number; readonly status: number | undefined }
  | { readonly kind: "fleet" }
  /** `failures`: what went wrong in exchanges that had begun, and how often. */
  | { readonly kind: "stop"; readonly exchanges: number; readonly failures: Readonly<Record<string, number>> }
  | { readonly kind: "error"; readonly message: string };

/** How long a caller in a loop waits after a failure, in milliseconds. */
const PAUSE_MS = 50;

interface Received {
  readonly status: number;
  readonly body: Buffer;
}

function get(to: Destination, path: string, agent: Agent | false, signal?: AbortSignal): Promise<Received> {
  const { promise, resolve, reject } = Promise.withResolvers<Received>();
  const { request } = to.scheme === "http" ? http : https;
  const options = {
    host: to.address,
    port: to.port,
    path,
    agent,
    headers: { Host: to.host },
    ...(signal && { signal }),
    ...(to.ca !== undefined && { ca: to.ca }),
  };
  const sent = request(options, (response) => {
    const pieces: Buffer[] = [];
    response.on("data", (piece: Buffer) => pieces.push(piece));
    response.on("error", reject);
    response.on("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces) }));
  });
  sent.on("error", reject);
  sent.end();
  return promise;
}

async function fetchPage({ to, resources, atOnce, keepAlive }: Extract<Job, { kind: "page" }>): Promise<Answer> {
  const agent = new (to.scheme === "http" ? http : https).Agent({ keepAlive });
  const fetchPart = async (part: number): Promise<void> => {
    const { status, body } = await get(to, partPath(part), agent);
    if (status !== 200) throw new Error(`${partPath(part)}: status ${status}: ${body.toString().trim()}`);
    if (!partAt(partPath(part))!.equals(body)) throw new Error(`${partPath(part)}: not what the origin has there`);
  };
  const startedAt = performance.now();
  await fetchPart(0);
  let next = 1;
  const worker = async () => {
    while (next <= resources) await fetchPart(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  const ms = performance.now() - startedAt;
  agent.destroy();
  return { kind: "page", ms };
}

async function exchange({ to, giveUpAfterMs }: Extract<Job, { kind: "exchange" }>): Promise<Answer> {
  const startedAt = performance.now();
  const signal = AbortSignal.timeout(giveUpAfterMs);
  const received = await get(to, partPath(0), false, signal).catch((error: unknown) => {
    if (signal.aborted) return undefined;
    throw error;
  });
  return { kind: "exchange", ms: performance.now() - startedAt, status: received?.status };
}

/** The loops of a `fleet`, until they are stopped. */
class Loops {
  readonly #running: Promise<void>[] = [];
  readonly #failures: Record<string, number> = {};
  #exchanges = 0;
  #isStopping = false;

  constructor({ to, callers, answerAfterMs }: Extract<Job, { kind: "fleet" }>) {
    for (const destination of to) {
      const agent = new http.Agent({ keepAlive: true });
      for (let caller = 0; caller < callers; caller++) {
        this.#running.push(this.#loop(destination, `/after/${answerAfterMs}`, agent));
      }
    }
  }

  async stop(): Promise<Answer> {
    this.#isStopping = true;
    await Promise.all(this.#running);
    return { kind: "stop", exchanges: this.#exchanges, failures: this.#failures };
  }

  async #loop(to: Destination, path: string, agent: Agent): Promise<void> {
    while (!this.#isStopping) {
      try {
        const { status, body } = await get(to, path, agent);
        this.#exchanges++;
        if (status === 200 && body.toString() === LATE_BODY) continue;
        this.#fail(status === 200 ? "a wrong body" : `status ${status}`);
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        // The sidecar is being restarted, and nothing was sent.
        if (code !== "ECONNREFUSED") this.#fail(code ?? message);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  #fail(how: string): void {
    this.#failures[how] = (this.#failures[how] ?? 0) + 1;
  }
}

let loops: Loops | undefined;

async function run(job: Job): Promise<Answer> {
  switch (job.kind) {
    case "page":
      return await fetchPage(job);
    case "exchange":
      return await exchange(job);
    case "fleet":
      loops = new Loops(job);
      return { kind: "fleet" };
    case "stop":
      return (await loops?.stop()) ?? { kind: "stop", exchanges: 0, failures: {} };
  }
}

if (import.meta.main) {
  process.on("message", async (job: Job) => {
    const answer: Answer = await run(job).catch((error: unknown) => ({ kind: "error", message: String(error) }));
    process.send!(answer);
  });
  process.on("disconnect", () => process.exit(0));
}
