/**
 * The files of a listener's TLS.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { ListenerTls } from "../../config/sidecar-config.ts";
import { nodeTls } from "../../node-lazy.ts";

/** What the files hold; all of it fits together. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | undefined;
  /** For logs: whom the certificate names and until when it is valid. */
  readonly subject: string;
  readonly validTo: string;
}

/**
 * Reads the files and checks that they can be used together.
 *
 * @throws Error with one line that says which file is wrong, and how
 */
export function readMaterial(settings: ListenerTls): TlsMaterial {
  const cert = read(settings.cert);
  const key = read(settings.key);
  const clientCa = settings.clientCa === undefined ? undefined : read(settings.clientCa);
  const leaf = parse(settings.cert, () => new X509Certificate(cert));
  if (clientCa !== undefined) parse(settings.clientCa!, () => new X509Certificate(clientCa));
  parse(`${settings.key} with ${settings.cert}`, () =>
    nodeTls().createSecureContext({ cert, key, minVersion: settings.minVersion }),
  );
  return { cert, key, clientCa, subject: leaf.subject.replaceAll("\n", ", "), validTo: leaf.validTo };
}

/** Whether both are the same text. */
export function sameMaterial(one: TlsMaterial, other: TlsMaterial): boolean {
  return one.cert === other.cert && one.key === other.key && one.clientCa === other.clientCa;
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new Error(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
  }
}

function parse<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new Error(`${file} cannot be used (${error instanceof Error ? error.message : String(error)})`, {
      cause: error,
    });
  }
}

/** Names of the files. */
export function filesOf({ cert, key, clientCa }: ListenerTls): string[] {
  return [cert, key, clientCa].filter((file) => file !== undefined);
}
