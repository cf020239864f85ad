/**
 * The load generator's process: takes one job as a message, answers with a report.
 *
 * @module
 */
import { sendAtRate } from "./fixed-rate.ts";
import { openIdle } from "./idle.ts";
import type { Job, LoadReport } from "./job.ts";
import { saturate } from "./saturating.ts";

/** What it says. */
export type LoadMessage = { readonly kind: "idle" } | { readonly kind: "report"; readonly report: LoadReport };

const say = (message: LoadMessage): void => void process.send!(message);

process.once("message", async (job: Job) => {
  switch (job.kind) {
    case "saturating":
      return say({ kind: "report", report: await saturate(job) });
    case "fixed-rate":
      return say({ kind: "report", report: await sendAtRate(job) });
    case "idle": {
      const { close } = await openIdle(job);
      process.once("message", () => say({ kind: "report", report: close() }));
      return say({ kind: "idle" });
    }
  }
});
