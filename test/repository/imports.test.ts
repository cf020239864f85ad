import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { code, matching } from "./files.ts";

interface Import {
  /** As written. */
  readonly specifier: string;
  /** File in the repository; `undefined` for a package or a built-in module. */
  readonly file: string | undefined;
  /** Gone at run time. */
  readonly isType: boolean;
}

const IMPORT =
  /^(?:import|export)\s+(?<type>type\s+)?(?:[\w*{}\s,$]+?\sfrom\s+)?"(?<specifier>[^"]+)";?|\bimport\("(?<late>[^"]+)"\)/gm;

function importsOf(file: string): Import[] {
  return Array.from(code(file).matchAll(IMPORT), ({ groups = {} }) => {
    const specifier = groups["specifier"] ?? groups["late"]!;
    return {
      specifier,
      file: specifier.startsWith(".") ? path.posix.join(path.posix.dirname(file), specifier) : undefined,
      isType: groups["type"] !== undefined,
    };
  });
}

const SOURCES = matching(/^(?:src|plugins)\/.*\.ts$/);
const IMPORTS = new Map(SOURCES.map((file) => [file, importsOf(file)]));

test("the imports were read: every file but the entry points is imported by another", () => {
  const imported = new Set([...IMPORTS.values()].flat().map(({ file }) => file));
  const entries = SOURCES.filter((file) => !imported.has(file));
  // Plugins are loaded by name, the demo's processes by path; the package exports testing.ts.
  const expected = SOURCES.filter((file) =>
    /^(?:src\/main|src\/testing|plugins\/[^/]+|src\/commands\/demo\/end-with-demo|src\/commands\/demo\/services\/(?:orders|inventory))\.ts$/.test(
      file,
    ),
  );
  assert.deepEqual(entries.sort(), expected.sort());
});

test("every relative import names a file that is there", () => {
  for (const [file, imports] of IMPORTS) {
    for (const { file: imported, specifier } of imports) {
      if (imported !== undefined) assert.ok(SOURCES.includes(imported), `${file} imports ${specifier}`);
    }
  }
});

test("http-proxy-3 is imported in its own folder only", () => {
  const importers = SOURCES.filter((file) =>
    IMPORTS.get(file)!.some(({ specifier }) => /^http-proxy-3(?:\/|$)/.test(specifier)),
  );
  assert.ok(importers.length > 0);
  for (const file of importers) assert.match(file, /^src\/proxy\/http-proxy-3\//);
});

test("plugins import the public API, their own files and Node.js, and nothing else", () => {
  const plugins = matching(/^plugins\/.*\.ts$/);
  assert.ok(plugins.length >= 5);
  for (const file of plugins) {
    const own = file.replace(/^plugins\/([^/.]+).*$/, "plugins/$1/");
    for (const { specifier, file: imported } of IMPORTS.get(file)!) {
      const allowed =
        imported === undefined
          ? specifier.startsWith("node:")
          : imported === "src/plugin/api.ts" || imported.startsWith(own);
      assert.ok(allowed, `${file} imports ${specifier}`);
    }
  }
});

test("only main.ts and commands touch the process: its arguments, environment, streams, signals and exit", () => {
  const pattern = /\bprocess\.(?:argv|env|std(?:in|out|err)|on|once|off|exit\w*|kill|abort|cwd|chdir|title|umask)\b/;
  for (const file of SOURCES) {
    if (file === "src/main.ts" || file.startsWith("src/commands/")) continue;
    assert.doesNotMatch(code(file), pattern, file);
    assert.ok(!IMPORTS.get(file)!.some(({ specifier }) => specifier === "node:process"), file);
  }
});

/** From the lowest to the highest; the first pattern that fits a file says where it belongs. */
const LAYERS: readonly (readonly [name: string, files: RegExp])[] = [
  [
    "ground",
    /^src\/(?:errors|version|log|log-destination|node-http|node-lazy|proxy\/(?:headers|grammar\/characters))\.ts$/,
  ],
  ["learning", /^src\/learning\/.*\.ts$/],
  ["configuration", /^src\/(?:config\/.*|plugin\/schema)\.ts$/],
  ["plugin host", /^src\/plugin\/.*\.ts$/],
  ["proxy", /^src\/proxy\/(?!http-proxy-3\/|wire\/).*\.ts$/],
  ["http-proxy-3 forwarder", /^src\/proxy\/http-proxy-3\/.*\.ts$/],
  ["wire forwarder", /^src\/proxy\/wire\/.*\.ts$/],
  ["telemetry", /^src\/telemetry\/.*\.ts$/],
  ["admin", /^src\/admin\/.*\.ts$/],
  ["composition", /^src\/(?:load|filters|generation|reload|sidecar|testing)\.ts$/],
  ["probe", /^src\/probe\/.*\.ts$/],
  ["doctor", /^src\/doctor\/.*\.ts$/],
  ["commands", /^src\/commands\/.*\.ts$/],
  ["entry", /^src\/main\.ts$/],
];

function layer(file: string): number {
  const index = LAYERS.findIndex(([, files]) => files.test(file));
  assert.notEqual(index, -1, `${file} belongs to no layer; add it to LAYERS`);
  return index;
}

test("imports run downward only", () => {
  for (const [file, imports] of IMPORTS) {
    if (file.startsWith("plugins/")) continue;
    for (const { file: imported, isType } of imports) {
      // Types are gone at run time; the public API's are everybody's words.
      if (imported === undefined || isType) continue;
      const [from, to] = [layer(file), layer(imported)];
      assert.ok(to <= from, `${file} (${LAYERS[from]![0]}) imports ${imported} (${LAYERS[to]![0]})`);
    }
  }
});

test("there are no import cycles", () => {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    if (done.has(file)) return;
    assert.ok(!path.includes(file), `${[...path.slice(path.indexOf(file)), file].join(" → ")}`);
    path.push(file);
    for (const { file: imported, isType } of IMPORTS.get(file) ?? []) {
      if (imported !== undefined && !isType) visit(imported);
    }
    path.pop();
    done.add(file);
  };
  for (const file of SOURCES) visit(file);
});
