/**
 * Many connections that do nothing.
 *
 * @module
 */
import { LoadConnection, type LoadEvents } from "./connection.ts";
import type { IdleJob, LoadReport } from "./job.ts";
import { Tally } from "./tally.ts";

/** How many are opened at a time. */
const AT_A_TIME = 50;

/**
 * Opens the connections and has one exchange on each.
 *
 * @returns once all of them are idle; `close` closes them and tells what was seen, connections lost while idle included
 */
export function openIdle({ exchange, connections }: IdleJob): Promise<{ close(): LoadReport }> {
  return new Promise((resolve) => {
    const tally = new Tally();
    const open = new Set<LoadConnection>();
    const startedAt = performance.now();
    let tried = 0;
    let finished = 0;

    const next = (): void => {
      if (tried === connections) return;
      tried++;
      const connection = new LoadConnection(exchange, events);
      open.add(connection);
      connection.startedAt = performance.now();
      connection.send();
    };
    const finish = (): void => {
      finished++;
      if (finished === connections) resolve({ close });
      else next();
    };
    const close = (): LoadReport => {
      for (const connection of open) connection.close();
      return tally.report((performance.now() - startedAt) / 1000);
    };
    const events: LoadEvents = {
      done(connection) {
        tally.done(performance.now() - connection.startedAt);
        finish();
      },
      lost(connection, reason) {
        open.delete(connection);
        tally.error(reason);
        if (reason !== "closed while idle") finish();
      },
    };

    for (let index = 0; index < AT_A_TIME; index++) next();
  });
}
