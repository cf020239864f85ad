import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Loaded } from "../src/load.ts";
import { Reload, type ReloadReport } from "../src/reload.ts";

/** A configuration with these values. */
function loaded(values: Readonly<Record<string, unknown>>): Loaded {
  const list = Object.entries(values).map(([key, value]) => ({ key, value, source: "file", variable: undefined }));
  return { loaded: { config: {}, values: list }, plugins: [] } as unknown as Loaded;
}

interface Setting {
  readonly reload: Reload;
  readonly reports: ReloadReport[];
  /** How each reading is to go on, in their order. */
  readonly loads: PromiseWithResolvers<Loaded>[];
  /** Resolves once so many have begun to read. */
  begun(count: number): Promise<void>;
  current: Loaded;
}

function setting(before: Readonly<Record<string, unknown>>): Setting {
  const loads: PromiseWithResolvers<Loaded>[] = [];
  const reports: ReloadReport[] = [];
  const made: Setting = {
    reload: new Reload({
      load() {
        const next = Promise.withResolvers<Loaded>();
        loads.push(next);
        return next.promise;
      },
      current: () => made.current,
      isRunning: () => true,
      async adopt(next) {
        made.current = next;
      },
      onOver: (report) => reports.push(report),
      log: { info() {}, error() {} },
    }),
    reports,
    loads,
    async begun(count) {
      while (loads.length < count) await Promise.resolve();
    },
    current: loaded(before),
  };
  return made;
}

test("a key that nobody knows to change live needs a restart", async () => {
  const { reload, loads, begun } = setting({ "limits.head": "64KiB", "learning.file": "a" });
  const report = reload.run("admin");
  await begun(1);
  loads[0]!.resolve(loaded({ "limits.head": "32KiB", "learning.file": "b", "logging.way": "new" }));
  const { result, changed, faults } = await report;
  assert.equal(result, "needs_restart");
  assert.deepEqual(changed, ["limits.head", "learning.file", "logging.way"]);
  assert.deepEqual(faults, [
    "learning.file: another value needs a restart",
    "logging.way: another value needs a restart",
  ]);
});

test("reading that never ends is given up after 30 s, and the next reload goes on", async (t: TestContext) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { reload, loads, begun, reports } = setting({ "limits.head": "64KiB" });
  const first = reload.run("file");
  await begun(1);
  const second = reload.run("SIGHUP");
  t.mock.timers.tick(30_000);
  assert.deepEqual([(await first).result, (await first).faults], ["invalid", ["reading it took over 30 s"]]);
  await begun(2);
  loads[1]!.resolve(loaded({ "limits.head": "32KiB" }));
  assert.deepEqual([(await second).result, (await second).trigger], ["applied", "SIGHUP"]);
  assert.equal(reload.last, await second);
  assert.equal(reports.length, 2);
});

test("whoever asks while one waits is served by it; whoever asks while one runs is not", async () => {
  const { reload, loads, begun } = setting({});
  const running = reload.run("admin");
  await begun(1);
  const waiting = reload.run("file");
  const shared = reload.run("SIGHUP");
  assert.equal(shared, waiting);
  loads[0]!.resolve(loaded({ "limits.head": "1KiB" }));
  assert.equal((await running).trigger, "admin");
  await begun(2);
  loads[1]!.resolve(loaded({ "limits.head": "2KiB" }));
  assert.deepEqual([(await shared).trigger, (await shared).changed], ["file", ["limits.head"]]);
  assert.equal(loads.length, 2);
});
