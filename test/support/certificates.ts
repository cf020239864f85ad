/** Certificates for tests, made anew each time: an authority and what it vouches for. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { generate } from "selfsigned";

const DAY_MS = 86_400_000;

/** A certificate with its key, as PEM text. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** What a certificate is for. */
export interface CertificateOptions {
  readonly name: string;
  /** Addresses or host names it is valid for. */
  readonly hosts?: readonly string[];
  readonly expired?: boolean;
}

/** An authority. */
export interface Authority {
  readonly cert: string;
  issue(options: CertificateOptions): Promise<Pair>;
}

/** Makes an authority. */
export async function authority(name: string): Promise<Authority> {
  const ca = await generate([{ name: "commonName", value: name }], {
    keyType: "ec",
    algorithm: "sha256",
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  return {
    cert: ca.cert,
    async issue({ name: subject, hosts = [], expired = false }) {
      const nowMs = Date.now();
      const issued = await generate([{ name: "commonName", value: subject }], {
        keyType: "ec",
        algorithm: "sha256",
        ca: { key: ca.private, cert: ca.cert },
        notBeforeDate: new Date(nowMs - 2 * DAY_MS),
        notAfterDate: new Date(nowMs + (expired ? -DAY_MS : DAY_MS)),
        extensions: [
          { name: "basicConstraints", cA: false, critical: true },
          { name: "keyUsage", digitalSignature: true, critical: true },
          { name: "extKeyUsage", serverAuth: true, clientAuth: true },
          {
            name: "subjectAltName",
            altNames: hosts.map((host) =>
              /^[\d.]+$/.test(host) ? { type: 7 as const, ip: host } : { type: 2 as const, value: host },
            ),
          },
        ],
      });
      return { cert: issued.cert, key: issued.private };
    },
  };
}

/** Writes a PEM file and returns its path. */
export function writePem(folder: string, name: string, text: string): string {
  const file = path.join(folder, name);
  writeFileSync(file, text);
  return file;
}
