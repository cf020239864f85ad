/** Any sequence of valid messages, in whatever pieces it comes, gives the same result. */
import assert from "node:assert/strict";
import http from "node:http";
import type { Duplex } from "node:stream";
import test from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import {
  assertArrived,
  lines,
  type Pair,
  pair,
  requestBytes,
  responseBytes,
  type SeenRequest,
} from "../../support/http-messages.ts";
import { type Cut, memoryWire, writeCut } from "../../support/memory-wire.ts";

/** Sizes of reads, used in turn again and again. */
const cuts = fc.oneof(
  fc.constant([1]),
  fc.constant([1_000_000]),
  fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 10 }),
  fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 10 }),
);

function cutter(sizes: readonly number[]): Cut {
  let next = 0;
  // Byte by byte only for a while: a large body would take too long.
  let small = 0;
  return (available) => {
    const size = sizes[next++ % sizes.length]!;
    small = size < 50 ? small + 1 : 0;
    return Math.min(available, small > 2000 ? 10_000 : size);
  };
}

/** Sends the requests down one connection, in these pieces, and gives each its response. */
async function run(pairs: readonly Pair[], requestCut: Cut, responseCut: Cut) {
  const seen: SeenRequest[] = [];
  const server = http.createServer({ keepAliveTimeout: 0, requireHostHeader: false }, (request) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      const index = Number(request.headers["x-index"]);
      seen.push({
        method: request.method!,
        target: request.url!,
        fields: lines(request.rawHeaders),
        payload: Buffer.concat(pieces).toString("latin1"),
        trailers: lines(request.rawTrailers),
      });
      const pair = pairs[index]!;
      void writeCut(request.socket, responseBytes(pair), responseCut, pair.originCloses);
    });
  });
  const broken: unknown[] = [];
  server.on("clientError", (error) => broken.push(error));
  const wire = memoryWire({ onUpstream: (far) => server.emit("connection", far), cut: responseCut });
  const far = wire.connect();
  const received: Buffer[] = [];
  far.on("data", (piece: Buffer) => received.push(piece));
  const isOver = ended(far);
  await writeCut(far, Buffer.concat(pairs.map(requestBytes)), requestCut, true);
  await isOver;
  far.destroy();
  assert.deepEqual(broken, []);
  assert.deepEqual(wire.refused, []);
  assert.deepEqual(wire.failed, []);
  return { seen, text: Buffer.concat(received).toString("latin1") };
}

/** Resolves when the other side has ended; rejects when nothing happens any more. */
async function ended(far: Duplex): Promise<void> {
  let moved = true;
  far.on("data", () => {
    moved = true;
  });
  for (let quiet = 0; !far.readableEnded && !far.destroyed; quiet++) {
    if (moved) quiet = 0;
    moved = false;
    if (quiet > 200_000) throw new Error("nothing moves any more");
    await turn();
  }
}

test("any pipeline of requests and their responses in any pieces arrives as it was sent", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(pair, { minLength: 1, maxLength: 5 }),
      cuts,
      cuts,
      async (pairs, requestCuts, responseCuts) => {
        const { seen, text } = await run(pairs, cutter(requestCuts), cutter(responseCuts));
        assertArrived(pairs, seen, text);
      },
    ),
    { numRuns: 600, includeErrorInReport: true },
  );
});
