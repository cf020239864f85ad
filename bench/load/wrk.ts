/**
 * wrk, the cheaper load generator where there is one. It looks at status and length of responses, not at their bytes.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { start } from "../processes.ts";
import type { LoadReport, SaturatingJob } from "./job.ts";

/** What the script prints; times in microseconds. */
interface Summary {
  readonly requests: number;
  readonly duration: number;
  readonly bytes: number;
  readonly p50: number;
  readonly p99: number;
  readonly errors: Readonly<Record<string, number>>;
}

const MARK = "summary: ";
const DONE = `
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('${MARK}{"requests":%d,"duration":%d,"bytes":%d,"p50":%d,"p99":%d,' ..
    '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end
`;

let runs = 0;

/** Runs a job that ends after a time. */
export async function runWrk(job: SaturatingJob, seconds: number, folder: string): Promise<LoadReport> {
  const { exchange, connections } = job;
  const name = `wrk-${++runs}`;
  const script = path.join(folder, `${name}.lua`);
  writeFileSync(script, luaScript(job));
  const url = `http://127.0.0.1:${exchange.port}${exchange.path}`;
  const options = ["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "10s", "-s", script];
  const running = start({ name, command: ["wrk", ...options, url], folder, core: undefined });
  const code = await new Promise((resolve) => running.process.once("exit", resolve));
  const output = running.output();
  await running.stop();
  const line = output.split("\n").find((each) => each.startsWith(MARK));
  if (code !== 0 || line === undefined) throw new Error(`wrk failed: ${output.trim()}`);
  return report(JSON.parse(line.slice(MARK.length)) as Summary, exchange.expected.length);
}

function luaScript({ exchange: { method, body, closes } }: SaturatingJob): string {
  const lines = [`wrk.method = "${method}"`];
  if (method === "POST") {
    // Decimal escapes, because a body may hold any byte.
    lines.push(`wrk.body = "${Array.from(body, (byte) => `\\${String(byte).padStart(3, "0")}`).join("")}"`);
    lines.push(`wrk.headers["Content-Type"] = "application/octet-stream"`);
  }
  if (closes) lines.push(`wrk.headers["Connection"] = "close"`);
  return lines.join("\n") + DONE;
}

function report(summary: Summary, bodyLength: number): LoadReport {
  const errors = Object.fromEntries(Object.entries(summary.errors).filter(([, count]) => count > 0));
  if (summary.bytes < summary.requests * bodyLength) errors["short responses"] = 1;
  return {
    exchanges: summary.requests,
    seconds: summary.duration / 1e6,
    p50Ms: summary.p50 / 1000,
    p99Ms: summary.p99 / 1000,
    errors,
    lateP99Ms: undefined,
  };
}
