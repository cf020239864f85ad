/**
 * Load without a pause: the next request leaves as soon as the response to the last one is there.
 *
 * @module
 */
import { LoadConnection, type LoadEvents } from "./connection.ts";
import type { LoadReport, SaturatingJob } from "./job.ts";
import { Tally } from "./tally.ts";

/** Runs the job; resolves with what was seen. */
export function saturate({ exchange, connections, until }: SaturatingJob): Promise<LoadReport> {
  return new Promise((resolve) => {
    const tally = new Tally();
    const open = new Set<LoadConnection>();
    const startedAt = performance.now();
    const limit = "exchanges" in until ? until.exchanges : Number.POSITIVE_INFINITY;
    let sent = 0;
    let isOver = false;

    const end = (): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      for (const connection of open) connection.close();
      resolve(tally.report((performance.now() - startedAt) / 1000));
    };
    const timer = "seconds" in until ? setTimeout(end, until.seconds * 1000) : undefined;

    const events: LoadEvents = {
      done(connection) {
        tally.done(performance.now() - connection.startedAt);
        if (exchange.closes || sent >= limit) drop(connection);
        else send(connection);
        if (exchange.closes) connect();
      },
      lost(connection, reason) {
        tally.error(reason);
        drop(connection);
        if (tally.isHopeless) end();
        else connect();
      },
    };
    const connect = (): void => {
      if (isOver || sent >= limit) return;
      const connection = new LoadConnection(exchange, events);
      open.add(connection);
      send(connection);
    };
    const send = (connection: LoadConnection): void => {
      sent++;
      connection.startedAt = performance.now();
      connection.send();
    };
    const drop = (connection: LoadConnection): void => {
      connection.close();
      open.delete(connection);
      if (sent >= limit && open.size === 0) end();
    };

    for (let index = 0; index < connections; index++) connect();
  });
}
