/**
 * Caddy as a reverse proxy. It keeps 32 idle upstream connections unless told otherwise.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { SERVER_NAME } from "../origin/origin.ts";
import { programVersion } from "../programs.ts";
import type { Peer } from "./peer.ts";

export const caddy: Peer = {
  name: "caddy",
  label: "caddy",
  debianPackage: "caddy",
  version: () => programVersion("caddy", "version"),
  prepare({ folder, port, upstream }) {
    const file = path.join(folder, "Caddyfile");
    const tls =
      upstream.ca === undefined
        ? ""
        : `tls_trusted_ca_certs ${upstream.ca}
      tls_server_name ${SERVER_NAME}`;
    writeFileSync(
      file,
      `{
  admin off
  auto_https off
  log {
    level ERROR
  }
}
http://:${port} {
  bind 127.0.0.1
  reverse_proxy ${upstream.scheme}://${upstream.host}:${upstream.port} {
    transport http {
      keepalive 55s
      keepalive_idle_conns 4096
      keepalive_idle_conns_per_host 2048
      ${tls}
    }
  }
}
`,
    );
    return {
      command: ["caddy", "run", "--config", file, "--adapter", "caddyfile"],
      env: { XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder },
    };
  },
};
