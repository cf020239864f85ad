/**
 * The admin API's HTTP server: which route, who may, in what time. What the routes do is in `routes.ts`.
 *
 * @module
 */
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { formatHostPort } from "../config/address.ts";
import type { HostPort } from "../config/sidecar-config.ts";
import { HoldfastError } from "../errors.ts";
import { http } from "../node-http.ts";
import type { Logger } from "../plugin/api.ts";
import { readJson } from "./body.ts";
import { assertLocal, assertSameOrigin, assertToken } from "./guard.ts";
import { AdminError, type Answer, type Route, refusal } from "./route.ts";
import { adminRoutes } from "./routes.ts";
import type { SidecarView } from "./view.ts";

/** Request line and fields together; more gets 431. */
const MAX_HEAD_BYTES = 16 * 1024;
/** Connections at one time; more are closed at once. */
const MAX_CONNECTIONS = 256;
const KEEP_ALIVE_MS = 5000;
/** How long {@link Admin.close} waits for answers in progress. */
const CLOSE_GRACE_MS = 1000;

/** Time limits of one request, in milliseconds. */
export interface AdminTimeouts {
  /** For the head to arrive. Default 5 s; then 408. */
  readonly headMs: number;
  /** For the whole request to arrive. Default 10 s; then 408. */
  readonly requestMs: number;
  /** For the route to answer. Default 10 s; then 503. */
  readonly answerMs: number;
}

const DEFAULT_TIMEOUTS: AdminTimeouts = { headMs: 5000, requestMs: 10_000, answerMs: 10_000 };

/** What the admin API is started with. */
export interface AdminOptions {
  readonly view: SidecarView;
  /** Port 0 takes a free one. */
  readonly listen: HostPort;
  readonly log: Logger;
  /** What callers must know. `undefined`: they must call from this machine. */
  readonly token?: string | undefined;
  /**
   * `admin` (the default): every route. `probes`: what tells how the process is, and nothing else, for everybody.
   */
  readonly serves?: "admin" | "probes";
  readonly timeouts?: AdminTimeouts;
}

/** A running admin API. */
export interface Admin {
  /** Where it listens. */
  readonly address: HostPort;
  /** Stops listening, lets answers in progress finish for a moment, then cuts what is left. */
  close(): Promise<void>;
}

/**
 * Starts the admin API. It never keeps the process running by itself.
 *
 * @throws HoldfastError `HF_CONFIG` when it cannot listen
 */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const { view, listen, log, token, serves = "admin" } = options;
  const timeouts = options.timeouts ?? DEFAULT_TIMEOUTS;
  const isProbes = serves === "probes";
  const routes = adminRoutes(view, log).filter(({ audience }) => !isProbes || audience !== "operator");

  const server = http.createServer(
    {
      maxHeaderSize: MAX_HEAD_BYTES,
      headersTimeout: timeouts.headMs,
      requestTimeout: timeouts.requestMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: Math.min(1000, timeouts.headMs),
    },
    (request, response) => {
      answer(request)
        .catch((thrown: unknown) => refuse(request, thrown))
        .then((result) => send(response, result))
        .catch((error: unknown) => {
          log.error({ err: error }, "admin: an answer could not be sent");
          response.destroy();
        });
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.unref();
  server.on("connection", (socket) => socket.unref());

  async function answer(request: IncomingMessage): Promise<Answer> {
    const [path = "", search = ""] = splitOnce(request.url ?? "", "?");
    const here = routes.filter((route) => matches(route, path));
    if (!isProbes && !here.some(({ audience }) => audience === "anyone")) {
      if (token === undefined) assertLocal(request.socket.remoteAddress ?? "", request.headers.host, listen.host);
      else assertToken(request.headers.authorization, token);
      assertSameOrigin(request.method ?? "", request.headers);
    }
    if (here.length === 0) {
      throw new AdminError(404, `there is no ${path}`, { allowed: [...new Set(routes.map((route) => route.path))] });
    }
    const method = request.method === "HEAD" ? "GET" : request.method;
    const route = here.find((candidate) => candidate.method === method);
    if (route === undefined) {
      const allowed = here.flatMap((candidate) => (candidate.method === "GET" ? ["GET", "HEAD"] : [candidate.method]));
      throw new AdminError(405, `${path} does not take ${request.method}`, {
        allowed,
        headers: { Allow: allowed.join(", ") },
      });
    }
    const name = parameter(route, path);
    const body = route.method === "PUT" ? await readJson(request) : undefined;
    return within(
      route.answerMs ?? timeouts.answerMs,
      path,
      route.handle({ name, query: new URLSearchParams(search), body }),
    );
  }

  function refuse(request: IncomingMessage, thrown: unknown): Answer {
    if (thrown instanceof AdminError) return refusal(thrown);
    const [path = ""] = splitOnce(request.url ?? "", "?");
    log.error({ err: thrown, method: request.method, path }, "admin: a route failed");
    return refusal(new AdminError(500, "this route failed; the log says why"));
  }

  server.listen({ host: listen.host, port: listen.port });
  try {
    await once(server, "listening");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new HoldfastError(
      "HF_CONFIG",
      `admin.${isProbes ? "probes" : "listen"}: cannot listen on ${formatHostPort(listen)} (${code}); choose an address of this machine and a free port`,
      { cause: error },
    );
  }
  const bound = server.address() as AddressInfo;

  return {
    address: { host: bound.address, port: bound.port },
    async close() {
      if (!server.listening) return;
      const closed = once(server, "close");
      server.close();
      const cut = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
      await closed;
      clearTimeout(cut);
    },
  };
}

function send(response: ServerResponse, result: Answer): void {
  response.writeHead(result.status, {
    "Content-Type": result.contentType,
    "Content-Length": Buffer.byteLength(result.body),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    ...result.headers,
  });
  response.end(result.body);
}

/** Where the path's parameter begins, or -1. */
function parameterStart(route: Route): number {
  return route.path.indexOf("{");
}

function matches(route: Route, path: string): boolean {
  const start = parameterStart(route);
  if (start === -1) return path === route.path;
  return path.startsWith(route.path.slice(0, start)) && /^[^/]+$/.test(path.slice(start));
}

function parameter(route: Route, path: string): string {
  const start = parameterStart(route);
  if (start === -1) return "";
  try {
    return decodeURIComponent(path.slice(start));
  } catch {
    throw new AdminError(400, "the path is not percent-encoded UTF-8", { field: "name" });
  }
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at === -1 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

async function within(limitMs: number, path: string, result: Answer | Promise<Answer>): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new AdminError(503, `${path} did not answer within ${limitMs} ms`)), limitMs);
    timer.unref();
  });
  try {
    return await Promise.race([result, late]);
  } finally {
    clearTimeout(timer);
  }
}
