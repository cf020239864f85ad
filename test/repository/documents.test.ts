import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { adminRoutes } from "../../src/admin/routes.ts";
import { FAILURES } from "../../src/errors.ts";
import { load } from "../../src/load.ts";
import { MemorySidecar } from "../admin/harness.ts";
import { folderWith } from "../config/folder.ts";
import { content, FILES, matching } from "./files.ts";

const DOCUMENTS = matching(/\.md$/);

/** A document without its code, where brackets mean something else. */
function prose(file: string): string {
  return content(file)
    .replace(/^```[\s\S]*?^```/gm, "")
    .replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()]/g, ""));
}

/** Where the links of a document lead. */
function links(file: string): string[] {
  return Array.from(prose(file).matchAll(/\]\(([^()\s]+)\)/g), ([, link = ""]) => link);
}

/** Anchors of a document's headings, as GitHub makes them. */
function anchors(file: string): Set<string> {
  const used = new Map<string, number>();
  const headings = content(file)
    .replace(/^```[\s\S]*?^```/gm, "")
    .matchAll(/^#{1,6} +(.+)$/gm);
  return new Set(
    Array.from(headings, ([, heading = ""]) => {
      const anchor = heading
        .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .trim()
        .replace(/\s/g, "-");
      const times = used.get(anchor) ?? 0;
      used.set(anchor, times + 1);
      return times === 0 ? anchor : `${anchor}-${times}`;
    }),
  );
}

/** The file that a link leads to, and its anchor; `undefined` for one that leaves the repository. */
function destination(file: string, link: string): { readonly file: string; readonly anchor: string } | undefined {
  if (/^[a-z][a-z0-9+.-]*:/i.test(link)) return undefined;
  const [to = "", anchor = ""] = link.split("#");
  return { file: to === "" ? file : path.posix.join(path.posix.dirname(file), to), anchor };
}

test("links lead to files and headings that are there", () => {
  let followed = 0;
  const isFolder = (name: string) => FILES.some((file) => file.startsWith(name.replace(/\/?$/, "/")));
  for (const document of DOCUMENTS) {
    for (const link of links(document)) {
      const to = destination(document, link);
      if (to === undefined) continue;
      followed++;
      assert.ok(FILES.includes(to.file) || isFolder(to.file), `${document}: ${link} leads nowhere`);
      if (to.anchor === "") continue;
      assert.ok(anchors(to.file).has(to.anchor), `${document}: there is no heading for ${link}`);
    }
  }
  assert.ok(followed > 50);
});

test("every page of docs can be reached from docs/README.md, and docs/README.md from README.md", () => {
  const reached = new Set<string>();
  const visit = (document: string): void => {
    if (reached.has(document)) return;
    reached.add(document);
    for (const link of links(document)) {
      const to = destination(document, link);
      if (to?.file.endsWith(".md") && to.file.startsWith("docs/")) visit(to.file);
    }
  };
  visit("docs/README.md");
  const pages = matching(/^docs\/.*\.md$/);
  assert.ok(pages.length > 20);
  assert.deepEqual(
    pages.filter((page) => !reached.has(page)),
    [],
  );
  assert.ok(links("README.md").some((link) => destination("README.md", link)?.file === "docs/README.md"));
});

test("every command has a page, every page a command", () => {
  const commands = Array.from(content("src/commands/main.ts").matchAll(/\.command\("(\w+)/g), ([, name]) => name);
  assert.ok(commands.length >= 3);
  const pages = matching(/^docs\/commands\/.*\.md$/).map((page) => path.basename(page, ".md"));
  assert.deepEqual(pages.filter((page) => page !== "README").sort(), commands.sort());
});

test("every built-in plugin has a page, every page a plugin", () => {
  const plugins = matching(/^plugins\/[^/]+\.ts$/).map((file) => path.basename(file, ".ts"));
  const pages = matching(/^docs\/plugins\/.*\.md$/).map((page) => path.basename(page, ".md"));
  assert.deepEqual(pages.filter((page) => page !== "README").sort(), plugins.sort());
});

test("every admin route has a page", () => {
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  for (const { method, path: route } of adminRoutes(new MemorySidecar(), log)) {
    const page = `docs/admin/${route.slice(1).replaceAll("/", "-").replaceAll(/[{}]/g, "")}.md`;
    assert.ok(FILES.includes(page) && content(page).includes(`\`${method} ${route}\``), `${method} ${route}`);
  }
});

test("docs/errors.md has every failure with its status, and no other", () => {
  const rows = content("docs/errors.md").matchAll(/^\| `(HF_\w+)` \| (\d+) \| [^|]+ \| [^|]+ \|$/gm);
  assert.deepEqual(
    Array.from(rows, ([, code, status]) => [code, Number(status)]),
    Object.entries(FAILURES).map(([code, { status }]) => [code, status]),
  );
});

test("the configuration in README.md has no faults", async (t) => {
  const [, json = ""] = /^```json\n(.*?)^```/ms.exec(content("README.md")) ?? [];
  const folder = folderWith(t, { "sidecar.json": JSON.parse(json) });
  const { plugins } = await load(path.join(folder, "sidecar.json"), {});
  assert.equal(plugins.length, 5);
});

test("the npm scripts that documents name are there", () => {
  const { scripts } = JSON.parse(content("package.json")) as { scripts: Record<string, string> };
  for (const document of DOCUMENTS) {
    for (const [, script = ""] of content(document).matchAll(/\bnpm run ([\w:-]+)/g)) {
      assert.ok(scripts[script] !== undefined, `${document}: npm run ${script}`);
    }
  }
});

test("what README.md and docs/ tell users to type runs with whatever Node.js they have: through npm, which brings ours", () => {
  const { scripts } = JSON.parse(content("package.json")) as { scripts: Record<string, string> };
  assert.equal(scripts["check"], "node src/main.ts check");
  for (const document of DOCUMENTS.filter((name) => name === "README.md" || name.startsWith("docs/"))) {
    assert.doesNotMatch(content(document), /\bnode (?:\S+ )*\S+\.ts\b/, document);
  }
});

test("files that documents name in code are there", () => {
  for (const document of DOCUMENTS) {
    for (const [, name = ""] of content(document).matchAll(
      /`((?:src|plugins|deploy|docs|bench|test|\.ci)\/[\w./-]+)`/g,
    )) {
      // What the reader fills in.
      if (name.includes("NAME")) continue;
      const file = name.replace(/\/$/, "");
      assert.ok(
        FILES.some((each) => each === file || each.startsWith(`${file}/`)),
        `${document}: ${name}`,
      );
    }
  }
});
