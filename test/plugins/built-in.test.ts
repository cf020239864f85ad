import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import connectionCloseOnLogout from "../../plugins/connection-close-on-logout.ts";
import connectionLimits from "../../plugins/connection-limits.ts";
import idleTimeout from "../../plugins/idle-timeout.ts";
import keepAlive from "../../plugins/keep-alive.ts";
import tcpKeepalive from "../../plugins/tcp-keepalive.ts";
import type { SchemaTree } from "../../src/config/leaf.ts";
import { schemaFaults } from "../../src/config/read.ts";
import { configFaults, start } from "./facts.ts";

const FOLDER = fileURLToPath(new URL("../../plugins", import.meta.url));
const API = fileURLToPath(new URL("../../src/plugin/api.ts", import.meta.url));

describe("built-in plugins", () => {
  it("import nothing of Holdfast but the public plugin API", async () => {
    const files = (await readdir(FOLDER, { recursive: true })).filter((name) => name.endsWith(".ts"));
    assert.ok(files.length >= 5, `only ${files.length} files in ${FOLDER}`);
    for (const name of files) {
      const file = join(FOLDER, name);
      const own = join(FOLDER, (name.split(sep)[0] ?? "").replace(/\.ts$/, ""));
      for (const [, from = ""] of (await readFile(file, "utf8")).matchAll(/\b(?:from|import)\s*\(?\s*"([^"]+)"/g)) {
        const target = resolve(dirname(file), from);
        const isOwn = target.startsWith(own + sep);
        assert.ok(target === API || isOwn, `${relative(FOLDER, file)} imports ${from}`);
      }
    }
  });

  // One call each: a list would join the five configuration types into one that no plugin has.
  const built = [
    {
      plugin: keepAlive,
      name: "keep-alive",
      run: () => start(keepAlive),
      stray: () => configFaults(keepAlive, { no: 1 }),
    },
    {
      plugin: tcpKeepalive,
      name: "tcp-keepalive",
      run: () => start(tcpKeepalive),
      stray: () => configFaults(tcpKeepalive, { no: 1 }),
    },
    {
      plugin: idleTimeout,
      name: "idle-timeout",
      run: () => start(idleTimeout),
      stray: () => configFaults(idleTimeout, { no: 1 }),
    },
    {
      plugin: connectionLimits,
      name: "connection-limits",
      run: () => start(connectionLimits),
      stray: () => configFaults(connectionLimits, { no: 1 }),
    },
    {
      plugin: connectionCloseOnLogout,
      name: "connection-close-on-logout",
      run: () => start(connectionCloseOnLogout),
      stray: () => configFaults(connectionCloseOnLogout, { no: 1 }),
    },
  ];

  for (const { plugin, name, run, stray } of built) {
    describe(name, () => {
      it("has the name it is used by", () => assert.equal(plugin.name, name));

      it("documents every field and has valid defaults", () => {
        assert.deepEqual(schemaFaults(plugin.config as SchemaTree), []);
      });

      it("starts with an empty configuration and warns of nothing", async () => {
        assert.deepEqual((await run()).warnings, []);
      });

      it("refuses an unknown key", () => {
        assert.equal(stray().length, 1);
        assert.match(stray()[0]!, /unknown key "no"/);
      });
    });
  }
});
