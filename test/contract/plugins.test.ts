/** What holds for every plugin under plugins/, whatever it does, with every forwarder. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import type { SchemaTree } from "../../src/config/leaf.ts";
import { schemaFaults } from "../../src/config/read.ts";
import type { Plugin } from "../../src/plugin/api.ts";
import { builtInNames } from "../../src/plugin/loader.ts";
import { startTestSidecar } from "../../src/testing.ts";
import { FORWARDERS } from "../support/peers.ts";
import { HOOKS, type HookPlace, MISDEEDS, type Misdeed } from "./saboteur.ts";
import { Stage, statusOf } from "./stage.ts";

/** Hooks after which the response is under way or nothing is: with `fail` there is no exchange left to fail. */
const TOO_LATE: ReadonlySet<HookPlace> = new Set([
  "filter pluginFailed",
  "filter close",
  "close downstream",
  "close upstream",
  "end",
]);

/** Hooks whose return value means something; that of others is ignored. */
const RETURNING: ReadonlySet<HookPlace> = new Set([
  "connection downstream",
  "connection upstream",
  "exchange",
  "request",
]);

async function builtIn(name: string): Promise<Plugin<unknown>> {
  const loaded: { readonly default: Plugin<unknown> } = await import(`../../plugins/${name}.ts`);
  return loaded.default;
}

/** Hooks that run once in the life of a sidecar or of a pool, and so need a sidecar each. */
const ONCE: ReadonlySet<HookPlace> = new Set(["pool", "filter close"]);

for (const name of builtInNames()) {
  describe(name, () => {
    test("refuses an unknown key in a message that names the plugin and the key", async () => {
      await assert.rejects(
        startTestSidecar({ upstream: "http://127.0.0.1:9", plugins: [{ use: name, config: { keepAliev: 1 } }] }),
        (error: Error) => error.message.includes(name) && /unknown key "keepAliev"/.test(error.message),
      );
    });

    test("documents every field, in its schema and on its page", async () => {
      const plugin = await builtIn(name);
      assert.deepEqual(schemaFaults(plugin.config as unknown as SchemaTree), []);
      const page = readFileSync(new URL(`../../docs/plugins/${name}.md`, import.meta.url), "utf8");
      const table = /<!-- options -->\n([\s\S]*?)<!-- \/options -->/.exec(page)?.[1] ?? "";
      for (const key of keysOf(plugin.config as unknown as SchemaTree)) {
        assert.ok(table.includes(`\`${key}\``), `docs/plugins/${name}.md has no row for ${key}`);
      }
    });

    for (const forwarder of FORWARDERS) {
      for (const onError of ["continue", "fail"] as const) {
        test(`${forwarder}: whatever a hook does is contained, onError ${onError}`, { timeout: 60_000 }, async (t) => {
          const stage = await Stage.open(t, forwarder, await builtIn(name), onError);
          const { saboteur } = stage;
          assert.equal(await statusOf(await stage.connect()), 200);
          for (const place of HOOKS) {
            if (ONCE.has(place)) continue;
            for (const misdeed of MISDEEDS) await assertContained(stage, place, misdeed, onError);
          }
          await stage.sidecar.stop();
          assert.deepEqual(new Set(saboteur.ends.values()), new Set([1]), "end ran once for each exchange");
          assert.deepEqual(new Set(saboteur.closes.values()), new Set([1]), "close ran once for each connection");
          assert.equal(saboteur.filterCloses, 1);
        });

        for (const misdeed of MISDEEDS) {
          test(`${forwarder}: a pool hook that ${misdeed} is contained, onError ${onError}`, async (t) => {
            const stage = await Stage.open(t, forwarder, await builtIn(name), onError);
            await assertContained(stage, "pool", misdeed, onError);
          });

          test(`${forwarder}: a filter's close that ${misdeed} is contained, onError ${onError}`, async (t) => {
            const stage = await Stage.open(t, forwarder, await builtIn(name), onError);
            const { saboteur, sidecar } = stage;
            assert.equal(await statusOf(await stage.connect()), 200);
            saboteur.orders = { place: "filter close", misdeed };
            await sidecar.stop();
            assert.equal(saboteur.done, 1);
            assert.equal(stage.logged("filter close"), misdeed === "returns nonsense" ? 0 : 1);
          });
        }
      }
    }
  });
}

/** Lets a hook misbehave, and checks what becomes of the exchange that met it and of the next one. */
async function assertContained(
  stage: Stage,
  place: HookPlace,
  misdeed: Misdeed,
  onError: "continue" | "fail",
): Promise<void> {
  const what = `${place} ${misdeed}`;
  const { saboteur } = stage;
  const before = { done: saboteur.done, logged: stage.logged(place), counted: await stage.counted(place) };
  const status = await stage.provoke(place, misdeed);
  const isFailure = misdeed !== "returns nonsense" || RETURNING.has(place);
  assert.equal(status, onError === "fail" && isFailure && !TOO_LATE.has(place) ? 500 : 200, what);
  const failures = isFailure ? saboteur.done - before.done : 0;
  assert.equal(stage.logged(place) - before.logged, failures, `${what}: failures in the log`);
  assert.equal((await stage.counted(place)) - before.counted, failures, `${what}: failures counted`);
  assert.equal(await statusOf(await stage.connect()), 200, `${what}: the exchange after it`);
}

function keysOf(schema: SchemaTree, prefix = ""): string[] {
  return Object.entries(schema).flatMap(([key, field]) =>
    typeof field === "object" && field !== null && "doc" in field
      ? [prefix + key]
      : keysOf(field as SchemaTree, `${prefix}${key}.`),
  );
}
