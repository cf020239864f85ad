/**
 * Whether the PEM files of a TLS configuration are there and usable, so that a bad one stops the start and not the
 * first request.
 *
 * @module
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { nodeTls } from "../node-lazy.ts";
import type { Path } from "./faults.ts";
import { type Reading, show } from "./read.ts";

/** Names of the files towards an upstream, where they are given and valid so far. */
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
  const check: FileCheck = { folder, at, reading };
  pem(check, "ca", files.ca, CERTIFICATES);
  for (const [given, other] of [
    ["cert", "key"],
    ["key", "cert"],
  ] as const) {
    if (files[given] && !files[other]) reading.fault(at, `${given} is given without ${other}`, "give both or neither");
  }
  checkPair(check, files);
}

/** Names of the files of a listener, where they are given and valid so far. */
interface ListenerFiles {
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly clientCa?: string | null | undefined;
}

/** The same for TLS on a listener. */
export function checkListenerFiles(files: ListenerFiles, folder: string, at: Path, reading: Reading): void {
  const check: FileCheck = { folder, at, reading };
  pem(check, "clientCa", files.clientCa, CERTIFICATES);
  checkPair(check, files);
}

/** What a check of files works on. */
interface FileCheck {
  readonly folder: string;
  readonly at: Path;
  readonly reading: Reading;
}

/** What a file must hold. */
interface Content {
  readonly what: string;
  readonly parse: (text: string) => unknown;
}

const CERTIFICATES: Content = { what: "certificates", parse: (text) => new X509Certificate(text) };
const CERTIFICATE: Content = { what: "a certificate", parse: (text) => new X509Certificate(text) };
const PRIVATE_KEY: Content = {
  what: "a private key without a passphrase",
  parse: (text) => createPrivateKey(text),
};

function pem(
  { folder, at, reading }: FileCheck,
  name: string,
  given: string | null | undefined,
  { what, parse }: Content,
): string | undefined {
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
}

function checkPair(check: FileCheck, files: Pick<TlsFiles, "cert" | "key">): void {
  const cert = pem(check, "cert", files.cert, CERTIFICATE);
  const key = pem(check, "key", files.key, PRIVATE_KEY);
  if (cert === undefined || key === undefined) return;
  try {
    nodeTls().createSecureContext({ cert, key });
  } catch {
    const wrong = `${show(files.key)} is not the key of ${show(files.cert)}`;
    check.reading.fault([...check.at, "key"], wrong, "must belong together");
  }
}
