import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { test } from "node:test";
import { listen } from "../../src/proxy/listener.ts";

test("connections that the kernel holds are taken before a busy listener closes, however slowly they are", async (t) => {
  const COUNT = 60;
  let accepted = 0;
  // Node takes one connection in each turn of its loop, and under load a turn is long.
  const listener = await listen({ host: "127.0.0.1", port: 0 }, "test.listen", (socket) => {
    accepted++;
    socket.end("taken");
    const untilMs = performance.now() + 25;
    while (performance.now() < untilMs);
  });
  const results = Array.from({ length: COUNT }, async () => {
    const socket = net.connect(listener.address);
    t.after(() => socket.destroy());
    let received = "";
    socket.on("data", (bytes) => {
      received += bytes.toString();
    });
    await once(socket, "close");
    return received;
  });
  await new Promise((resolve) => setImmediate(resolve));
  await listener.closeWhenQuiet();
  assert.deepEqual(await Promise.all(results), new Array(COUNT).fill("taken"));
  assert.equal(accepted, COUNT);
});
