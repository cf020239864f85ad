/**
 * The files of TLS towards an upstream.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import type { UpstreamTls } from "../../config/sidecar-config.ts";
import { nodeTls } from "../../node-lazy.ts";
import type { TlsOrigin } from "../connect.ts";

/** What the files hold, and what else is set. Two that are deeply equal mean the same. */
export interface UpstreamTlsMaterial {
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  readonly serverName: string | undefined;
}

/** For an origin without settings of its own: the system's authorities, no certificate of ours. */
export const NO_MATERIAL: UpstreamTlsMaterial = {
  ca: undefined,
  cert: undefined,
  key: undefined,
  serverName: undefined,
};

/** @throws Error when a file cannot be read */
export function readUpstreamMaterial({ ca, cert, key, serverName }: UpstreamTls): UpstreamTlsMaterial {
  const read = (file: string | undefined): Buffer | undefined => (file === undefined ? undefined : readFileSync(file));
  // Now, when a configuration is taken, and not when an exchange waits for it.
  nodeTls();
  return { ca: read(ca), cert: read(cert), key: read(key), serverName };
}

/** What connections of one pool share. */
export function tlsOrigin({ ca, cert, key, serverName }: UpstreamTlsMaterial): TlsOrigin {
  return {
    context: nodeTls().createSecureContext({
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      minVersion: "TLSv1.2",
    }),
    serverName,
    session: undefined,
  };
}
