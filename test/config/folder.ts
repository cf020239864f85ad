/**
 * A folder with configuration files for one test, removed after it.
 *
 * @module
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { ConfigError, faultText } from "../../src/config/faults.ts";

/** Makes the folder with these files; names may have folders in them. Objects are written as JSON. */
export function folderWith(t: TestContext, files: Readonly<Record<string, unknown>>): string {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-"));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content, undefined, 2));
  }
  return folder;
}

/** The lines of the faults that a call throws, with the folder's path taken out. */
export async function faultsOf(folder: string, call: () => unknown): Promise<string[]> {
  try {
    await call();
  } catch (error) {
    if (error instanceof ConfigError) return error.faults.map((fault) => faultText(fault).replaceAll(`${folder}/`, ""));
    throw error;
  }
  return [];
}
