/**
 * The token of the admin API: in the configuration itself, in the environment, or in a file of its own.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Reading } from "./read.ts";

/** As much as an environment, a header and a person's patience take. */
const MAX_LENGTH = 1024;
/** Below it guessing might not take for ever. */
const MIN_LENGTH = 16;

/** Keys of `admin` that say what the token is. */
interface TokenJson {
  readonly token?: string | null | undefined;
  readonly tokenFile?: string | null | undefined;
}

/**
 * A token as `Authorization: Bearer` takes it (RFC 6750 §2.1).
 *
 * @throws TypeError that says what is allowed and never repeats the token
 */
export function parseToken(text: string): string {
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(text) || text.length < MIN_LENGTH || text.length > MAX_LENGTH) {
    throw new TypeError(
      `must be ${MIN_LENGTH} to ${MAX_LENGTH} characters out of A-Z, a-z, 0-9, "-._~+/" and "=" at the end`,
    );
  }
  return text;
}

/** Faults of the two keys together, and of the file. */
export function checkToken({ token, tokenFile }: TokenJson, folder: string, reading: Reading): void {
  if (typeof tokenFile !== "string") return;
  const at = ["admin", "tokenFile"];
  const from = reading.valueAt(at);
  const where = from?.source === "environment" && from.variable !== undefined ? { variable: from.variable } : {};
  if (typeof token === "string") {
    reading.fault(at, "stands beside admin.token", "give one of them", where);
    return;
  }
  try {
    readTokenFile(tokenFile, folder);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const allowed = code === undefined ? `what it holds ${message}` : "must be a file that can be read";
    reading.fault(
      at,
      `${JSON.stringify(tokenFile)} is not usable${code === undefined ? "" : ` (${code})`}`,
      allowed,
      where,
    );
  }
}

/** The token of a configuration that {@link checkToken} found no fault in. */
export function readToken({ token, tokenFile }: TokenJson, folder: string): string | undefined {
  if (typeof tokenFile === "string") return readTokenFile(tokenFile, folder);
  return token ?? undefined;
}

function readTokenFile(name: string, folder: string): string {
  return parseToken(readFileSync(path.resolve(folder, name), "utf8").trim());
}
