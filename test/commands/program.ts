/**
 * The `holdfast` command as a process of its own.
 *
 * @module
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** A running command. */
export interface Program {
  readonly process: ChildProcessByStdio<null, Readable, Readable>;
  /** Resolves with what it has written to standard output when that contains the text. */
  said(text: string): Promise<string>;
  /** Resolves when it has ended. */
  ended(): Promise<{ code: number | null; stdout: string; stderr: string }>;
}

/** Starts `holdfast` with these arguments; it is killed when the test ends. */
export function holdfast(t: TestContext, args: readonly string[], env: Record<string, string> = {}): Program {
  const { OTEL_SDK_DISABLED = "true", ...rest } = env;
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], OTEL_SDK_DISABLED, ...rest },
  });
  t.after(() => child.kill("SIGKILL"));
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const closed = once(child, "close");
  return {
    process: child,
    async said(text) {
      while (!stdout.includes(text)) {
        const [name] = await Promise.race([
          once(child.stdout, "data").then(() => ["data"]),
          closed.then(() => ["close"]),
        ]);
        if (name === "close" && !stdout.includes(text))
          throw new Error(`ended without saying ${text}:\n${stdout}${stderr}`);
      }
      return stdout;
    },
    async ended() {
      const [code] = await closed;
      return { code: code as number | null, stdout, stderr };
    },
  };
}
