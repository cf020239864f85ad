/**
 * Whether the PEM files of a TLS configuration are there and usable, so that a bad one stops the start and not the
 * first request.
 *
 * @module
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { createSecureContext } from "node:tls";
import type { Path } from "./faults.ts";
import { type Reading, show } from "./read.ts";

/** Names of the files, where they are given and valid so far. */
interface TlsFiles {
  readonly ca?: string | null | undefined;
  readonly cert?: string | null | undefined;
  readonly key?: string | null | undefined;
}

/**
 * Adds a fault for each file that cannot be read or is not what it should be, and for a certificate and key that do
 * not belong together.
 *
 * @param folder - where relative names start
 * @param at - path of the TLS object in the configuration
 */
export function checkTlsFiles(files: TlsFiles, folder: string, at: Path, reading: Reading): void {
  const pem = (name: "ca" | "cert" | "key", what: string, parse: (text: string) => unknown): string | undefined => {
    const given = files[name];
    if (given === null || given === undefined) return undefined;
    const file = path.resolve(folder, given);
    try {
      const text = readFileSync(file, "utf8");
      parse(text);
      return text;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      reading.fault(
        [...at, name],
        `${show(given)} cannot be used (${reason})`,
        `must be a readable PEM file with ${what}`,
      );
      return undefined;
    }
  };
  pem("ca", "certificates", (text) => new X509Certificate(text));
  const cert = pem("cert", "a certificate", (text) => new X509Certificate(text));
  const key = pem("key", "a private key without a passphrase", (text) => createPrivateKey(text));
  for (const [given, other] of [
    ["cert", "key"],
    ["key", "cert"],
  ] as const) {
    if (files[given] && !files[other]) reading.fault(at, `${given} is given without ${other}`, "give both or neither");
  }
  if (cert === undefined || key === undefined) return;
  try {
    createSecureContext({ cert, key });
  } catch {
    reading.fault([...at, "key"], `${show(files.key)} is not the key of ${show(files.cert)}`, "must belong together");
  }
}
