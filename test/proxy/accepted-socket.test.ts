import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { type SharedReads, sharedSocket } from "../../src/proxy/accepted-socket.ts";

interface Pair {
  readonly socket: net.Socket;
  readonly reads: SharedReads;
  readonly peer: net.Socket;
}

async function connected(t: TestContext): Promise<Pair> {
  const server = net.createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const peer = net.connect((server.address() as AddressInfo).port, "127.0.0.1");
  const shared = await new Promise<ReturnType<typeof sharedSocket>>((resolve) => {
    server.once("connection", (accepted) => resolve(sharedSocket(accepted)));
  });
  assert.ok(shared);
  t.after(() => {
    peer.destroy();
    shared.socket.destroy();
    server.close();
  });
  return { ...shared, peer };
}

/** Resolves with what was read, as a copy and as the memory it was read into. */
function nextRead(reads: SharedReads): Promise<{ text: string; memory: Buffer }> {
  return new Promise((resolve) => {
    reads.reader = {
      read(bytes, length) {
        resolve({ text: bytes.toString("latin1", 0, length), memory: bytes });
        return true;
      },
    };
  });
}

test("an accepted socket reads into the same memory again and again, and writes as before", async (t) => {
  const { socket, reads, peer } = await connected(t);
  const first = nextRead(reads);
  peer.write("one");
  const { text, memory } = await first;
  assert.equal(text, "one");
  const second = nextRead(reads);
  peer.write("two");
  assert.deepEqual(await second, { text: "two", memory });
  socket.write("back", "latin1");
  const [answer] = await once(peer, "data");
  assert.equal(String(answer), "back");
  assert.equal(socket.bytesRead, 6);
  assert.equal(socket.remotePort, peer.localPort);
});

test("without a reader it is a stream, and what it read before stays as it was", async (t) => {
  const { socket, reads, peer } = await connected(t);
  const pieces: Buffer[] = [];
  const both = new Promise<void>((resolve) => {
    socket.on("data", (piece: Buffer) => {
      pieces.push(piece);
      if (pieces.length === 1) peer.write("second");
      else resolve();
    });
  });
  peer.write("first");
  await both;
  assert.deepEqual(pieces.map(String), ["first", "second"]);
  assert.equal(reads.reader, undefined);
});

test("it can be paused, and the peer may end its side alone", async (t) => {
  const { socket, reads, peer } = await connected(t);
  const read = nextRead(reads);
  socket.pause();
  let ended = false;
  socket.on("end", () => {
    ended = true;
  });
  peer.end("last");
  await once(peer, "finish");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(ended, false);
  const end = once(socket, "end");
  socket.resume();
  assert.equal((await read).text, "last");
  await end;
  assert.equal(socket.writable, true);
  socket.end("bye");
  const [answer] = await once(peer, "data");
  assert.equal(String(answer), "bye");
});

test("a socket whose handle is not what is expected is left as it is", () => {
  const socket = new net.Socket();
  assert.equal(sharedSocket(socket), undefined);
});
