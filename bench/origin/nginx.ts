/**
 * nginx as an origin.
 *
 * @module
 */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { LARGE, SMALL } from "./answers.ts";
import type { OriginSettings } from "./origin.ts";

/** Writes nginx.conf and what it serves; returns the path of nginx.conf. */
export function writeNginxConfiguration({ folder, port, tls }: OriginSettings): string {
  const files = path.join(folder, "files");
  mkdirSync(files);
  writeFileSync(path.join(files, "large"), LARGE);
  const file = path.join(folder, "nginx.conf");
  const secure =
    tls === undefined
      ? ""
      : `listen 127.0.0.1:${tls.port} ssl backlog=4096;
    ssl_certificate ${tls.cert};
    ssl_certificate_key ${tls.key};
    ssl_protocols TLSv1.3;`;
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
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    ${secure}
    root ${files};
    location = /small {
      default_type application/json;
      return 200 '${Buffer.from(SMALL).toString()}';
    }
    location = /large {
      default_type application/octet-stream;
      open_file_cache max=4;
    }
  }
}
`,
  );
  return file;
}
