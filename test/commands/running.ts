/**
 * `holdfast run` as a process of its own, ready to carry requests.
 *
 * @module
 */
import path from "node:path";
import type { TestContext } from "node:test";
import { folderWith } from "../config/folder.ts";
import { holdfast, type Program } from "./program.ts";

/** A sidecar in a process of its own. */
export interface Running {
  readonly program: Program;
  /** Its sidecar.json, with the folder that the other files are in. */
  readonly file: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** `http://127.0.0.1:PORT` of each listener; empty for a direction that is left out. */
  readonly inbound: string;
  readonly outbound: string;
  readonly admin: string;
  /** Sends a signal. */
  signal(name: NodeJS.Signals): void;
  /** `POST /drain`. */
  drain(): Promise<void>;
  /** Resolves once a line of the log has this message, or one that begins with it, with that line. */
  logged(message: string): Promise<Record<string, unknown>>;
  /** Resolves with exit code, the parsed log and standard error when the process has ended. */
  ended(): Promise<{ code: number | null; log: Record<string, unknown>[]; stderr: string }>;
}

/** Starts it with free ports, and with the `keep-alive` plugin unless the configuration says otherwise. */
export async function runSidecar(
  t: TestContext,
  config: Readonly<Record<string, unknown>>,
  { env = {}, files = {} }: { env?: Record<string, string>; files?: Readonly<Record<string, unknown>> } = {},
): Promise<Running> {
  const content = {
    service: "orders",
    admin: { listen: "127.0.0.1:0" },
    plugins: [{ use: "keep-alive" }],
    drain: { idleGrace: "0s", deadline: "60s" },
    ...config,
  };
  const folder = folderWith(t, { ...files, "sidecar.json": content });
  const file = path.join(folder, "sidecar.json");
  const program = holdfast(t, ["run", "-c", file], env);

  async function logged(message: string): Promise<Record<string, unknown>> {
    const stdout = await program.said(`"msg":"${message}`);
    return parse(stdout).find(({ msg }) => String(msg).startsWith(message)) ?? {};
  }

  const { addresses } = (await logged("orders: ready")) as {
    addresses: Partial<Record<"inbound" | "outbound" | "admin", { host: string; port: number }>>;
  };
  const url = (name: "inbound" | "outbound" | "admin"): string => {
    const address = addresses[name];
    return address === undefined ? "" : `http://${address.host}:${address.port}`;
  };
  return {
    program,
    file,
    config: content,
    inbound: url("inbound"),
    outbound: url("outbound"),
    admin: url("admin"),
    signal: (name) => void program.process.kill(name),
    async drain() {
      const answer = await fetch(`${url("admin")}/drain`, { method: "POST" });
      if (answer.status !== 202) throw new Error(`POST /drain answered ${answer.status}`);
    },
    logged,
    async ended() {
      const { code, stdout, stderr } = await program.ended();
      return { code, log: parse(stdout), stderr };
    },
  };
}

/** The lines of a log that are complete so far. */
function parse(stdout: string): Record<string, unknown>[] {
  const lines = stdout.split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line));
}
