import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { isHeld, writeAtEndOfTurn } from "../../../src/proxy/wire/end-of-turn.ts";

/** Both ends of a connection. */
async function pair(t: TestContext): Promise<[near: Socket, far: Socket]> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as { port: number };
  const [[far], near] = await Promise.all([once(listener, "connection"), connectTo(port)]);
  t.after(() => {
    near.destroy();
    far.destroy();
    listener.close();
  });
  far.setEncoding("latin1");
  return [near, far];
}

async function connectTo(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  return socket;
}

async function readAll(socket: Socket): Promise<string> {
  let text = "";
  socket.on("data", (piece: string) => {
    text += piece;
  });
  await once(socket, "end");
  return text;
}

test("what is written in one turn is held to its end, and keeps its order", async (t) => {
  const [near, far] = await pair(t);
  const received = readAll(far);
  writeAtEndOfTurn(near, "a\xe9");
  assert.equal(isHeld(near), true);
  near.write("b");
  writeAtEndOfTurn(near, "c");
  await new Promise(setImmediate);
  assert.equal(isHeld(near), false);
  writeAtEndOfTurn(near, "d");
  near.end("e");
  assert.equal(Buffer.from(await received, "latin1").toString("latin1"), "a\xe9bcde");
});

test("sockets that are destroyed meanwhile hinder none of the others", async (t) => {
  const [[gone], [near, far]] = await Promise.all([pair(t), pair(t)]);
  const received = readAll(far);
  writeAtEndOfTurn(gone, "lost");
  writeAtEndOfTurn(near, "kept");
  gone.destroy();
  await new Promise(setImmediate);
  writeAtEndOfTurn(near, ", too");
  await new Promise(setImmediate);
  near.end();
  assert.equal(await received, "kept, too");
});
