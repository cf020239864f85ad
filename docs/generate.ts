/**
 * Writes the option tables of the docs from the schemas, between `<!-- options -->` and `<!-- /options -->` in the page
 * of each plugin, and between `<!-- options:sidecar -->`, `<!-- rules:sidecar -->` and their ends in configuration.md;
 * and the rules and presets of commands/doctor.md.
 *
 *     npm run docs
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { asLeaf, asWritten, isLeaf, type Leaf, type SchemaTree, typeName } from "../src/config/leaf.ts";
import { RULES } from "../src/config/rules.ts";
import { sidecarSchema } from "../src/config/schema.ts";
import { RULES as DOCTOR_RULES } from "../src/doctor/diagnose.ts";
import type { Preset } from "../src/doctor/preset.ts";
import { incomingText, outgoingText } from "../src/doctor/preset-text.ts";
import { PRESETS } from "../src/doctor/presets.ts";
import type { Plugin } from "../src/plugin/api.ts";
import { builtInNames } from "../src/plugin/loader.ts";

/** A page and what it should say. */
export interface Page {
  readonly file: string;
  readonly is: string;
  readonly shouldBe: string;
}

/** Every page with generated parts. */
export async function pages(): Promise<Page[]> {
  const configuration = page("configuration.md", {
    "options:sidecar": optionTable(sidecarSchema as SchemaTree, { env: true }),
    "rules:sidecar": ruleTable(),
  });
  const plugins = builtInNames().map(async (name) => {
    const { default: plugin }: { default: Plugin<unknown> } = await import(`../plugins/${name}.ts`);
    return page(`plugins/${name}.md`, { options: optionTable(plugin.config as SchemaTree, { env: false }) });
  });
  const doctor = page("commands/doctor.md", { "rules:doctor": doctorRuleTable(), "presets:doctor": presetTable() });
  return [configuration, doctor, ...(await Promise.all(plugins))];
}

function page(name: string, blocks: Readonly<Record<string, string>>): Page {
  const file = fileURLToPath(new URL(name, import.meta.url));
  const is = readFileSync(file, "utf8");
  const shouldBe = Object.entries(blocks).reduce((text, [mark, content]) => {
    const [begin, end] = [`<!-- ${mark} -->`, `<!-- /${mark.split(":")[0]} -->`];
    const from = text.indexOf(begin);
    const to = text.indexOf(end, from);
    if (from < 0 || to < 0) throw new Error(`${file} has no ${begin} … ${end}`);
    return `${text.slice(0, from + begin.length)}\n${content}${text.slice(to)}`;
  }, is);
  return { file, is, shouldBe };
}

/** The table of a schema's fields: key, type, default, meaning. */
function optionTable(schema: SchemaTree, { env }: { env: boolean }): string {
  const head = "| Key | Type | Default | Meaning |\n| --- | --- | --- | --- |\n";
  return head + rows(schema, "", env).join("");
}

function rows(schema: SchemaTree, prefix: string, env: boolean): string[] {
  return Object.entries(schema).flatMap(([name, node]) => {
    const key = prefix + name;
    if (!isLeaf(node)) return rows(node as SchemaTree, `${key}.`, env);
    const leaf = asLeaf(node);
    const inside =
      leaf.items === undefined ? [] : rows(leaf.items, key + separator(leaf), env && leaf.format === "holdfast-object");
    return [row(key, leaf, env), ...inside];
  });
}

/** What stands between the key of a container and the keys inside it. */
function separator(leaf: Leaf): string {
  switch (leaf.format) {
    case "holdfast-list":
      return "[].";
    case "holdfast-map":
      return ".<name>.";
    default:
      return ".";
  }
}

function row(key: string, leaf: Leaf, env: boolean): string {
  const variable = env && leaf.env !== undefined ? ` Environment: \`${leaf.env}\`.` : "";
  const cells = [`\`${key}\``, typeName(leaf), defaultText(leaf), String(leaf.doc).replaceAll("|", "\\|") + variable];
  return `| ${cells.join(" | ")} |\n`;
}

function defaultText(leaf: Leaf): string {
  if (leaf.default !== null) return `\`${JSON.stringify(asWritten(leaf, leaf.default)).replaceAll("|", "\\|")}\``;
  const canBeAbsent = leaf.nullable === true || leaf.format === "holdfast-object";
  return canBeAbsent ? "none" : "**required**";
}

function ruleTable(): string {
  const head = "| Rule | What must hold |\n| --- | --- |\n";
  return head + RULES.map(({ id, doc }) => `| \`${id}\` | ${doc} |\n`).join("");
}

function doctorRuleTable(): string {
  const head = "| Rule | What must hold |\n| --- | --- |\n";
  return head + DOCTOR_RULES.map(({ name, doc }) => `| \`${name}\` | ${doc} |\n`).join("");
}

function presetTable(): string {
  const head = "| Preset | What it is | Incoming connections | Outgoing connections |\n| --- | --- | --- | --- |\n";
  return head + [...PRESETS.values()].map(presetRow).join("");
}

function presetRow(preset: Preset): string {
  const { name, title, note, sources } = preset;
  const links = sources.map((source, index) => `[source${sources.length > 1 ? ` ${index + 1}` : ""}](${source})`);
  const what = [title, ...(note === undefined ? [] : [note.replace(/\.$/, "")])].join(". ");
  const described = links.length === 0 ? what : `${what}. ${links.join(", ")}`;
  return `| ${[`\`${name}\``, described, incomingText(preset), outgoingText(preset)].join(" | ")} |\n`;
}

if (import.meta.main) {
  for (const { file, is, shouldBe } of await pages()) {
    if (is !== shouldBe) writeFileSync(file, shouldBe);
  }
}
