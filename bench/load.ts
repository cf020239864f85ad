/**
 * Load on a proxy: wrk where it can do the job and is there, else a process of our own.
 *
 * @module
 */
import { once } from "node:events";
import path from "node:path";
import type { FixedRateJob, IdleJob, Job, LoadReport, SaturatingJob } from "./load/job.ts";
import type { LoadMessage } from "./load/load-process.ts";
import { runWrk } from "./load/wrk.ts";
import { type Running, start } from "./processes.ts";
import { programVersion } from "./programs.ts";

/** How much longer than planned a job may take, in seconds. */
const GRACE_SECONDS = 60;

/** Puts load on proxies. */
export interface Load {
  /** What makes the load that no rate is set for. */
  readonly title: string;
  /** As `title` says. */
  saturate(job: SaturatingJob): Promise<LoadReport>;
  /** By our own process, which checks every byte that comes back. */
  check(job: SaturatingJob | FixedRateJob): Promise<LoadReport>;
  /** Opens connections that stay idle until `close` is called. */
  openIdle(job: IdleJob): Promise<{ close(): Promise<LoadReport> }>;
}

/**
 * @param folder - for scripts and logs
 * @param checksAll - whether every byte of every response must be checked, which wrk does not do
 */
export async function makeLoad(folder: string, checksAll: boolean): Promise<Load> {
  const wrk = checksAll ? undefined : await programVersion("wrk", "-v");
  const check = async (job: SaturatingJob | FixedRateJob): Promise<LoadReport> => {
    const running = startProcess(job, folder);
    const seconds = job.kind === "fixed-rate" ? job.seconds : "seconds" in job.until ? job.until.seconds : 0;
    const message = await next(running, seconds + GRACE_SECONDS);
    await running.stop();
    return reportOf(message);
  };
  return {
    title: wrk === undefined ? "own, on Node.js" : `wrk ${wrk}`,
    check,
    saturate: (job) =>
      wrk !== undefined && "seconds" in job.until ? runWrk(job, job.until.seconds, folder) : check(job),
    async openIdle(job) {
      const running = startProcess(job, folder);
      await next(running, GRACE_SECONDS);
      return {
        async close() {
          running.process.send("close");
          const message = await next(running, GRACE_SECONDS);
          await running.stop();
          return reportOf(message);
        },
      };
    },
  };
}

function startProcess(job: Job, folder: string): Running {
  const main = path.join(import.meta.dirname, "load", "load-process.ts");
  const command = [process.execPath, main];
  const running = start({ name: "load", command, folder, core: undefined, hasChannel: true });
  running.process.send(job);
  return running;
}

async function next(running: Running, seconds: number): Promise<LoadMessage> {
  const timeout = AbortSignal.timeout(seconds * 1000);
  const message = once(running.process, "message", { signal: timeout }).catch(async () => {
    await running.stop().catch(() => {});
    throw new Error(`the load was not over after ${seconds} s`);
  });
  const [value] = await Promise.race([message, running.unexpectedEnd]);
  return value as LoadMessage;
}

function reportOf(message: LoadMessage): LoadReport {
  if (message.kind === "report") return message.report;
  throw new Error(`the load said ${message.kind} in place of a report`);
}
