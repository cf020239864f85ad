/**
 * Version of this package.
 *
 * @module
 */
import { readFileSync } from "node:fs";

/** From package.json, which stands one folder above the sources and two above the built files. */
function readVersion(): string {
  for (const path of ["../package.json", "../../package.json"]) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8")) as Record<
        string,
        string
      >;
      if (name === "holdfast" && version !== undefined) return version;
    } catch {
      // Not here: look further up.
    }
  }
  throw new Error("package.json of holdfast not found");
}

export const VERSION: string = readVersion();
