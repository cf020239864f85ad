import assert from "node:assert/strict";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { load } from "../../src/load.ts";
import { builtInNames, type LoadedPlugin } from "../../src/plugin/loader.ts";
import { faultsOf, folderWith } from "../config/folder.ts";

const API = JSON.stringify(new URL("../../src/plugin/api.ts", import.meta.url).href);
const BUILT_INS = fileURLToPath(new URL("../../plugins/", import.meta.url));

/** Source of a plugin; parts replace those of a plugin that works. */
function source(parts: Readonly<Record<string, string>> = {}): string {
  const all = { name: '"own"', apiVersion: "1", description: '"d"', config: "{}", setup: "() => ({})", ...parts };
  return `export default { ${Object.entries(all)
    .map(([key, value]) => `${key}: ${value}`)
    .join(", ")} };`;
}

function configuration(...plugins: unknown[]): object {
  return { service: "orders", inbound: { upstream: "http://127.0.0.1:8080" }, plugins };
}

async function loading(
  t: TestContext,
  files: Record<string, unknown>,
  ...plugins: unknown[]
): Promise<readonly LoadedPlugin[]> {
  const folder = folderWith(t, { ...files, "sidecar.json": configuration(...plugins) });
  return (await load(path.join(folder, "sidecar.json"), {})).plugins;
}

function faults(t: TestContext, files: Record<string, unknown>, ...plugins: unknown[]): Promise<string[]> {
  const folder = folderWith(t, { ...files, "sidecar.json": configuration(...plugins) });
  return faultsOf(folder, () => load(path.join(folder, "sidecar.json"), {}));
}

test("every built-in plugin loads by its name, with its defaults", async (t) => {
  const names = builtInNames();
  for (const name of [
    "connection-close-on-logout",
    "connection-limits",
    "idle-timeout",
    "keep-alive",
    "tcp-keepalive",
  ]) {
    assert.ok(names.includes(name), name);
  }
  const plugins = await loading(t, {}, ...names.map((name) => ({ use: name })));
  assert.deepEqual(
    plugins.map(({ plugin }) => plugin.name),
    names,
  );
  const idleTimeout = plugins.find(({ plugin }) => plugin.name === "idle-timeout")?.config;
  assert.partialDeepStrictEqual(idleTimeout, { downstream: 65_000, margin: 5000 });
});

test("a path starts from the folder of sidecar.json, TypeScript or JavaScript, or from the root", async (t) => {
  const elsewhere = folderWith(t, { "three.mjs": source({ name: '"three"' }) });
  const folder = folderWith(t, {
    "conf/one.ts": `import { definePlugin, duration } from ${API};
      export default definePlugin({ name: "one", apiVersion: 1, description: "d",
        config: { wait: duration("5s", "d") }, setup: ({ config }): object => ({ wait: config.wait }) });`,
    "two.js": source({ name: '"two"' }),
    "conf/sidecar.json": configuration(
      { use: "./one.ts", config: { wait: "90s" } },
      { use: "../two.js" },
      { use: path.join(elsewhere, "three.mjs") },
    ),
  });
  const { plugins } = await load(path.join(folder, "conf", "sidecar.json"), {});
  assert.deepEqual(
    plugins.map(({ plugin }) => plugin.name),
    ["one", "two", "three"],
  );
  assert.deepEqual(plugins[0]?.config, { wait: 90_000 });
});

test("an npm package is found from the folder of sidecar.json, whatever form its exports have", async (t) => {
  const plugins = await loading(
    t,
    {
      "node_modules/import-only/package.json": {
        name: "import-only",
        type: "module",
        exports: { import: "./lib/x.js" },
      },
      "node_modules/import-only/lib/x.js": source({ name: '"import-only"' }),
      "node_modules/@scope/sub/package.json": { name: "@scope/sub", exports: { "./plugin": "./p.mjs" } },
      "node_modules/@scope/sub/p.mjs": source({ name: '"sub"' }),
      "node_modules/common/package.json": { name: "common", main: "index.js" },
      "node_modules/common/index.js": source({ name: '"common"' }).replace("export default", "module.exports ="),
      "node_modules/transpiled/package.json": { name: "transpiled" },
      "node_modules/transpiled/index.js": `exports.__esModule = true; ${source({ name: '"transpiled"' }).replace("export default", "exports.default =")}`,
    },
    { use: "import-only" },
    { use: "@scope/sub/plugin" },
    { use: "common" },
    { use: "transpiled" },
  );
  assert.deepEqual(
    plugins.map(({ plugin }) => plugin.name),
    ["import-only", "sub", "common", "transpiled"],
  );
});

test("what is not found is answered with every place that was tried", async (t) => {
  assert.deepEqual(await faults(t, {}, { use: "./own.js" }), [
    'sidecar.json:8:14: plugins[0].use: "./own.js" is not there; tried the file own.js',
  ]);
  const [line = ""] = await faults(t, {}, { use: "idle-timout" });
  assert.ok(
    line.startsWith(
      `sidecar.json:8:14: plugins[0].use: no plugin is named "idle-timout"; did you mean "idle-timeout"? tried the built-in ${BUILT_INS}idle-timout.ts, the built-in ${BUILT_INS}idle-timout/index.ts, the npm package from `,
    ),
    line,
  );
  assert.match(line, /\(Cannot find package 'idle-timout'/);
  const [scoped = ""] = await faults(t, {}, { use: "@acme/limits" });
  assert.match(
    scoped,
    /no plugin is named "@acme\/limits"; tried the npm package from .*Cannot find package '@acme\/limits'/,
  );
});

test("a package that exists but does not export what is asked for says so", async (t) => {
  const files = { "node_modules/closed/package.json": { name: "closed", exports: { "./other": "./x.js" } } };
  const [line = ""] = await faults(t, files, { use: "closed" });
  assert.match(line, /no plugin is named "closed"; tried .* \(No "exports" main defined/);
});

test("TypeScript in a package is refused with the reason", async (t) => {
  const files = {
    "node_modules/typed/package.json": { name: "typed", type: "module", exports: "./x.ts" },
    "node_modules/typed/x.ts": source(),
  };
  const [line = ""] = await faults(t, files, { use: "typed" });
  assert.match(
    line,
    /cannot be loaded: .*; Node\.js runs no TypeScript under node_modules: the package must contain JavaScript$/,
  );
});

test("a module that throws or is not a plugin is a fault that names its file", async (t) => {
  const files = {
    "throws.js": 'throw new Error("no licence\\nin sight");',
    "nothing.js": "export const plugin = 1;",
    "future.js": source({ apiVersion: "2" }),
    "unversioned.js": "export default { name: 'unversioned' };",
    "hollow.js": source({
      name: '""',
      description: "5",
      setup: "undefined",
      after: '"keep-alive"',
      config: "undefined",
    }),
    "bare.js": source({
      config: '{ key: { default: 1, format: "nat" }, odd: { default: 1, format: "furlongs", doc: "d" } }',
    }),
  };
  const lines = await faults(t, files, ...Object.keys(files).map((name) => ({ use: `./${name}` })));
  assert.deepEqual(lines, [
    'sidecar.json:8:14: plugins[0].use: "./throws.js" (throws.js) cannot be loaded: no licence; must be a JavaScript module that can be imported',
    'sidecar.json:11:14: plugins[1].use: "./nothing.js" (nothing.js) has no plugin as its default export; see docs/writing-plugins.md',
    'sidecar.json:14:14: plugins[2].use: "./future.js" (future.js) is written for version 2 of the plugin API; this Holdfast has version 1',
    'sidecar.json:17:14: plugins[3].use: "./unversioned.js" (unversioned.js) has no apiVersion; apiVersion must be 1',
    'sidecar.json:20:14: plugins[4].use: "./hollow.js" (hollow.js) has no name; name must be a string',
    'sidecar.json:20:14: plugins[4].use: "./hollow.js" (hollow.js) has no description; description must be one line of text',
    'sidecar.json:20:14: plugins[4].use: "./hollow.js" (hollow.js) has no setup; setup must be a function',
    'sidecar.json:20:14: plugins[4].use: "./hollow.js" (hollow.js) has a wrong after; after must be a list of plugin names',
    'sidecar.json:20:14: plugins[4].use: "./hollow.js" (hollow.js) has no config; config must be a convict schema; {} when there is nothing to configure',
    'sidecar.json:23:14: plugins[5].use: "./bare.js" (bare.js) has a wrong config schema: key has no doc; every field needs a doc, a known format and a valid default',
    'sidecar.json:23:14: plugins[5].use: "./bare.js" (bare.js) has a wrong config schema: odd: it uses an unknown format type: furlongs; every field needs a doc, a known format and a valid default',
  ]);
});

test("a name that is listed twice, and an after that does not hold, stop the start", async (t) => {
  const files = { "own.js": source({ after: '["keep-alive", "not-listed"]' }) };
  assert.deepEqual(await faults(t, files, { use: "./own.js" }, { use: "keep-alive" }, { use: "keep-alive" }), [
    'sidecar.json:7:5: plugins[0] (own): must stand after "keep-alive" (plugins[1]); move it down: plugins see requests in the order of the list',
    'sidecar.json:14:14: plugins[2] (keep-alive): a plugin named "keep-alive" is already listed; keep this one or plugins[1]',
  ]);
  assert.equal((await loading(t, files, { use: "keep-alive" }, { use: "./own.js" })).length, 2);
});

test("every fault of every plugin's configuration is shown, with those of the file, in its order", async (t) => {
  const folder = folderWith(t, {
    "sidecar.json": {
      service: "orders",
      inbound: { upstream: "http://127.0.0.1:8080" },
      plugins: [
        { use: "idle-timeout", config: { downstrem: "65s", underLoad: { timeout: 10, conections: 1 } } },
        { use: "keep-alive", directions: ["sideways"] },
        { use: "connection-close-on-logout", config: { match: [{ path: "/logout" }, { pth: "/x" }] } },
      ],
      log: { level: "loud" },
    },
  });
  const lines = await faultsOf(folder, () => load(path.join(folder, "sidecar.json"), {}));
  assert.deepEqual(lines, [
    'sidecar.json:10:9: plugins[0] (idle-timeout): unknown key "downstrem"; did you mean "downstream"?',
    'sidecar.json:12:22: plugins[0] (idle-timeout) underLoad.timeout: 10 is not valid; must be a duration with a unit: "250ms", "55s", "5m", "1h" or "off"',
    'sidecar.json:13:11: plugins[0] (idle-timeout) underLoad: unknown key "conections"; did you mean "connections"?',
    'sidecar.json:19:21: plugins[1].directions: ["sideways"] is not valid; must be a list of different words out of "inbound", "outbound"',
    "sidecar.json:30:11: plugins[2] (connection-close-on-logout) match[1].path: is missing; must be given here: Path of the request as it is sent to the upstream, after other plugins have edited it.",
    'sidecar.json:31:13: plugins[2] (connection-close-on-logout) match[1]: unknown key "pth"; did you mean "path"?',
    'sidecar.json:38:14: log.level: "loud" is not valid; must be one of "trace", "debug", "info", "warn", "error", "silent"',
  ]);
});

test("a fault of an entry hides none of its plugin's", async (t) => {
  const lines = await faults(
    t,
    {},
    { use: "keepalive", onError: "ignore" },
    { use: "keep-alive", directions: ["sideways"], config: { downstrem: {} } },
    { use: "keep-alive", configuration: {} },
    { use: 5 },
    { use: "idle-timeout", config: 5 },
  );
  assert.deepEqual(
    lines.map((line) => line.slice(line.indexOf("plugins")).split(";")[0]),
    [
      'plugins[0].use: no plugin is named "keepalive"',
      'plugins[0].onError: "ignore" is not valid',
      'plugins[1].directions: ["sideways"] is not valid',
      'plugins[1] (keep-alive): unknown key "downstrem"',
      'plugins[2] (keep-alive): a plugin named "keep-alive" is already listed',
      'plugins[2]: unknown key "configuration"',
      "plugins[3].use: 5 is not valid",
      "plugins[4].config: 5 is not valid",
    ],
  );
});

test("a plugin's own variables outrank its entry, and its secrets are marked", async (t) => {
  const config = `{ token: { default: "", format: String, sensitive: true, env: "OWN_TOKEN", doc: "d" },
    size: { default: 1, format: "nat", doc: "d" } }`;
  const folder = folderWith(t, {
    "own.js": source({ config }),
    "sidecar.json": configuration({ use: "./own.js", config: { token: "from-file", size: 2 } }),
  });
  const { plugins, loaded } = await load(path.join(folder, "sidecar.json"), { OWN_TOKEN: "from-environment" });
  assert.deepEqual(plugins[0]?.config, { token: "from-environment", size: 2 });
  const own = loaded.values.filter(({ key }) => key.startsWith("plugins[0].config"));
  assert.deepEqual(
    own.map(({ key, value, source: from, secret }) => ({ key, value, from, secret })),
    [
      { key: "plugins[0].config.token", value: "from-environment", from: "environment", secret: true },
      { key: "plugins[0].config.size", value: 2, from: "file", secret: false },
    ],
  );
});

test('what a plugin imports as "holdfast/plugin" is this very Holdfast, wherever the plugin lies', async (t) => {
  const own = `
    import { definePlugin, duration } from "holdfast/plugin";
    import * as api from "holdfast/plugin";
    import * as running from ${API};
    if (api !== running) throw new Error("another Holdfast");
    export default definePlugin({
      name: "own", apiVersion: 1, description: "d", config: { every: duration("2s", "How often.") }, setup: () => ({}),
    });`;
  const files = {
    "plugin.mjs": own,
    "node_modules/packaged/package.json": { name: "packaged", exports: "./index.mjs" },
    "node_modules/packaged/index.mjs": own.replace('name: "own"', 'name: "packaged"'),
    // A copy beside it is not used: plugin and Holdfast would talk past each other.
    "node_modules/holdfast/package.json": { name: "holdfast", exports: { "./plugin": "./plugin.mjs" } },
    "node_modules/holdfast/plugin.mjs": "throw new Error('the copy')",
  };
  const plugins = await loading(t, files, { use: "./plugin.mjs" }, { use: "packaged" });
  assert.deepEqual(
    plugins.map(({ config }) => config),
    [{ every: 2000 }, { every: 2000 }],
  );
});

test("a module in a folder that package.json calls CommonJS: the message says what to change, and Node.js adds no warning", async (t) => {
  const warnings: Error[] = [];
  const listener = (warning: Error): void => void warnings.push(warning);
  process.on("warning", listener);
  t.after(() => process.off("warning", listener));
  for (const [name, other] of [
    ["own.ts", "own.mts"],
    ["own.js", "own.mjs"],
  ] as const) {
    const folder = folderWith(t, {
      "package.json": { type: "commonjs" },
      [name]: `import "node:fs";\n${source()}`,
      "sidecar.json": configuration({ use: `./${name}` }),
    });
    assert.deepEqual(await faultsOf(folder, () => load(path.join(folder, "sidecar.json"), {})), [
      `sidecar.json:8:14: plugins[0].use: "./${name}" (${name}) cannot be loaded: it is written as an ES module, and package.json says "type": "commonjs"; name it ${other}, or say "type": "module" in that package.json`,
    ]);
  }
  const plugins = await loading(
    t,
    {
      "package.json": { type: "commonjs" },
      "own.mts": source({ name: '"typed"' }),
      "own.js": source({ name: '"common"' }).replace("export default", "module.exports ="),
    },
    { use: "./own.mts" },
    { use: "./own.js" },
  );
  assert.deepEqual(
    plugins.map(({ plugin }) => plugin.name),
    ["typed", "common"],
  );
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, []);
});
