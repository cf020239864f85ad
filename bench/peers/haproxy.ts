/**
 * HAProxy, with one thread and Holdfast's reuse policy.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { SERVER_NAME } from "../origin/origin.ts";
import { programVersion } from "../programs.ts";
import type { Peer } from "./peer.ts";

export const haproxy: Peer = {
  name: "haproxy",
  label: "haproxy",
  debianPackage: "haproxy",
  version: () => programVersion("haproxy", "-v"),
  prepare({ folder, port, upstream }) {
    const file = path.join(folder, "haproxy.cfg");
    const tls = upstream.ca === undefined ? "" : ` ssl verify required ca-file ${upstream.ca} sni str(${SERVER_NAME})`;
    writeFileSync(
      file,
      `global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 5m
  timeout server 5m
  timeout http-keep-alive 65s
  option http-keep-alive
  option forwardfor
frontend downstream
  bind 127.0.0.1:${port} backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend origin
backend origin
  http-reuse always
  server origin ${upstream.host}:${upstream.port}${tls}
`,
    );
    return { command: ["haproxy", "-db", "-f", file] };
  },
};
