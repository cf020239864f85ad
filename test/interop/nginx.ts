/** nginx as upstream: with a configuration of its own, on a free port, in the foreground. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { authority } from "../support/certificates.ts";
import { environment } from "./programs.ts";

/** A running nginx. */
export interface Nginx {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** `https://localhost:PORT` */
  readonly secureUrl: string;
  /** File of the authority that vouches for its certificate. */
  readonly authority: string;
  /** What it logged of each request so far. */
  requests(): NginxRequest[];
  /** Resolves with what it logged once there are this many requests. */
  logged(count: number): Promise<NginxRequest[]>;
}

/** One request as nginx saw it. */
export interface NginxRequest {
  /** Serial number of its connection. */
  readonly connection: number;
  /** Place on that connection, from 1. */
  readonly index: number;
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly status: number;
  readonly secure: boolean;
  readonly fields: {
    readonly host: string;
    readonly connection: string;
    readonly upgrade: string;
    readonly http2Settings: string;
    readonly proxyConnection: string;
    readonly via: string;
  };
}

/**
 * Starts nginx; it is killed when the test ends.
 *
 * - `/echo` answers with the request's body in `X-Body` and its length in `X-Body-Length`;
 * - `/files/` takes and gives files (WebDAV);
 * - everything else answers `METHOD TARGET`.
 *
 * Each answer has `X-Connection` and `X-Connection-Requests`: nginx's own count.
 */
export async function startNginx(t: TestContext): Promise<Nginx> {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-nginx-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(path.join(folder, "www", "files"), { recursive: true });
  const authorityFile = await makeCertificate(folder);
  // Between choosing a port and binding it another process may take it.
  for (let attempt = 1; ; attempt++) {
    const [port, securePort] = await freePorts();
    writeFileSync(path.join(folder, "nginx.conf"), configuration(folder, port, securePort));
    try {
      await start(t, folder, port);
    } catch (error) {
      if (attempt < 5 && String(error).includes("Address already in use")) continue;
      throw error;
    }
    const requests = (): NginxRequest[] => parseLog(readFileSync(path.join(folder, "access.log"), "utf8"));
    return {
      url: `http://127.0.0.1:${port}`,
      secureUrl: `https://localhost:${securePort}`,
      authority: authorityFile,
      requests,
      async logged(count) {
        // nginx writes its line after the last byte of the answer.
        for (;;) {
          const found = requests();
          if (found.length >= count) return found;
          await sleep(2);
        }
      },
    };
  }
}

/** @returns the file of the authority that vouches for it */
async function makeCertificate(folder: string): Promise<string> {
  const { cert: trusted, issue } = await authority("Holdfast tests");
  const { cert, key } = await issue({ name: "localhost", hosts: ["localhost"] });
  writeFileSync(path.join(folder, "certificate.pem"), cert);
  writeFileSync(path.join(folder, "key.pem"), key);
  const file = path.join(folder, "authority.pem");
  writeFileSync(file, trusted);
  return file;
}

async function freePorts(): Promise<[number, number]> {
  const servers = [net.createServer(), net.createServer()];
  for (const server of servers) await once(server.listen(0, "127.0.0.1"), "listening");
  const ports = servers.map((server) => (server.address() as net.AddressInfo).port);
  for (const server of servers) await once(server.close(), "close");
  return ports as [number, number];
}

async function start(t: TestContext, folder: string, port: number): Promise<void> {
  const errorLog = path.join(folder, "error.log");
  const args = ["-p", folder, "-c", "nginx.conf", "-e", errorLog];
  const nginx = spawn("nginx", args, { env: environment(), stdio: "ignore" });
  t.after(async () => {
    if (nginx.exitCode !== null || nginx.signalCode !== null) return;
    nginx.kill("SIGKILL");
    await once(nginx, "exit");
  });
  await once(nginx, "spawn");
  while (!(await answers(port))) {
    if (nginx.exitCode !== null) throw new Error(`nginx ended: ${readFileSync(errorLog, "utf8")}`);
  }
}

async function answers(port: number): Promise<boolean> {
  const socket = net.connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

function configuration(folder: string, port: number, securePort: number): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `
daemon off;
master_process off;
pid nginx.pid;
error_log error.log notice;
events { worker_connections 4096; }
http {
  ${temporary.map((name) => `${name}_temp_path ${name};`).join("\n  ")}
  log_format tests escape=json '{"connection":$connection,"index":$connection_requests,"method":"$request_method",'
    '"target":"$request_uri","version":"$server_protocol","status":$status,"secure":"$https","fields":{'
    '"host":"$http_host","connection":"$http_connection","upgrade":"$http_upgrade",'
    '"http2Settings":"$http_http2_settings","proxyConnection":"$http_proxy_connection","via":"$http_via"}}';
  access_log access.log tests;
  default_type text/plain;
  client_max_body_size 0;
  keepalive_requests 100000;
  add_header X-Connection $connection always;
  add_header X-Connection-Requests $connection_requests always;
  server {
    listen 127.0.0.1:${port};
    listen 127.0.0.1:${securePort} ssl;
    ssl_certificate certificate.pem;
    ssl_certificate_key key.pem;
    root ${folder}/www;
    location / { return 200 "$request_method $request_uri\\n"; }
    location /echo {
      # Only a location that passes the body on reads it.
      proxy_pass http://unix:${folder}/body.sock:;
      client_body_buffer_size 1m;
      add_header X-Connection $connection always;
      add_header X-Connection-Requests $connection_requests always;
      add_header X-Body $request_body always;
    }
    location /files/ { dav_methods PUT DELETE; }
  }
  server {
    listen unix:${folder}/body.sock;
    access_log off;
    location / { return 200 "taken\\n"; }
  }
}
`;
}

function parseLog(log: string): NginxRequest[] {
  const complete = log.slice(0, log.lastIndexOf("\n") + 1);
  return complete
    .split("\n")
    .slice(0, -1)
    .map((line) => {
      const request = JSON.parse(line) as Omit<NginxRequest, "secure"> & { secure: string };
      return { ...request, secure: request.secure === "on" };
    });
}
