/**
 * The collector's process. Says its port; then, for every sender it is asked for, how many spans of it arrived since.
 *
 * @module
 */
import http from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { countSpans } from "./spans.ts";

const spans = new Map<string, number>();

const server = http.createServer({ keepAliveTimeout: 65_000 }, async (request, response) => {
  const body = await buffer(request);
  const sender = /^\/(.+)\/v1\/traces$/.exec(request.url ?? "")?.[1];
  if (sender !== undefined) spans.set(sender, (spans.get(sender) ?? 0) + countSpans(body));
  response.writeHead(200, { "Content-Type": "application/x-protobuf", "Content-Length": 0 }).end();
});
server.listen(0, "127.0.0.1", () => process.send!((server.address() as AddressInfo).port));

process.on("message", (sender: string) => {
  process.send!(spans.get(sender) ?? 0);
  spans.delete(sender);
});
