import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProxyConnection } from "../../src/proxy/connection.ts";
import { OpenConnections } from "../../src/proxy/open-connections.ts";
import { moduleUrl, retained } from "../support/retained.ts";

/** As much of a connection as the list looks at. */
function connection(side: "downstream" | "upstream"): ProxyConnection {
  return { side, state: "idle" } as ProxyConnection;
}

test("connections are listed in the order in which they came, whichever have gone", () => {
  const open = new OpenConnections();
  const [first, second, third, fourth] = [
    connection("downstream"),
    connection("upstream"),
    connection("downstream"),
    connection("upstream"),
  ] as const;
  for (const each of [first, second, third]) open.add(each);
  open.delete(second);
  assert.deepEqual([...open], [first, third]);
  open.delete(third);
  open.add(fourth);
  open.add(second);
  assert.deepEqual([...open], [first, fourth, second]);
  open.delete(first);
  assert.deepEqual([...open], [fourth, second]);
  assert.deepEqual([open.size, open.count("downstream"), open.count("upstream")], [2, 0, 2]);
  open.delete(second);
  open.delete(fourth);
  assert.deepEqual([[...open], open.size], [[], 0]);
});

test("one that is closed while the list is gone through is not shown any more", () => {
  const open = new OpenConnections();
  const all = [connection("downstream"), connection("downstream"), connection("downstream")];
  for (const each of all) open.add(each);
  const seen: ProxyConnection[] = [];
  for (const each of open) {
    seen.push(each);
    if (seen.length > 1) continue;
    for (const closed of all.slice(0, 2)) {
      Object.assign(closed, { state: "closed" });
      open.delete(closed);
    }
    open.add(connection("downstream"));
  }
  assert.deepEqual(seen, [all[0], all[2]]);
});

test("connections that were open at the same time do not keep each other alive", () => {
  const kept = retained(`
    const { OpenConnections } = await import(${moduleUrl("src/proxy/open-connections.ts")});
    const open = new OpenConnections();
    return {
      make(payload) {
        const connection = { side: "downstream", state: "idle", payload, previousOpen: undefined, nextOpen: undefined };
        open.add(connection);
        return connection;
      },
      end: (connection) => open.delete(connection),
    };
  `);
  assert.ok(kept < 500, `${kept} of 4,000 are still there`);
});
