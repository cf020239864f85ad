import test from "node:test";
import { FORWARDERS, RawPeer, rawOrigin, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  for (const framing of ["Content-Length: 10", "Transfer-Encoding: chunked", "X-Until: the end"]) {
    test(`${forwarder}: head and pieces of a body (${framing}) go on as they come`, async (t) => {
      const chunked = framing.endsWith("chunked");
      const piece = (text: string) => (chunked ? `${text.length.toString(16)}\r\n${text}\r\n` : text);
      // Each piece is sent only when the one before has arrived: nothing may be held back for what follows.
      const origin = await rawOrigin(t, async ({ socket }) => {
        socket.write(`HTTP/1.1 200 OK\r\n${framing}\r\n\r\n`);
        await peer.until((text) => text.endsWith("\r\n\r\n"));
        socket.write(piece("hello"));
        await peer.until((text) => text.includes("hello"));
        socket.write(piece("world"));
        await peer.until((text) => text.includes("world"));
        if (chunked) socket.write("0\r\n\r\n");
        else if (framing.startsWith("X")) socket.end();
      });
      const sidecar = await testSidecar(t, { upstream: origin.url, config: { forwarder } });
      const peer = await RawPeer.connect(t, sidecar.inbound);
      peer.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
      const end = framing.startsWith("C") ? "helloworld" : "\r\n0\r\n\r\n";
      await peer.until((text) => text.endsWith(end));
    });
  }
}
