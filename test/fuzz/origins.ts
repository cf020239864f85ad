/** What stands behind Holdfast while it is fuzzed. Each tells which requests it was made to see. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { environment } from "../interop/programs.ts";
import { MARK, type Sighting, StrictReader } from "./strict-reader.ts";

/** Field that names the mark of the request that a response answers. */
export const SAW = "X-Saw";

/** What an origin saw since it was asked last. */
export interface Seen {
  readonly sightings: Sighting[];
  /** Beginnings of requests that it refused before it could tell which exchange they belong to. */
  refused: number;
  readonly faults: string[];
}

/** An origin. */
export interface FuzzOrigin {
  readonly name: OriginName;
  readonly url: string;
  /** What came since the last call. */
  take(): Seen;
  /** For one that stands in front of another: what it took for requests itself. A mark each, empty if it could not tell. */
  takeLogged?(): string[];
  close(): Promise<void>;
}

/** The origins, by name. */
export const ORIGINS = { strict: strictOrigin, node: nodeOrigin, nginx: nginxOrigin, haproxy: haproxyOrigin };
export type OriginName = keyof typeof ORIGINS;

/** Programs that an origin needs. */
export function programOf(name: OriginName): string | undefined {
  return name === "nginx" || name === "haproxy" ? name : undefined;
}

function nothing(): Seen {
  return { sightings: [], refused: 0, faults: [] };
}

async function listening(server: net.Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** {@link StrictReader} on raw sockets. */
async function strictOrigin(): Promise<FuzzOrigin> {
  let seen = nothing();
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ noDelay: true }, (socket) => {
    const reader = new StrictReader();
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes: Buffer) => {
      const whole = reader.feed(bytes.toString("latin1"));
      let answers = "";
      for (const request of whole) {
        seen.sightings.push(request);
        const body = request.method === "HEAD" ? "" : bodyOf(request);
        answers += `HTTP/1.1 200 OK\r\n${SAW}: ${request.mark}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      }
      if (reader.expectsContinue && answers === "") answers = "HTTP/1.1 100 Continue\r\n\r\n";
      reader.expectsContinue = false;
      if (answers !== "") socket.write(answers, "latin1");
      if (reader.fault !== undefined) socket.destroy();
    });
    socket.on("close", () => {
      sockets.delete(socket);
      const cut = reader.end();
      if (cut !== undefined) seen.sightings.push(cut);
      if (reader.fault !== undefined) seen.faults.push(reader.fault);
    });
  });
  return {
    name: "strict",
    url: await listening(server),
    take() {
      const taken = seen;
      seen = nothing();
      return taken;
    },
    async close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function bodyOf({ method, target, bodyBytes }: Pick<Sighting, "method" | "target" | "bodyBytes">): string {
  return `${method} ${target} ${bodyBytes}\n`;
}

/** node:http. */
async function nodeOrigin(): Promise<FuzzOrigin> {
  let seen = nothing();
  const server = http.createServer({ keepAliveTimeout: 0, maxHeaderSize: 1 << 20 }, (request, response) => {
    const { method = "", url: target = "" } = request;
    const [mark = "", ...more] = (request.headersDistinct[MARK.toLowerCase()] ?? []) as string[];
    if (more.length > 0) seen.faults.push(`${MARK} came ${more.length + 1} times`);
    let bodyBytes = 0;
    request.on("data", (bytes: Buffer) => {
      bodyBytes += bytes.length;
    });
    request.on("error", () => {});
    // After its end or without one.
    request.on("close", () => seen.sightings.push({ mark, method, target, bodyBytes, complete: request.complete }));
    request.on("end", () => {
      response.setHeader(SAW, mark);
      const body = bodyOf({ method, target, bodyBytes });
      response.setHeader("Content-Length", body.length);
      response.end(body);
    });
  });
  server.maxHeadersCount = 0;
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    // A connection that was cut is nothing that was refused.
    if (error.code?.startsWith("HPE_") && error.code !== "HPE_INVALID_EOF_STATE") seen.refused++;
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  });
  return {
    name: "node",
    url: await listening(server),
    take() {
      const taken = seen;
      seen = nothing();
      return taken;
    },
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** nginx in front of node:http. */
async function nginxOrigin(): Promise<FuzzOrigin> {
  const behind = await nodeOrigin();
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-fuzz-"));
  const port = await freePort();
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  writeFileSync(
    path.join(folder, "nginx.conf"),
    `daemon off;
master_process off;
pid nginx.pid;
error_log error.log crit;
events { worker_connections 4096; }
http {
  ${temporary.map((name) => `${name}_temp_path ${name};`).join("\n  ")}
  log_format fuzz '$http_${MARK.toLowerCase().replace("-", "_")}';
  access_log access.log fuzz;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  large_client_header_buffers 8 128k;
  upstream behind { server ${new URL(behind.url).host}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
    }
  }
}
`,
  );
  writeFileSync(path.join(folder, "access.log"), "");
  const args = ["-p", folder, "-c", "nginx.conf", "-e", path.join(folder, "error.log")];
  const child = spawn("nginx", args, { env: environment(), stdio: "ignore" });
  await accepting(child, port, "nginx");
  const log = openSync(path.join(folder, "access.log"), "r");
  const lines = new Lines();
  return {
    ...behind,
    name: "nginx",
    url: `http://127.0.0.1:${port}`,
    takeLogged() {
      const bytes = Buffer.alloc(65_536);
      for (let read = readSync(log, bytes); read > 0; read = readSync(log, bytes))
        lines.add(bytes.toString("latin1", 0, read));
      return lines.take();
    },
    async close() {
      await end(child);
      closeSync(log);
      rmSync(folder, { recursive: true, force: true });
      await behind.close();
    },
  };
}

/** HAProxy in front of node:http. */
async function haproxyOrigin(): Promise<FuzzOrigin> {
  const behind = await nodeOrigin();
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-fuzz-"));
  const port = await freePort();
  const file = path.join(folder, "haproxy.cfg");
  writeFileSync(
    file,
    `global
  maxconn 4096
  nbthread 1
  log stdout format raw local0 info
defaults
  mode http
  log global
  option dontlognull
  option http-ignore-probes
  http-reuse always
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  timeout http-keep-alive 600s
frontend fuzz
  bind 127.0.0.1:${port} backlog 4096
  http-request capture req.hdr(${MARK}) len 24
  log-format "%[capture.req.hdr(0)] %ts"
  default_backend behind
backend behind
  server node ${new URL(behind.url).host}
`,
  );
  const child = spawn("haproxy", ["-db", "-f", file], { env: environment(), stdio: ["ignore", "pipe", "ignore"] });
  const lines = new Lines();
  child.stdout!.on("data", (bytes: Buffer) => lines.add(bytes.toString("latin1")));
  await accepting(child, port, "haproxy");
  return {
    ...behind,
    name: "haproxy",
    url: `http://127.0.0.1:${port}`,
    // CR: the connection was cut before the request was whole.
    takeLogged: () => lines.take().flatMap((line) => (line === "- CR" ? [] : [line.replace(/^-?(.*) ..$/, "$1")])),
    async close() {
      await end(child);
      rmSync(folder, { recursive: true, force: true });
      await behind.close();
    },
  };
}

/** Lines of a log; `-` stands for nothing. */
class Lines {
  #rest = "";

  add(text: string): void {
    this.#rest += text;
  }

  take(): string[] {
    const lines = this.#rest.split("\n");
    this.#rest = lines.pop()!;
    return lines.map((line) => (line === "-" ? "" : line));
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  const port = Number(new URL(await listening(server)).port);
  server.close();
  await once(server, "close");
  return port;
}

async function accepting(child: ChildProcess, port: number, name: string): Promise<void> {
  // However we end.
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("exit", () => process.removeListener("exit", kill));
  await once(child, "spawn");
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode} before it took connections`);
    const socket = net.connect(port, "127.0.0.1");
    try {
      await once(socket, "connect");
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 10));
    } finally {
      socket.destroy();
    }
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}
