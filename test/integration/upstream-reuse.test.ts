import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import test from "node:test";
import { FORWARDERS, testSidecar } from "../support/peers.ts";

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: one caller's requests share one upstream connection, with bodies and without`, async (t) => {
    const origin = http.createServer((request, response) => {
      request.resume();
      request.on("end", () => response.end("ok"));
    });
    let connections = 0;
    origin.on("connection", () => connections++);
    origin.listen(0, "127.0.0.1");
    await once(origin, "listening");
    t.after(() => void origin.close());
    const { port } = origin.address() as AddressInfo;
    const sidecar = await testSidecar(t, { upstream: `http://127.0.0.1:${port}`, config: { forwarder } });
    t.after(() => origin.closeAllConnections());

    for (const body of [undefined, "one", undefined, "two", "three"]) {
      const response = await fetch(sidecar.inbound, body === undefined ? {} : { method: "POST", body });
      assert.equal(await response.text(), "ok");
    }
    assert.equal(connections, 1);
  });
}
