/**
 * The proxies that the torture is run on, each as its users would set it up: connections to the origin are kept and
 * reused, and what is sent again is what the program sends again by itself.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** A proxy under torture. */
export interface Subject {
  readonly name: string;
  /** What it is, or `undefined` when it is not there. */
  version(): string | undefined;
  /** Writes its configuration; returns the command that runs it. */
  prepare(folder: string, port: number, originPort: number): readonly string[];
}

export const SUBJECTS: readonly Subject[] = [
  holdfast("wire"),
  holdfast("http-proxy-3"),
  {
    name: "nginx",
    version: () => versionOf("nginx", "-v"),
    prepare(folder, port, originPort) {
      const file = path.join(folder, "nginx.conf");
      writeFileSync(
        file,
        `daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log crit;
events { worker_connections 1000; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  upstream origin { server 127.0.0.1:${originPort} max_fails=0; keepalive 200; }
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`,
      );
      return ["nginx", "-p", folder, "-c", file];
    },
  },
  {
    name: "haproxy",
    version: () => versionOf("haproxy", "-v"),
    prepare(folder, port, originPort) {
      const file = path.join(folder, "haproxy.cfg");
      writeFileSync(
        file,
        `global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  retries 3
frontend torture
  bind 127.0.0.1:${port}
  default_backend origin
backend origin
  http-reuse always
  server origin 127.0.0.1:${originPort}
`,
      );
      return ["haproxy", "-db", "-f", file];
    },
  },
];

function holdfast(forwarder: "wire" | "http-proxy-3"): Subject {
  return {
    name: `holdfast (${forwarder})`,
    version: () => `on Node.js ${process.versions.node}`,
    prepare(folder, port, originPort) {
      const file = path.join(folder, "sidecar.json");
      writeFileSync(
        file,
        JSON.stringify({
          service: "torture",
          forwarder,
          inbound: { listen: `127.0.0.1:${port}`, upstream: `http://127.0.0.1:${originPort}` },
          admin: { listen: "127.0.0.1:0" },
          plugins: [{ use: "keep-alive" }, { use: "idle-timeout" }],
          telemetry: { traces: { exporters: [] } },
          log: { level: "warn", access: true },
        }),
      );
      return [process.execPath, MAIN, "run", "--config", file];
    },
  };
}

function versionOf(program: string, option: string): string | undefined {
  try {
    const text = execFileSync("sh", ["-c", `PATH="$PATH:/usr/sbin" ${program} ${option} 2>&1`], { encoding: "utf8" });
    return /\d+\.\d+(?:\.\d+)?/.exec(text)?.[0];
  } catch {
    return undefined;
  }
}
