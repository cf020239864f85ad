/**
 * Load at a fixed rate, whatever the proxy does: a slow answer does not keep the next request from leaving. Latency
 * counts from when a request was due and this process saw that it was; a request for which no connection is free waits,
 * and its wait counts.
 *
 * @module
 */
import { LoadConnection, type LoadEvents } from "./connection.ts";
import type { FixedRateJob, LoadReport } from "./job.ts";
import { Tally } from "./tally.ts";

/** What comes back in this time is not counted: until then this process warms up itself. */
const OWN_WARM_UP_MS = 500;

/** Runs the job; resolves with what was seen. */
export function sendAtRate(job: FixedRateJob): Promise<LoadReport> {
  const { exchange, connections, requestsPerSecond, seconds } = job;
  return new Promise((resolve) => {
    const tally = new Tally();
    const open = new Set<LoadConnection>();
    const idle: LoadConnection[] = [];
    /** When the requests that wait for a connection became due. */
    const waiting: number[] = [];
    const total = Math.ceil((requestsPerSecond * (seconds * 1000 + OWN_WARM_UP_MS)) / 1000);
    const startedAt = performance.now();
    const countedFrom = startedAt + OWN_WARM_UP_MS;
    let sent = 0;
    let finished = 0;

    const end = (): void => {
      clearInterval(timer);
      for (const connection of open) connection.close();
      resolve(tally.report((performance.now() - countedFrom) / 1000));
    };
    const finish = (): void => {
      if (++finished === total) end();
    };
    const events: LoadEvents = {
      done(connection) {
        if (connection.startedAt >= countedFrom) tally.done(performance.now() - connection.startedAt);
        release(connection);
        finish();
        sendDue();
      },
      lost(connection, reason) {
        open.delete(connection);
        const at = idle.indexOf(connection);
        if (at !== -1) idle.splice(at, 1);
        tally.error(reason);
        if (tally.isHopeless) return end();
        connect();
        // Its request, if it had one, has no answer; an idle connection had none.
        if (at === -1) finish();
      },
    };
    const connect = (): void => {
      const connection = new LoadConnection(exchange, events);
      open.add(connection);
      release(connection);
    };
    const release = (connection: LoadConnection): void => {
      const due = waiting.shift();
      if (due === undefined) idle.push(connection);
      else sendOn(connection, due);
    };
    const sendOn = (connection: LoadConnection, due: number): void => {
      connection.startedAt = due;
      connection.send();
    };
    const sendDue = (): void => {
      const now = performance.now();
      const due = Math.min(total, Math.floor(((now - startedAt) * requestsPerSecond) / 1000) + 1);
      for (; sent < due; sent++) {
        if (now >= countedFrom) tally.left(now - startedAt - (sent * 1000) / requestsPerSecond);
        const connection = idle.pop();
        if (connection === undefined) waiting.push(now);
        else sendOn(connection, now);
      }
    };

    for (let index = 0; index < connections; index++) connect();
    const timer = setInterval(sendDue, 1);
  });
}
