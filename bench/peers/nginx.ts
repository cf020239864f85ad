/**
 * nginx as a reverse proxy: keeps connections on both sides, writes the forwarding fields that Holdfast writes.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { SERVER_NAME } from "../origin/origin.ts";
import { programVersion } from "../programs.ts";
import type { Peer } from "./peer.ts";

export const nginx: Peer = {
  name: "nginx",
  label: "nginx",
  debianPackage: "nginx",
  version: () => programVersion("nginx", "-v"),
  prepare({ folder, port, upstream }) {
    const file = path.join(folder, "nginx.conf");
    const tls =
      upstream.ca === undefined
        ? ""
        : `proxy_ssl_verify on;
      proxy_ssl_trusted_certificate ${upstream.ca};
      proxy_ssl_name ${SERVER_NAME};
      proxy_ssl_server_name on;
      proxy_ssl_protocols TLSv1.3;`;
    writeFileSync(
      file,
      `daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${folder}/nginx.pid;
error_log stderr error;
events { worker_connections 16000; }
http {
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 65s;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  upstream origin {
    server ${upstream.host}:${upstream.port};
    keepalive 2048;
    keepalive_requests 1000000000;
    keepalive_timeout 55s;
  }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass ${upstream.scheme}://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_max_temp_file_size 0;
      ${tls}
    }
  }
}
`,
    );
    return { command: ["nginx", "-p", folder, "-c", file] };
  },
};
