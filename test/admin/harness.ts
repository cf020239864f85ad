/** An in-memory sidecar behind a real admin API on a free port, and an HTTP client that can send any header. */
import { type IncomingHttpHeaders, request } from "node:http";
import type { TestContext } from "node:test";
import { type AdminOptions, startAdmin } from "../../src/admin/http.ts";
import type { MetricsText, OriginView, SidecarView } from "../../src/admin/view.ts";
import type { BackendConfig, HostPort } from "../../src/config/sidecar-config.ts";
import type { Callers } from "../../src/learning/callers.ts";
import type { Connection, Direction, Logger, Pool } from "../../src/plugin/api.ts";
import { Backends } from "../../src/proxy/backends.ts";

export interface LogLine {
  readonly level: keyof Logger;
  readonly fields: object;
  readonly message: string;
}

/** A sidecar whose every part a test can set. */
export class MemorySidecar implements SidecarView {
  readonly service = "orders";
  readonly version = "0.1.0";
  readonly startedAtEpochMs = Date.now();
  state: SidecarView["state"] = "running";
  open: Connection[] = [];
  openPools: Pool[] = [];
  plugins: SidecarView["plugins"] = [];
  values: SidecarView["values"] = [];
  logLevel: SidecarView["logLevel"] = "info";
  drains = 0;
  drained: () => Promise<unknown> = () => new Promise(() => {});
  metrics: () => Promise<MetricsText | undefined> = async () => undefined;
  readonly backends = new Backends(
    new Map([
      configured("inventory", "inventory.internal", { idleTimeoutMs: 55_000, tcpKeepAlive: { timeMs: 30_000 } }),
      configured("big & odd/name", "::1", { idleTimeoutMs: undefined, tcpKeepAlive: {} }),
    ]),
  );

  ready(): boolean {
    return this.state === "running";
  }

  connections(): Iterable<Connection> {
    return this.open;
  }

  pools(): Iterable<Pool> {
    return this.openPools;
  }

  openOrigins: OriginView[] = [];

  origins(): Iterable<OriginView> {
    return this.openOrigins;
  }

  calling: [Direction, Callers][] = [];

  callers(): Iterable<readonly [Direction, Callers]> {
    return this.calling;
  }

  drain(): Promise<unknown> {
    this.drains++;
    this.state = "draining";
    return this.drained();
  }

  lastReload: SidecarView["lastReload"];
  reloads: SidecarView["reload"] = async () => {
    return { result: "applied", trigger: "admin", atEpochMs: 0, changed: [], faults: [] };
  };

  reload(): ReturnType<SidecarView["reload"]> {
    return this.reloads();
  }

  prometheusText(): Promise<MetricsText | undefined> {
    return this.metrics();
  }
}

function configured(
  name: string,
  host: string,
  settings: Omit<BackendConfig["settings"], "name">,
): [string, BackendConfig] {
  const origin = { scheme: "http", host, port: 8081 } as const;
  return [name, { origin, backend: name, tls: undefined, settings: { name, ...settings } }];
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read whatever JSON came
  readonly json: any;
}

export interface Call {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Sent as JSON, with its content type. */
  readonly json?: unknown;
}

export interface Harness {
  readonly sidecar: MemorySidecar;
  readonly address: HostPort;
  readonly lines: LogLine[];
  readonly close: () => Promise<void>;
  call(method: string, path: string, options?: Call): Promise<Reply>;
}

/** Starts an admin API that ends with the test. */
export async function startHarness(t: TestContext, options: Partial<AdminOptions> = {}): Promise<Harness> {
  const sidecar = new MemorySidecar();
  const lines: LogLine[] = [];
  const logger = (level: keyof Logger) => (fields: object, message: string) =>
    void lines.push({ level, fields, message });
  const log = { debug: logger("debug"), info: logger("info"), warn: logger("warn"), error: logger("error") };
  const admin = await startAdmin({ view: sidecar, listen: { host: "127.0.0.1", port: 0 }, log, ...options });
  t.after(() => admin.close());
  const { address } = admin;
  return {
    sidecar,
    address,
    lines,
    close: () => admin.close(),
    call: (method, path, call) => send(address, method, path, call),
  };
}

/** One request on a connection of its own. */
export function send(to: HostPort, method: string, path: string, call: Call = {}): Promise<Reply> {
  const body = call.json === undefined ? call.body : JSON.stringify(call.json);
  const type = call.json === undefined ? {} : { "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    const headers = {
      ...type,
      ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
      ...call.headers,
    };
    const outgoing = request({ ...to, method, path, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        const isJson = response.headers["content-type"] === "application/json" && text !== "";
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: isJson ? JSON.parse(text) : undefined,
        });
      });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}
