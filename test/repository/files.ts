/** The files of the repository. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";

/** Folder of the repository. */
export const ROOT: string = path.join(import.meta.dirname, "..", "..");

/** Paths of every file that is tracked or about to be, relative to the repository, with `/` between folders. */
export const FILES: readonly string[] = execFileSync(
  "git",
  ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
  { cwd: ROOT, encoding: "utf8" },
)
  .split("\0")
  .filter((file) => file !== "" && existsSync(path.join(ROOT, file)));

/** The content of a file, by its path in the repository. */
export function content(file: string): string {
  return readFileSync(path.join(ROOT, file), "utf8");
}

/** Files whose path matches. */
export function matching(pattern: RegExp): string[] {
  return FILES.filter((file) => pattern.test(file));
}

/** The content of a TypeScript file without its comments; strings stay. */
export function code(file: string): string {
  return content(file).replace(
    /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, text: string | undefined) => text ?? "",
  );
}
